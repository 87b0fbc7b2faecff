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
};

TESSERA_DEVICE float BitsToFloat(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// What a group's codes are scaled and shifted by.
struct GroupScale {
  float scale, shift;
};

// The row of words that holds the group of `column`. `log_group`: log2 of the columns that share a
// scale.
template <IntKind kKind>
TESSERA_DEVICE int32_t WordRow(int32_t column, int32_t log_group) {
  return column >> log_group >> (IntTraits<kKind>::kMinimum ? 0 : 1);
}

// Of group `group`, out of the word that holds it.
template <IntKind kKind>
TESSERA_DEVICE GroupScale ScaleOf(uint32_t word, int32_t group) {
  if constexpr (IntTraits<kKind>::kMinimum) {
    const float scale = BitsToFloat(word << 16), minimum = BitsToFloat(word & 0xffff0000u);
    return {scale, fma_rn(-128.0f, scale, minimum)};
  } else {
    const float scale = BitsToFloat(group % 2 == 0 ? word << 16 : word & 0xffff0000u);
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

// What holds the scales of the two halves of a step, of one output.
struct ScaleWords {
  uint32_t half[2] = {};
};

// Those of `step`; `load` gives the output's word of a row of words.
template <IntKind kKind, typename Load>
TESSERA_DEVICE ScaleWords ScaleWordsOf(int32_t step, int32_t log_group, const Load& load) {
  ScaleWords words;
  words.half[0] = load(WordRow<kKind>(step * kIntStep, log_group));
  // Without minima a row of words lasts for a whole step.
  words.half[1] = IntTraits<kKind>::kMinimum
                      ? load(WordRow<kKind>(step * kIntStep + kIntStep / 2, log_group))
                      : words.half[0];
  return words;
}

// b of slices 0 to 3 of a unit: its codes, and what holds its scales.
template <typename T, IntKind kKind>
TESSERA_DEVICE void DecodeUnit(const typename IntWords<kKind>::Type& words,
                               const ScaleWords& scales, int32_t step, int32_t log_group,
                               uint32_t (&b)[4][2]) {
  GroupScale group{1.0f, 0.0f};
#pragma unroll
  for (uint32_t slice = 0; slice < 4; ++slice) {
    if constexpr (IntTraits<kKind>::kGroups)
      if (slice % 2 == 0)
        group = ScaleOf<kKind>(scales.half[slice / 2],
                               (step * kIntStep + static_cast<int32_t>(slice * 16)) >> log_group);
    float w[4];
    DecodeFour<kKind>(SliceWord<kKind>(words, slice), group, w);
    b[slice][0] = pack2<T>(w[0], w[1]);
    b[slice][1] = pack2<T>(w[2], w[3]);
  }
}

}  // namespace tessera::cuda
