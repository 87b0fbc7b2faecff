// SelfAttention: causal, over pages. An item is a tile of query vectors (row, head) of one K/V
// head, so all heads of the head's group and, in prefill, several rows share what is loaded.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/backend.h"

namespace tessera {

void CpuBackend::SelfAttention(const SelfAttentionArgs& args) {
  ShapeCheck check("SelfAttention");
  check.View("q", args.q, "RQ", DType::kF32);
  check.View("out", args.out, "RQ", DType::kF32);
  if (check['R'] == 0) return;
  check.Kv(args.kv);
  const KvGeometry& geometry = args.kv.geometry;
  const int head_dim = geometry.head_dim, kv_heads = geometry.kv_heads;
  const int heads = static_cast<int>(check['Q'] / head_dim);
  check.True(head_dim <= cpu::TileAttention::kMaxHeadDim, "head_dim", "at most 256", head_dim);
  check.True(check['Q'] % head_dim == 0 && heads % kv_heads == 0, "q",
             "H * D columns with H a multiple of G", check['Q']);
  check.True(geometry.page_tokens % kKvBlockTokens == 0, "page_tokens", "a multiple of 16",
             geometry.page_tokens);
  const int group = heads / kv_heads;

  items_.clear();
  for (size_t s = 0; s < args.sequences.size(); ++s) {
    const SequenceRows& rows = args.sequences[s];
    check.True(rows.row_begin >= 0 && rows.row_count >= 0 && rows.first_position >= 0 &&
                   rows.row_begin + int64_t{rows.row_count} <= check['R'],
               "sequences", "rows inside q", rows.row_begin + int64_t{rows.row_count});
    const int64_t keys = int64_t{rows.first_position} + rows.row_count;
    const int64_t pages = (keys + geometry.page_tokens - 1) / geometry.page_tokens;
    check.True(rows.page_begin >= 0 && rows.page_begin + pages <= std::ssize(args.pages),
               "sequences", "pages inside the block table", rows.page_begin + pages);
    for (int32_t vector = 0; vector < rows.row_count * group; vector += kernels_.attend_queries)
      items_.push_back({.source = static_cast<int32_t>(s),
                        .row_begin = rows.row_begin,
                        .row_count = rows.row_count,
                        .vector_begin = vector});
  }

  const auto* q = static_cast<const float*>(args.q.data);
  auto* out = static_cast<float*>(args.out.data);
  const int64_t blocks_per_page = geometry.blocks_per_page();
  const auto count = static_cast<int64_t>(items_.size());
  // Last tiles first: they see the most keys, and the short ones then even out the threads.
  pool_.Run(count * kv_heads, [&](int64_t index, int worker) {
    const cpu::AttentionItem& item = items_[static_cast<size_t>(count - 1 - index / kv_heads)];
    const SequenceRows& rows = args.sequences[static_cast<size_t>(item.source)];
    const int kv_head = static_cast<int>(index % kv_heads);
    const cpu::KvHead kv(args.kv, kv_head);
    const int queries =
        std::min(kernels_.attend_queries, item.row_count * group - item.vector_begin);
    const auto row_of = [&](int i) { return (item.vector_begin + i) / group; };
    const auto column_of = [&](int i) {
      return int64_t{kv_head * group + (item.vector_begin + i) % group} * head_dim;
    };
    cpu::TileAttention tile(
        kernels_, geometry.dtype, head_dim, args.scale,
        ThreadScratch<char>("SelfAttention", worker, cpu::TileAttention::ScratchBytes()));
    tile.Begin(queries, [&](int i) {
      return q + (item.row_begin + row_of(i)) * args.q.stride[0] + column_of(i);
    });

    const int64_t keys =
        int64_t{rows.first_position} + row_of(queries - 1) + 1;  // of the tile's last row
    const int32_t* pages = args.pages.data() + rows.page_begin;
    for (int64_t key = 0; key < keys; key += kAttentionKeyBlock) {
      const int64_t first_block = key / kKvBlockTokens;
      const auto blocks = static_cast<int>(
          (std::min<int64_t>(keys - key, kAttentionKeyBlock) + 15) / kKvBlockTokens);
      const auto page_of = [&](int b) { return pages[(first_block + b) / blocks_per_page]; };
      const auto block_of = [&](int b) { return (first_block + b) % blocks_per_page; };
      tile.Block(
          blocks, [&](int b) { return kv.K(page_of(b), block_of(b)); },
          [&](int b) { return kv.V(page_of(b), block_of(b)); },
          [&](int i) { return cpu::FirstKeys(rows.first_position + row_of(i) + 1 - key); });
    }
    tile.End([&](int i) {
      return out + (item.row_begin + row_of(i)) * args.out.stride[0] + column_of(i);
    });
  });
}

}  // namespace tessera
