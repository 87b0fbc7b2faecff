// DenseAttention: a thread packs K and V of one head into the cache's block layout on its scratch,
// then works through that head's query tiles: real rows first, then padding rows, so that the
// queries of all tiles but one see the same keys (a tile of both kinds takes several times as
// long).
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/backend.h"

namespace tessera {
namespace {

// Bits of the padding keys among key .. key + 63; keys from `count` on are not there.
uint64_t PaddingBits(std::span<const uint8_t> padding, int64_t key, int64_t count) {
  uint64_t bits = 0;
  if (padding.empty()) return bits;
  for (int64_t j = 0; j < std::min<int64_t>(kAttentionKeyBlock, count - key); ++j)
    bits |= uint64_t{padding[static_cast<size_t>(key + j)] != 0} << j;
  return bits;
}

// [keys, D] with a row stride to K blocks [D][16] and V blocks [16][D], as operands of the op; the
// last block's absent keys are zero.
void PackHead(const DenseAttentionArgs& args, const cpu::Kernels& kernels, bool round,
              int64_t column, int64_t keys, float* k, float* v) {
  const int64_t dim = args.head_dim, whole = keys / 16 * 16, padded = (keys + 15) / 16 * 16;
  const auto* from_k = static_cast<const float*>(args.k.data) + column;
  const auto* from_v = static_cast<const float*>(args.v.data) + column;
  for (int64_t key = 0; key < whole; key += 16)
    kernels.transpose(from_k + key * args.k.stride[0], args.k.stride[0], dim, k + key * dim);
  std::fill(k + whole * dim, k + padded * dim, 0.0f);
  for (int64_t key = whole; key < keys; ++key)
    for (int64_t d = 0; d < dim; ++d)
      k[whole * dim + d * 16 + key % 16] = from_k[key * args.k.stride[0] + d];
  for (int64_t key = 0; key < keys; ++key)
    std::copy_n(from_v + key * args.v.stride[0], dim, v + key * dim);
  std::fill(v + keys * dim, v + padded * dim, 0.0f);
  if (!round) return;
  const auto operand = [](float x) { return BF16ToFloat(FloatToBF16(x)); };
  std::transform(k, k + padded * dim, k, operand);
  std::transform(v, v + padded * dim, v, operand);
}

// Rows of the op, real ones first.
void RealRowsFirst(std::span<const uint8_t> padding, int64_t row_begin, int64_t rows,
                   int32_t* order) {
  int64_t count = 0;
  for (int pass = 0; pass < 2; ++pass)
    for (int64_t row = 0; row < rows; ++row) {
      const bool pads = !padding.empty() && padding[static_cast<size_t>(row_begin + row)] != 0;
      if (pads == (pass == 1)) order[count++] = static_cast<int32_t>(row);
    }
}

}  // namespace

void CpuBackend::DenseAttention(const DenseAttentionArgs& args) {
  ShapeCheck check("DenseAttention");
  check.View("q", args.q, "RQ", DType::kF32);
  check.View("out", args.out, "RQ", DType::kF32);
  check.View("k", args.k, "SK", DType::kF32);
  check.View("v", args.v, "SK", DType::kF32);
  const int64_t dim = args.head_dim, rows = check['R'], keys = check['S'];
  check.True(dim > 0 && dim <= cpu::TileAttention::kMaxHeadDim, "head_dim", "1..256", dim);
  const int64_t heads = check['Q'] / dim, kv_heads = check['K'] / dim;
  check.True(
      check['Q'] % dim == 0 && check['K'] % dim == 0 && kv_heads > 0 && heads % kv_heads == 0, "q",
      "H * D columns with H a multiple of G", check['Q']);
  check.True(args.padding.empty() || std::ssize(args.padding) == keys, "padding",
             "S values or none", std::ssize(args.padding));
  check.True(args.row_begin >= 0 && args.row_begin + rows <= keys, "row_begin",
             "rows inside the sequence", args.row_begin);
  if (rows == 0) return;
  const int64_t group = heads / kv_heads;

  // Cut a head's rows into parts only where there are fewer heads than the threads need; each part
  // packs K and V again.
  const int64_t parts =
      std::clamp<int64_t>((6 * threads() + kv_heads - 1) / kv_heads, 1, (rows + 127) / 128);
  const int64_t vectors = rows * group;
  const int64_t part_vectors = ((vectors + parts - 1) / parts + 7) / 8 * 8;
  const auto* q = static_cast<const float*>(args.q.data);
  auto* out = static_cast<float*>(args.out.data);

  pool_.Run(kv_heads * parts, [&](int64_t item, int worker) {
    const int64_t kv_head = item / parts;
    const auto head_elements = static_cast<int64_t>(cpu::DenseHeadElements(keys, dim));
    auto* scratch =
        ThreadScratch<char>("DenseAttention", worker,
                            cpu::TileAttention::ScratchBytes() + cpu::DenseScratchBytes(keys, dim));
    auto* k = reinterpret_cast<float*>(scratch + cpu::TileAttention::ScratchBytes());
    float* v = k + head_elements;
    auto* padding_bits = reinterpret_cast<uint64_t*>(v + head_elements);
    for (int64_t key = 0; key < keys; key += kAttentionKeyBlock)
      padding_bits[key / kAttentionKeyBlock] = PaddingBits(args.padding, key, keys);
    auto* order = reinterpret_cast<int32_t*>(padding_bits + cpu::DenseKeyBlocks(keys));
    PackHead(args, kernels_, operand_dtype_ == DType::kBF16, kv_head * dim, keys, k, v);
    RealRowsFirst(args.padding, args.row_begin, rows, order);

    cpu::TileAttention tile(kernels_, DType::kF32, static_cast<int>(dim), args.scale, scratch);
    const int64_t end = std::min(vectors, (item % parts + 1) * part_vectors);
    for (int64_t vector = item % parts * part_vectors; vector < end;
         vector += kernels_.attend_queries) {
      const int queries =
          static_cast<int>(std::min<int64_t>(kernels_.attend_queries, end - vector));
      const auto row_of = [&](int i) { return int64_t{order[(vector + i) / group]}; };
      const auto column_of = [&](int i) { return (kv_head * group + (vector + i) % group) * dim; };
      const auto pads = [&](int i) {
        return !args.padding.empty() &&
               args.padding[static_cast<size_t>(args.row_begin + row_of(i))] != 0;
      };
      tile.Begin(queries, [&](int i) { return q + row_of(i) * args.q.stride[0] + column_of(i); });
      for (int64_t key = 0; key < keys; key += kAttentionKeyBlock) {
        const uint64_t padding = padding_bits[key / kAttentionKeyBlock];
        const uint64_t present = cpu::FirstKeys(keys - key);
        const auto blocks =
            static_cast<int>((std::min<int64_t>(keys - key, kAttentionKeyBlock) + 15) / 16);
        tile.Block(
            blocks, [&](int b) { return k + (key + b * 16) * dim; },
            [&](int b) { return v + (key + b * 16) * dim; },
            [&](int i) { return pads(i) ? present & ~padding : present; });
      }
      tile.End([&](int i) { return out + row_of(i) * args.out.stride[0] + column_of(i); });
    }
  });
}

}  // namespace tessera
