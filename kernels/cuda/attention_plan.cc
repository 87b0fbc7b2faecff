#include "kernels/cuda/attention_plan.h"

#include <algorithm>
#include <array>

namespace tessera::cuda {
namespace {

constexpr int kHeadDims[] = {32, 64, 80, 96, 128, 160, 192, 256};

static_assert(kKeyBlock == kAttentionKeyBlock && kPageBlock == kKvBlockTokens);

constexpr int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Collects items by kind and cuts decode items into launches that the scratch memory holds.
class Planner {
 public:
  explicit Planner(const PlanLimits& limits) : limits_(limits) {}

  // `run` has everything but vectors and blocks set. tile_blocks(last vector of a tile) tells how
  // many key blocks it needs and sets item.keys.
  template <typename Blocks>
  void Add(AttentionItem run, int32_t vectors, Blocks&& blocks_of) {
    if (vectors <= kWide) {
      AttentionItem item = run;
      item.vectors = vectors;
      const int32_t blocks = blocks_of(item);
      const int32_t splits = std::max(1, CeilDiv(blocks, kSplitBlocks));
      if (splits == 1 || int64_t{splits} * vectors <= limits_.max_partial_vectors) {
        AddSplits(decode_[vectors > kNarrow], item, blocks, splits);
        return;
      }
    }
    for (int32_t tile = CeilDiv(vectors, limits_.prefill_vectors); tile-- > 0;) {
      AttentionItem item = run;
      item.vector_begin = tile * limits_.prefill_vectors;
      item.vectors = std::min(limits_.prefill_vectors, vectors - item.vector_begin);
      item.block_end = blocks_of(item);
      prefill_.push_back(item);
    }
  }

  AttentionPlan Finish() {
    AttentionPlan plan;
    if (!prefill_.empty())
      plan.launches.push_back({.item_count = static_cast<int32_t>(prefill_.size())});
    plan.items = std::move(prefill_);
    for (int wide = 0; wide < 2; ++wide) {
      const Kind& kind = decode_[static_cast<size_t>(wide)];
      for (AttentionLaunch launch : kind.launches) {
        launch.tile_vectors = kDecodeTileVectors[wide];
        launch.item_begin += static_cast<int32_t>(plan.items.size());
        plan.launches.push_back(launch);
      }
      plan.items.insert(plan.items.end(), kind.items.begin(), kind.items.end());
    }
    return plan;
  }

 private:
  static constexpr int32_t kNarrow = kDecodeTileVectors[0], kWide = kDecodeTileVectors[1];
  struct Kind {
    std::vector<AttentionItem> items;
    std::vector<AttentionLaunch> launches;
  };

  void AddSplits(Kind& kind, AttentionItem item, int32_t blocks, int32_t splits) {
    const int32_t partial = splits > 1 ? splits * item.vectors : 0;
    if (kind.launches.empty() ||
        kind.launches.back().partial_vectors + partial > limits_.max_partial_vectors)
      kind.launches.push_back({.item_begin = static_cast<int32_t>(kind.items.size())});
    AttentionLaunch& launch = kind.launches.back();
    item.splits = splits;
    item.partial_begin = launch.partial_vectors;
    item.counter = launch.counters;
    for (item.split = 0; item.split < splits; ++item.split) {
      item.block_begin = item.split * kSplitBlocks;
      item.block_end = std::min(blocks, item.block_begin + kSplitBlocks);
      kind.items.push_back(item);
    }
    launch.item_count += splits;
    launch.partial_vectors += partial;
    launch.counters += splits > 1 ? 1 : 0;
  }

  const PlanLimits limits_;
  std::vector<AttentionItem> prefill_;
  std::array<Kind, 2> decode_;
};

}  // namespace

int InstanceHeadDim(int head_dim) {
  return *std::lower_bound(std::begin(kHeadDims), std::end(kHeadDims), head_dim);
}
int PrefillTileVectors(int head_dim) {
  const int instance = InstanceHeadDim(head_dim);
  return instance <= 128 ? 128 : instance <= 192 ? 64 : 32;
}

AttentionPlan PlanSelfAttention(std::span<const SequenceRows> sequences, const PlanLimits& limits) {
  Planner planner(limits);
  for (const SequenceRows& rows : sequences) {
    if (rows.row_count == 0) continue;
    planner.Add({.row_begin = rows.row_begin,
                 .first_position = rows.first_position,
                 .table_begin = rows.page_begin},
                rows.row_count * limits.group, [&](AttentionItem& item) {
                  const int32_t last = (item.vector_begin + item.vectors - 1) / limits.group;
                  item.keys = rows.first_position + last + 1;
                  return CeilDiv(item.keys, kKeyBlock);
                });
  }
  return planner.Finish();
}

AttentionPlan PlanCrossAttention(std::span<const CrossRow> rows, int tile_blocks,
                                 const PlanLimits& limits) {
  Planner planner(limits);
  const auto count = static_cast<int32_t>(rows.size());
  for (int32_t begin = 0, end; begin < count; begin = end) {
    const CrossRow& row = rows[static_cast<size_t>(begin)];
    const auto same = [&](const CrossRow& other) {
      return other.tiles_begin == row.tiles_begin && other.tiles_end == row.tiles_end;
    };
    for (end = begin + 1; end < count && same(rows[static_cast<size_t>(end)]);) ++end;
    planner.Add({.row_begin = begin, .table_begin = row.tiles_begin}, (end - begin) * limits.group,
                [&](AttentionItem&) { return (row.tiles_end - row.tiles_begin) * tile_blocks; });
  }
  return planner.Finish();
}

AttentionPlan PlanDenseAttention(int64_t rows, int64_t keys, const PlanLimits& limits) {
  AttentionPlan plan;
  const int64_t vectors = rows * limits.group;
  for (int64_t begin = 0; begin < vectors; begin += limits.prefill_vectors) {
    plan.items.push_back({.vector_begin = static_cast<int32_t>(begin),
                          .vectors = static_cast<int32_t>(
                              std::min<int64_t>(limits.prefill_vectors, vectors - begin)),
                          .keys = static_cast<int32_t>(keys),
                          .block_end = CeilDiv(static_cast<int32_t>(keys), kKeyBlock)});
  }
  if (!plan.items.empty())
    plan.launches.push_back({.item_count = static_cast<int32_t>(plan.items.size())});
  return plan;
}

}  // namespace tessera::cuda
