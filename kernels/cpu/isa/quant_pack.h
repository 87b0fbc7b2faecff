// Packing one group of 16 outputs (QuantPack): scales by kernels/quantize_lanes.h, codes as the
// kernels read them. `I`, `V`: vectors of 16 lanes as in quant_tile.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/simd.h"
#include "kernels/cpu/quant.h"
#include "kernels/quantize_lanes.h"

namespace tessera::cpu {

// bf16 numbers of 16 lanes to memory.
template <typename V>
TESSERA_INLINE void StoreBF16(V x, uint8_t* to) {
  float lanes[kLanes];
  x.Store(lanes);
  auto* bits = reinterpret_cast<uint16_t*>(to);
  for (int i = 0; i < kLanes; ++i) bits[i] = FloatToBF16(lanes[i]);
}

template <typename I, int kBits>
TESSERA_INLINE void StoreCodes(const QuantPack& pack, const QuantSteps<typename I::Float>& steps) {
  using V = typename I::Float;
  const V inverse = InverseOrZero(steps.scale);
  const auto code = [&](int64_t k) __attribute__((always_inline)) {
    return I::FromFloat(CodeOf(V::Load(pack.w + k * kLanes), inverse, steps.minimum, pack.format));
  };
  uint8_t* to = pack.codes;
  for (int64_t k = 0; k < pack.k; k += kBits == 8 ? 4 : 8, to += 64) {
    const I low = I::Bytes(code(k), code(k + 1), code(k + 2), code(k + 3));
    if constexpr (kBits == 8) {
      low.Store(to);
    } else {
      I::Halves(low, I::Bytes(code(k + 4), code(k + 5), code(k + 6), code(k + 7))).Store(to);
    }
  }
}

template <typename I>
void QuantPackOf(const QuantPack& pack) {
  using V = typename I::Float;
  QuantSteps<V> steps{V::Zero(), V::Zero()};
  if (pack.format.group == 0) {
    steps.scale = V::Load(pack.scales);
  } else {
    steps = StepsOf<V>(pack.format, {pack.w, pack.k, pack.importance});
    StoreBF16(steps.scale, pack.meta);
    if (pack.format.minimum) StoreBF16(steps.minimum, pack.meta + 32);
  }
  pack.format.bits == 8 ? StoreCodes<I, 8>(pack, steps) : StoreCodes<I, 4>(pack, steps);
}

}  // namespace tessera::cpu
