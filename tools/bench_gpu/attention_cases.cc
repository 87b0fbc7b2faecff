#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <utility>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_plan.h"
#include "tools/bench_gpu/cases.h"

namespace tessera::bench {
namespace {

using cuda::AttentionParams;
using cuda::AttentionType;
using Launch = cuda::LaunchStatus (*)(int, const AttentionParams&, cuda::Stream);

constexpr int64_t kElement = 2;  // bf16

AttentionParams Heads(int heads, int kv_heads, int head_dim, int64_t rows, Memory& memory) {
  const int64_t stride = int64_t{heads} * head_dim;
  return {.q = memory.Numbers(rows * stride * kElement),
          .out = memory.Zeros(rows * stride * kElement),
          .q_stride = stride,
          .out_stride = stride,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .group = heads / kv_heads,
          .scale_log2 = static_cast<float>(M_LOG2E / std::sqrt(head_dim)),
          .vectors = true};
}

void Pages(AttentionParams& p, int64_t blocks, Memory& memory) {
  p.k_stride = int64_t{p.kv_heads} * cuda::kPageBlock * p.head_dim;
  p.k = memory.Numbers(blocks * p.k_stride * kElement);
  p.v = memory.Numbers(blocks * p.k_stride * kElement);
}

cuda::PlanLimits Limits(const AttentionParams& p) {
  return {.group = p.group,
          .prefill_vectors = cuda::PrefillTileVectors(p.head_dim),
          .max_partial_vectors = 1024 * p.group};
}

Work Planned(const cuda::AttentionPlan& plan, AttentionParams p, Memory& memory, Launch launch) {
  const cuda::AttentionItem* items = memory.Upload(plan.items);
  std::vector<std::pair<int, AttentionParams>> launches;
  for (const cuda::AttentionLaunch& part : plan.launches) {
    const int64_t vectors = int64_t{part.partial_vectors} * p.kv_heads;
    p.partial = memory.Zeros<float>(vectors * cuda::InstanceHeadDim(p.head_dim) * 4);
    p.partial_sum = memory.Zeros<float>(vectors * 8);
    p.counters = memory.Zeros<uint32_t>(int64_t{part.counters} * p.kv_heads * 4);
    p.items = items + part.item_begin;
    p.item_count = part.item_count;
    p.partial_vectors = part.partial_vectors;
    launches.emplace_back(part.tile_vectors, p);
  }
  const auto clear = [launches](cuda::Stream stream, const std::vector<int32_t>& counters) {
    for (size_t i = 0; i < launches.size(); ++i) {
      const AttentionParams& params = launches[i].second;
      const auto bytes = static_cast<size_t>(counters[i] * params.kv_heads) * sizeof(uint32_t);
      if (bytes == 0) continue;
      if (cuda::LaunchStatus status = cuda::FillAsync(params.counters, 0, bytes, stream);
          !status.ok())
        return status;
    }
    return cuda::LaunchStatus{};
  };
  std::vector<int32_t> counters;
  for (const cuda::AttentionLaunch& part : plan.launches) counters.push_back(part.counters);
  return {.before = [clear, counters](cuda::Stream stream) { return clear(stream, counters); },
          .run =
              [launches, launch](cuda::Stream stream) {
                for (const auto& [tile_vectors, params] : launches)
                  if (cuda::LaunchStatus status = launch(tile_vectors, params, stream);
                      !status.ok())
                    return status;
                return cuda::LaunchStatus{};
              }};
}

cuda::LaunchStatus Self(int tile_vectors, const AttentionParams& p, cuda::Stream stream) {
  return tile_vectors == 0 ? cuda::LaunchSelfPrefill(AttentionType::kBf16, p, stream)
                           : cuda::LaunchSelfDecode(AttentionType::kBf16, tile_vectors, p, stream);
}
cuda::LaunchStatus Cross(int tile_vectors, const AttentionParams& p, cuda::Stream stream) {
  return tile_vectors == 0 ? cuda::LaunchCrossPrefill(AttentionType::kBf16, p, stream)
                           : cuda::LaunchCrossDecode(AttentionType::kBf16, tile_vectors, p, stream);
}
cuda::LaunchStatus Dense(int, const AttentionParams& p, cuda::Stream stream) {
  return cuda::LaunchVision(AttentionType::kBf16, p, stream);
}

// `rows` new rows of each of `sequences` sequences after `cached` others.
Work SelfWork(const Shapes& s, int sequences, int cached, int rows, Memory& memory) {
  const int64_t all_rows = int64_t{sequences} * rows;
  const int keys = cached + rows, pages = (keys + cuda::kPageBlock - 1) / cuda::kPageBlock;
  AttentionParams p = Heads(s.heads, s.kv_heads, s.head_dim, all_rows, memory);
  Pages(p, int64_t{sequences} * pages, memory);
  std::vector<SequenceRows> batch;
  std::vector<int32_t> table;
  for (int i = 0; i < sequences; ++i) {
    batch.push_back({.row_begin = i * rows,
                     .row_count = rows,
                     .first_position = cached,
                     .page_begin = i * pages});
    // No two neighbours in order, as in a pool that is in use.
    for (int page = 0; page < pages; ++page) table.push_back(i * pages + (pages - 1 - page));
  }
  p.table = memory.Upload(table);
  Work work = Planned(cuda::PlanSelfAttention(batch, Limits(p)), p, memory, &Self);
  // Q and O once, K and V once a sequence (what prefill reads again comes out of L2).
  work.bytes = static_cast<double>(kElement * s.head_dim) *
               (2.0 * static_cast<double>(all_rows) * s.heads +
                2.0 * sequences * static_cast<double>(keys) * s.kv_heads);
  work.flops = 4.0 * s.head_dim * s.heads * sequences *
               (static_cast<double>(rows) * cached + 0.5 * rows * (rows + 1.0));
  return work;
}

// Rows that all see one picture of all tiles.
Work CrossWork(const Shapes& s, int rows, Memory& memory) {
  AttentionParams p = Heads(s.heads, s.kv_heads, s.head_dim, rows, memory);
  p.blocks_per_page = (s.tile_keys + cuda::kPageBlock - 1) / cuda::kPageBlock;
  Pages(p, int64_t{s.tiles} * p.blocks_per_page, memory);
  p.tile_keys = s.tile_keys;
  p.tile_blocks = (s.tile_keys + cuda::kKeyBlock - 1) / cuda::kKeyBlock;
  std::vector<int32_t> table;
  table.reserve(static_cast<size_t>(s.tiles));
  for (int tile = 0; tile < s.tiles; ++tile) table.push_back(s.tiles - 1 - tile);
  p.table = memory.Upload(table);
  const std::vector<CrossRow> ranges(static_cast<size_t>(rows), CrossRow{0, s.tiles});
  Work work =
      Planned(cuda::PlanCrossAttention(ranges, p.tile_blocks, Limits(p)), p, memory, &Cross);
  const double keys = static_cast<double>(s.tiles) * s.tile_keys;
  work.bytes = 2.0 * kElement * s.head_dim * (rows * s.heads + keys * s.kv_heads);
  work.flops = 4.0 * s.head_dim * s.heads * rows * keys;
  return work;
}

Work VisionWork(const Shapes& s, Memory& memory) {
  const int dim = s.vision_hidden / s.vision_heads, rows = s.tiles * s.tile_rows;
  AttentionParams p = Heads(s.vision_heads, s.vision_heads, dim, rows, memory);
  p.k_stride = p.v_stride = s.vision_hidden;
  p.k = memory.Numbers(int64_t{rows} * s.vision_hidden * kElement);
  p.v = memory.Numbers(int64_t{rows} * s.vision_hidden * kElement);
  Work work = Planned(cuda::PlanDenseAttention(rows, rows, Limits(p)), p, memory, &Dense);
  work.bytes = 4.0 * kElement * rows * s.vision_hidden;
  work.flops = 4.0 * rows * static_cast<double>(rows) * s.vision_hidden;
  return work;
}

}  // namespace

void AddAttentionCases(const Shapes& shapes, std::vector<Case>& cases) {
  for (const int rows : shapes.prefill_rows) {
    cases.push_back({fmt::format("self prefill, {} rows", rows), "SelfPrefillKernel",
                     [=](Memory& memory) { return SelfWork(shapes, 1, 0, rows, memory); }});
    cases.push_back(
        {fmt::format("self prefill, {} rows after {}", rows, shapes.context), "SelfPrefillKernel",
         [=](Memory& memory) { return SelfWork(shapes, 1, shapes.context, rows, memory); }});
    cases.push_back({fmt::format("cross prefill, {} rows", rows), "CrossPrefillKernel",
                     [=](Memory& memory) { return CrossWork(shapes, rows, memory); }});
  }
  for (const int batch : shapes.batches) {
    cases.push_back(
        {fmt::format("self decode, {} x {} keys", batch, shapes.context), "SelfDecodeKernel",
         [=](Memory& memory) { return SelfWork(shapes, batch, shapes.context - 1, 1, memory); }});
    if (batch <= 8)  // beyond, rows that share a picture are prefilled
      cases.push_back({fmt::format("cross decode, {} on one picture", batch), "CrossDecodeKernel",
                       [=](Memory& memory) { return CrossWork(shapes, batch, memory); }});
  }
  cases.push_back({fmt::format("vision attention, {} rows", shapes.tiles * shapes.tile_rows),
                   "VisionKernel", [=](Memory& memory) { return VisionWork(shapes, memory); }});
}

}  // namespace tessera::bench
