// What the bodies of the attention kernels share: tile shapes, the layout of shared memory, how
// splits are joined, where vectors lie in memory.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device.cuh"

namespace tessera::cuda {

enum class Keys { kSelf, kCross, kDense };

inline constexpr float kNegativeInfinity = -__builtin_huge_valf();

// kFold: the tile walks through several splits. kBlocks: resident blocks per SM asked for.
template <typename Element, int kDimension, int kTiles, int kRows, int kColumns, bool kFolds,
          Keys kSource, int kResident>
struct TileShape {
  using T = Element;
  static constexpr int kDim = kDimension;
  static constexpr int kMTiles = kTiles;  // of 16 query vectors, a warp
  static constexpr int kRowWarps = kRows;
  static constexpr int kColWarps = kColumns;
  static constexpr bool kFold = kFolds;
  static constexpr Keys kKeys = kSource;
  static constexpr int kBlocks = kResident;

  static constexpr int kThreads = kRowWarps * kColWarps * 32;
  static constexpr int kGroupVectors = kMTiles * 16;  // of a row of warps
  static constexpr int kVectors = kRowWarps * kGroupVectors;
  static constexpr int kChunks = kDim / 8;                                 // of 16 bytes, a row
  static constexpr int kKeyTiles = kKeyBlock / kColWarps / 8;              // of 8 keys, a warp
  static constexpr int kOutTiles = (kChunks + kColWarps - 1) / kColWarps;  // of 8 columns, a warp
  static_assert(kKeyTiles % 2 == 0 && kDim % 16 == 0);

  static constexpr uint32_t kHalfStage = kKeyBlock * kDim * 2;    // K or V
  static constexpr uint32_t kStages = kVectors * kDim * 2;        // where they begin
  static constexpr uint32_t kWeights = kStages + 4 * kHalfStage;  // P
  static constexpr uint32_t kMaxima = kWeights + kVectors * kKeyBlock * 2;
  static constexpr uint32_t kSharedBytes = kMaxima + kColWarps * kVectors * 4;
};

// Byte offset of 16-byte piece `chunk` of `row` in a matrix of kChunks pieces a row. Rows r and r +
// 1 are kChunks pieces apart, modulo the 8 that 32 banks hold; where that repeats after fewer than
// 8 rows, the next bits of the row flip the low bits of the column. Any 8 consecutive rows of a
// column, and any 8 consecutive pieces of memory, then touch all banks once.
template <int kChunks>
TESSERA_DEVICE uint32_t Swizzled(int row, int chunk) {
  constexpr int kGroup = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : 2;
  static_assert(kChunks % 2 == 0);
  return static_cast<uint32_t>(row * kChunks + (chunk ^ (row / (8 / kGroup) % kGroup))) * 16;
}

// exp2 of a difference of maxima, in units of the scores; what was empty weighs nothing.
TESSERA_DEVICE float Weight(float from, float to, float scale_log2) {
  return from == kNegativeInfinity ? 0.0f : fast_exp2(fmul_rn(fadd_rn(from, -to), scale_log2));
}

// A split before its first key.
template <typename Max, typename Sum, typename Out>
TESSERA_DEVICE void Clear(Max& max, Sum& sum, Out& out) {
#pragma unroll
  for (auto& tile : max)
#pragma unroll
    for (float& x : tile) x = kNegativeInfinity;
#pragma unroll
  for (auto& tile : sum)
#pragma unroll
    for (float& x : tile) x = 0.0f;
#pragma unroll
  for (auto& row : out)
#pragma unroll
    for (auto& tile : row)
#pragma unroll
      for (float& x : tile) x = 0.0f;
}

// How a split joins those before it. The only place that says so: prefill does it in registers,
// decode's last block from memory.
struct SplitWeights {
  float maximum;
  float before;
  float split;
};
TESSERA_DEVICE SplitWeights Joined(float max_before, float max_split, float scale_log2) {
  const float maximum = max_before > max_split ? max_before : max_split;
  return {maximum, Weight(max_before, maximum, scale_log2), Weight(max_split, maximum, scale_log2)};
}
TESSERA_DEVICE float Join(const SplitWeights& w, float before, float split) {
  return fma_rn(before, w.before, fmul_rn(split, w.split));
}
// A row that saw nothing has the sum 0 and gets zeros.
TESSERA_DEVICE float Reciprocal(float sum) { return sum > 0.0f ? fdiv_rn(1.0f, sum) : 0.0f; }

// 16 bytes on their way to shared memory, of which the first `elements` exist; the rest are zeros.
template <typename T>
TESSERA_DEVICE void CopyPiece(uint32_t to, const T* from, int elements, bool vectors) {
  if (vectors) {
    cp_async16(to, from, elements > 0);
    return;
  }
  for (int i = 0; i < 8; ++i) sts<T>(to + i * 2, i < elements ? ldg(from + i) : T{0});
}

TESSERA_DEVICE AttentionItem LoadItem(const AttentionParams& p) {
  struct Raw {
    uint4 part[3];
  } raw;
  const auto* from = reinterpret_cast<const uint4*>(p.items + block_x());
#pragma unroll
  for (int i = 0; i < 3; ++i) raw.part[i] = ldg(from + i);
  return __builtin_bit_cast(AttentionItem, raw);
}

// Element of row 0 of the tile's vector `row`, in a tensor of rows of heads.
TESSERA_DEVICE int64_t VectorOffset(const AttentionParams& p, const AttentionItem& item,
                                    int kv_head, int row, int64_t stride) {
  const int vector = item.vector_begin + row;
  return (item.row_begin + vector / p.group) * stride +
         int64_t{kv_head * p.group + vector % p.group} * p.head_dim;
}
// Where a split's partial result of a vector lies.
TESSERA_DEVICE int64_t PartialVector(const AttentionParams& p, const AttentionItem& item,
                                     int kv_head, int split, int row) {
  return int64_t{kv_head} * p.partial_vectors + item.partial_begin + split * item.vectors + row;
}

}  // namespace tessera::cuda
