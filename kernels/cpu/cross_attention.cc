// CrossAttention: every key of every tile of a row's pictures. Neighbouring rows with the same
// tiles form a group that reads each page once a tile of query vectors.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/backend.h"

namespace tessera {

void CpuBackend::CrossAttention(const CrossAttentionArgs& args) {
  ShapeCheck check("CrossAttention");
  check.View("q", args.q, "RQ", DType::kF32);
  check.View("out", args.out, "RQ", DType::kF32);
  check.Extent("rows", 'R', std::ssize(args.rows));
  if (check['R'] == 0) return;
  check.Kv(args.kv);
  const KvGeometry& geometry = args.kv.geometry;
  const int head_dim = geometry.head_dim, kv_heads = geometry.kv_heads;
  const int heads = static_cast<int>(check['Q'] / head_dim);
  check.True(head_dim <= cpu::TileAttention::kMaxHeadDim, "head_dim", "at most 256", head_dim);
  check.True(check['Q'] % head_dim == 0 && heads % kv_heads == 0, "q",
             "H * D columns with H a multiple of G", check['Q']);
  const int group = heads / kv_heads;

  items_.clear();
  const auto row_count = static_cast<int32_t>(args.rows.size());
  for (int32_t begin = 0, end; begin < row_count; begin = end) {
    const CrossRow& row = args.rows[static_cast<size_t>(begin)];
    check.True(row.tiles_begin >= 0 && row.tiles_begin <= row.tiles_end &&
                   row.tiles_end <= std::ssize(args.tile_pages),
               "rows", "tiles inside tile_pages", row.tiles_end);
    const auto same = [&](const CrossRow& other) {
      return other.tiles_begin == row.tiles_begin && other.tiles_end == row.tiles_end;
    };
    for (end = begin + 1; end < row_count && same(args.rows[static_cast<size_t>(end)]);) ++end;
    for (int32_t vector = 0; vector < (end - begin) * group; vector += kernels_.attend_queries)
      items_.push_back(
          {.source = begin, .row_begin = begin, .row_count = end - begin, .vector_begin = vector});
  }

  const auto* q = static_cast<const float*>(args.q.data);
  auto* out = static_cast<float*>(args.out.data);
  pool_.Run(std::ssize(items_) * kv_heads, [&](int64_t index, int worker) {
    const cpu::AttentionItem& item = items_[static_cast<size_t>(index / kv_heads)];
    const CrossRow& row = args.rows[static_cast<size_t>(item.source)];
    const int kv_head = static_cast<int>(index % kv_heads);
    const cpu::KvHead kv(args.kv, kv_head);
    const int queries =
        std::min(kernels_.attend_queries, item.row_count * group - item.vector_begin);
    const auto row_of = [&](int i) { return item.row_begin + (item.vector_begin + i) / group; };
    const auto column_of = [&](int i) {
      return int64_t{kv_head * group + (item.vector_begin + i) % group} * head_dim;
    };
    cpu::TileAttention tile(
        kernels_, geometry.dtype, head_dim, args.scale,
        ThreadScratch<char>("CrossAttention", worker, cpu::TileAttention::ScratchBytes()));
    tile.Begin(queries, [&](int i) { return q + row_of(i) * args.q.stride[0] + column_of(i); });
    for (int32_t t = row.tiles_begin; t < row.tiles_end; ++t) {
      const int32_t page = args.tile_pages[static_cast<size_t>(t)];
      for (int64_t key = 0; key < geometry.page_tokens; key += kAttentionKeyBlock) {
        const int64_t left = geometry.page_tokens - key;
        const auto blocks =
            static_cast<int>((std::min<int64_t>(left, kAttentionKeyBlock) + 15) / kKvBlockTokens);
        tile.Block(
            blocks, [&](int b) { return kv.K(page, key / kKvBlockTokens + b); },
            [&](int b) { return kv.V(page, key / kKvBlockTokens + b); },
            [&](int) { return cpu::FirstKeys(left); });
      }
    }
    tile.End([&](int i) { return out + row_of(i) * args.out.stride[0] + column_of(i); });
  });
}

}  // namespace tessera
