// Choosing scales and codes of one group of 16 outputs (QuantPack). A lane is an output and k goes
// upward, so every tier finds the same codes. No FMAs: the plain tier has none.
//
// `I`, `V`: vectors of 16 lanes as in quant_tile.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/simd.h"
#include "kernels/cpu/quant.h"

namespace tessera::cpu {

// bf16 bits of 16 lanes to memory and back to what the kernels will read.
template <typename V>
TESSERA_INLINE V StoreBF16(V x, uint8_t* to) {
  float lanes[kLanes];
  x.Store(lanes);
  auto* bits = reinterpret_cast<uint16_t*>(to);
  for (int i = 0; i < kLanes; ++i) bits[i] = FloatToBF16(lanes[i]);
  return V::LoadBF16(bits);
}

// 1 / x, 0 where x is not above zero in magnitude.
template <typename V>
TESSERA_INLINE V InverseOrZero(V x) {
  return V::SelectPositive(V::Abs(x), V::Set1(1.0f) / x, V::Zero());
}

template <typename V>
TESSERA_INLINE V Clamp(V x, float least, float most) {
  return V::Min(V::Set1(most), V::Max(V::Set1(least), x));
}

// To the nearest whole number, ties to even, of anything below 2^22; larger numbers stay large.
template <typename V>
TESSERA_INLINE V Rounded(V x) {
  const V big = V::Set1(12582912.0f);  // 1.5 * 2^23: no bits are left below one
  return (x + big) - big;
}

// codes[k] = clamp(round((w - minimum) * inverse) + offset)
template <typename I, int kBits>
TESSERA_INLINE void StoreCodes(const QuantPack& pack, typename I::Float inverse,
                               typename I::Float minimum, float offset, float least) {
  using V = typename I::Float;
  constexpr float kMost = kBits == 8 ? 255.0f : 15.0f;
  const auto code = [&](int64_t k) __attribute__((always_inline)) {
    const V steps = (V::Load(pack.w + k * kLanes) - minimum) * inverse;
    return I::FromFloat(Clamp(Rounded(steps) + V::Set1(offset), least, kMost));
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

// The largest magnitude of each lane.
template <typename V>
TESSERA_INLINE V Magnitude(const QuantPack& pack) {
  V most = V::Zero();
  for (int64_t k = 0; k < pack.k; ++k) most = V::Max(most, V::Abs(V::Load(pack.w + k * kLanes)));
  return V::SelectPositive(most - V::Set1(kQuantLeast), most, V::Zero());
}

template <typename I>
void PackInt8(const QuantPack& pack) {
  using V = typename I::Float;
  V scale;
  if (pack.per_channel) {
    scale = V::Load(pack.scales);
  } else {
    // Rounded up a little, so that bf16 does not make it too small for the largest.
    scale = StoreBF16(Magnitude<V>(pack) * V::Set1((1.0f + 0x1p-8f) / 127.0f), pack.meta);
  }
  StoreCodes<I, 8>(pack, InverseOrZero(scale), V::Zero(), 128.0f, 1.0f);
}

inline constexpr int kQuantTries = 12;

// w ~ s * q, q in -8..7. The largest weight w0 is tried at q = -t for several t about 8; for the
// codes that each try gives, s = sum w q / sum q^2 has the least squared error, by (sum w q)^2 /
// sum q^2 below that of no weights at all. Numbers are relative to the largest, so squares of huge
// ones are finite.
template <typename I>
void PackInt4(const QuantPack& pack) {
  using V = typename I::Float;
  const V magnitude = Magnitude<V>(pack), inverse = InverseOrZero(magnitude);
  V extreme = V::Zero();
  for (int64_t k = 0; k < pack.k; ++k) {
    const V w = V::Load(pack.w + k * kLanes);
    extreme = V::SelectPositive(V::Abs(w) - V::Abs(extreme), w, extreme);
  }
  const V sign = V::SelectPositive(extreme, V::Set1(-1.0f), V::Set1(1.0f));
  V best_gain = V::Zero(), best = sign * V::Set1(0.125f);
  for (int attempt = 0; attempt < kQuantTries; ++attempt) {
    const V steps = sign * V::Set1(6.6f + 0.2f * static_cast<float>(attempt));
    const V to_steps = inverse * steps;
    V wq = V::Zero(), qq = V::Zero();
    for (int64_t k = 0; k < pack.k; ++k) {
      const V w = V::Load(pack.w + k * kLanes);
      const V q = Clamp(Rounded(w * to_steps), -8.0f, 7.0f);
      const V weighed = pack.importance == nullptr ? q : q * V::Set1(pack.importance[k]);
      wq = wq + (w * inverse) * weighed;
      qq = qq + q * weighed;
    }
    const V least = wq * InverseOrZero(qq), gain = wq * least;
    best = V::SelectPositive(gain - best_gain, least, best);
    best_gain = V::Max(gain, best_gain);
  }
  const V scale = StoreBF16(best * magnitude, pack.meta);
  StoreCodes<I, 4>(pack, InverseOrZero(scale), V::Zero(), 8.0f, 0.0f);
}

// w ~ s * n + m, n in 0..15. Tried are steps of 1 / t of the range for several t about 15, about
// its middle; for each try's codes s and m come from the normal equations of least squares.
template <typename I>
void PackInt4Minimum(const QuantPack& pack) {
  using V = typename I::Float;
  const V magnitude = Magnitude<V>(pack), inverse = InverseOrZero(magnitude), one = V::Set1(1.0f);
  V low = V::Load(pack.w) * inverse, high = low;
  for (int64_t k = 1; k < pack.k; ++k) {
    const V w = V::Load(pack.w + k * kLanes) * inverse;
    low = V::Min(low, w);
    high = V::Max(high, w);
  }
  const V range = high - low;
  const V per_range = InverseOrZero(range);
  V best_gain = V::Set1(-1.0f), best_scale = range * V::Set1(1.0f / 15.0f),
    best_minimum = V::Zero();
  for (int attempt = 0; attempt < kQuantTries; ++attempt) {
    const float steps = 13.4f + 0.4f * static_cast<float>(attempt);
    // The middle of the range is step 7.5, whatever a step is.
    const V to_steps = per_range * V::Set1(steps), shift = V::Set1(7.5f - 0.5f * steps);
    V i1 = V::Zero(), n1 = V::Zero(), nn = V::Zero(), u1 = V::Zero(), un = V::Zero();
    for (int64_t k = 0; k < pack.k; ++k) {
      const V u = V::Load(pack.w + k * kLanes) * inverse - low;
      const V n = Clamp(Rounded(u * to_steps + shift), 0.0f, 15.0f);
      const V i = pack.importance == nullptr ? one : V::Set1(pack.importance[k]);
      const V in = i * n;
      i1 = i1 + i;
      n1 = n1 + in;
      nn = nn + in * n;
      u1 = u1 + i * u;
      un = un + in * u;
    }
    const V scale = (i1 * un - n1 * u1) * InverseOrZero(i1 * nn - n1 * n1);
    const V minimum = (u1 - scale * n1) * InverseOrZero(i1);
    const V gain = scale * un + minimum * u1;
    const V better = gain - best_gain;
    best_scale = V::SelectPositive(better, scale, best_scale);
    best_minimum = V::SelectPositive(better, minimum, best_minimum);
    best_gain = V::Max(gain, best_gain);
  }
  const V minimum = StoreBF16((low + best_minimum) * magnitude, pack.meta + 32);
  const V scale = StoreBF16(best_scale * magnitude, pack.meta);
  StoreCodes<I, 4>(pack, InverseOrZero(scale), minimum, 0.0f, 0.0f);
}

template <typename I>
void QuantPackOf(const QuantPack& pack) {
  if (pack.bits == 8) return PackInt8<I>(pack);
  pack.minimum ? PackInt4Minimum<I>(pack) : PackInt4<I>(pack);
}

}  // namespace tessera::cpu
