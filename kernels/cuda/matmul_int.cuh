// Codes of int8 and int4 to fragments of mma (layout and arithmetic: matmul_int.h).
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/matmul_int.h"

namespace tessera::cuda {

enum class IntKind : uint8_t { kInt8, kInt8Groups, kInt4, kInt4Minimum };

template <IntKind kKind>
struct IntTraits {
  static constexpr uint32_t kBits =
      kKind == IntKind::kInt8 || kKind == IntKind::kInt8Groups ? 8 : 4;
  static constexpr bool kGroups = kKind != IntKind::kInt8;
  static constexpr bool kMinimum = kKind == IntKind::kInt4Minimum;
  static constexpr uint32_t kUnitBytes = kBits * 64;
  static constexpr int32_t kWordGroups = kMinimum ? 4 : 8;
};

TESSERA_DEVICE float BitsToFloat(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// What a group's codes are scaled and shifted by.
struct GroupScale {
  float scale, shift;
};

// Of group `group` of this lane's output, out of the row of words that holds it: `word` is the
// lane's own. The whole warp calls.
template <IntKind kKind>
TESSERA_DEVICE GroupScale ScaleOf(uint32_t word, int32_t group) {
  const uint32_t first = lane_id() / 4 * 4;
  const auto in_row = static_cast<uint32_t>(group % IntTraits<kKind>::kWordGroups);
  if constexpr (IntTraits<kKind>::kMinimum) {
    const uint32_t both = shfl_idx(word, first + in_row);
    const float scale = BitsToFloat(both << 16), minimum = BitsToFloat(both & 0xffff0000u);
    return {scale, fma_rn(-128.0f, scale, minimum)};
  } else {
    const uint32_t two = shfl_idx(word, first + in_row / 2);
    const float scale = BitsToFloat(in_row % 2 == 0 ? two << 16 : two & 0xffff0000u);
    return {scale, IntTraits<kKind>::kBits == 4 ? -136.0f * scale : 0.0f};
  }
}

// The four weights of a slice as numbers. int8: `word` is the slice's. int4: it is that of two
// slices, shifted by 8 for the second.
template <IntKind kKind>
TESSERA_DEVICE void DecodeFour(uint32_t word, const GroupScale& group, float (&w)[4]) {
  if constexpr (IntTraits<kKind>::kBits == 8) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // 2^23 + code has the code in its last bits
      const float code = BitsToFloat((word >> 8 * i & 0xffu) | 0x4b000000u) - 8388736.0f;
      w[i] = IntTraits<kKind>::kGroups ? fmul_rn(code, group.scale) : code;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // 128 + code as bf16 has it in its last bits; two of them
      const uint32_t two = (word >> 4 * i & 0x000f000fu) | 0x43004300u;
      w[2 * i] = fma_rn(BitsToFloat(two << 16), group.scale, group.shift);
      w[2 * i + 1] = fma_rn(BitsToFloat(two & 0xffff0000u), group.scale, group.shift);
    }
  }
}

// The word of slice `slice` out of a lane's part of a unit.
template <IntKind kKind, typename Words>
TESSERA_DEVICE uint32_t SliceWord(const Words& words, uint32_t slice) {
  if constexpr (IntTraits<kKind>::kBits == 8) {
    return slice == 0 ? words.x : slice == 1 ? words.y : slice == 2 ? words.z : words.w;
  } else {
    return (slice < 2 ? words.x : words.y) >> slice % 2 * 8;
  }
}

template <IntKind kKind>
struct IntWords {
  using Type = uint4;
};
template <>
struct IntWords<IntKind::kInt4> {
  using Type = uint2;
};
template <>
struct IntWords<IntKind::kInt4Minimum> {
  using Type = uint2;
};

// b of slices 0 to 3 of a unit: its codes, and the words of its groups' row. `log_group`: log2 of
// the columns that share a scale. The whole warp calls.
template <typename T, IntKind kKind>
TESSERA_DEVICE void DecodeUnit(const typename IntWords<kKind>::Type& words, uint32_t scale_word,
                               int32_t step, int32_t log_group, uint32_t (&b)[4][2]) {
  GroupScale group{1.0f, 0.0f};
#pragma unroll
  for (uint32_t slice = 0; slice < 4; ++slice) {
    if constexpr (IntTraits<kKind>::kGroups)
      if (slice % 2 == 0)
        group =
            ScaleOf<kKind>(scale_word, (step * 64 + static_cast<int32_t>(slice * 16)) >> log_group);
    float w[4];
    DecodeFour<kKind>(SliceWord<kKind>(words, slice), group, w);
    b[slice][0] = pack2<T>(w[0], w[1]);
    b[slice][1] = pack2<T>(w[2], w[3]);
  }
}

}  // namespace tessera::cuda
