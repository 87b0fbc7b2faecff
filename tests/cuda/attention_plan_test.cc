// Plans: every vector of every row in one item a split, nothing twice, scratch places disjoint.
#include "kernels/cuda/attention_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <tuple>

namespace tessera::cuda {
namespace {

constexpr PlanLimits kLimits{.group = 4, .prefill_vectors = 128, .max_partial_vectors = 4096};

// Vectors (row, head) -> key blocks that some item covers for them.
std::map<int, std::set<int>> Covered(const AttentionPlan& plan, int group) {
  std::map<int, std::set<int>> covered;
  size_t items = 0;
  for (const AttentionLaunch& launch : plan.launches) {
    std::set<int> places;
    items += static_cast<size_t>(launch.item_count);
    for (int i = launch.item_begin; i < launch.item_begin + launch.item_count; ++i) {
      const AttentionItem& item = plan.items[static_cast<size_t>(i)];
      EXPECT_GT(item.vectors, 0);
      EXPECT_LE(item.vectors,
                launch.tile_vectors == 0 ? kLimits.prefill_vectors : launch.tile_vectors);
      EXPECT_EQ(item.block_begin % kSplitBlocks, 0);
      if (item.splits > 1) {
        EXPECT_LT(item.counter, launch.counters);
        EXPECT_LE(item.block_end - item.block_begin, kSplitBlocks);
        for (int v = 0; v < item.vectors; ++v) {
          const int place = item.partial_begin + item.split * item.vectors + v;
          EXPECT_LT(place, launch.partial_vectors);
          EXPECT_TRUE(places.insert(place).second) << "two splits share place " << place;
        }
      }
      for (int v = 0; v < item.vectors; ++v)
        for (int block = item.block_begin; block < item.block_end; ++block)
          EXPECT_TRUE(covered[item.row_begin * group + item.vector_begin + v].insert(block).second);
    }
  }
  EXPECT_EQ(items, plan.items.size());
  return covered;
}

TEST(AttentionPlan, SelfCoversEveryKeyOnce) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<SequenceRows> sequences;
    int row = 0;
    for (unsigned s = 0; s < 1 + random() % 6; ++s) {
      const int count = static_cast<int>(random() % 3 == 0 ? random() % 300 : random() % 9);
      sequences.push_back({.row_begin = row,
                           .row_count = count,
                           .first_position = static_cast<int>(random() % 6000)});
      row += count;
    }
    PlanLimits limits = kLimits;
    if (round % 4 == 0) limits.max_partial_vectors = static_cast<int>(random() % 60);
    const auto covered = Covered(PlanSelfAttention(sequences, limits), limits.group);
    for (const SequenceRows& s : sequences)
      for (int r = 0; r < s.row_count; ++r)
        for (int head = 0; head < limits.group; ++head) {
          const auto& blocks = covered.at((s.row_begin + r) * limits.group + head);
          const int needed = (s.first_position + r) / kKeyBlock + 1;
          ASSERT_GE(static_cast<int>(blocks.size()), needed);
          ASSERT_EQ(*blocks.rbegin(), static_cast<int>(blocks.size()) - 1);
        }
  }
}

TEST(AttentionPlan, LaunchesKeepTheirScratchWithinTheLimit) {
  std::vector<SequenceRows> sequences;
  for (int s = 0; s < 10; ++s)
    sequences.push_back({.row_begin = s, .row_count = 1, .first_position = kSplitKeys * (s + 1)});
  PlanLimits limits = kLimits;
  limits.max_partial_vectors = 40;  // of 4 heads x up to 11 splits a sequence
  const AttentionPlan plan = PlanSelfAttention(sequences, limits);
  EXPECT_GT(plan.launches.size(), 3u);
  for (const AttentionLaunch& launch : plan.launches) EXPECT_LE(launch.partial_vectors, 40);
  EXPECT_EQ(plan.launches.front().tile_vectors, 0) << "11 splits x 4 heads do not fit: prefilled";
  EXPECT_EQ(plan.launches.front().item_count, 1) << "10 splits x 4 heads do fit";
}

// Sequences of 5 splits x 4 heads, two of which fill the scratch memory to its end.
TEST(AttentionPlan, ScratchIsUsedToItsEnd) {
  std::vector<SequenceRows> sequences;
  for (int s = 0; s < 4; ++s)
    sequences.push_back({.row_begin = s, .row_count = 1, .first_position = 4 * kSplitKeys});
  PlanLimits limits = kLimits;
  limits.max_partial_vectors = 40;
  const AttentionPlan plan = PlanSelfAttention(sequences, limits);
  ASSERT_EQ(plan.launches.size(), 2u);
  for (const AttentionLaunch& launch : plan.launches) EXPECT_EQ(launch.partial_vectors, 40);
}

TEST(AttentionPlan, TilesAreAsHighAsTheirVectorsNeed) {
  const auto height = [](int rows) {
    const std::vector<SequenceRows> sequences = {{.row_count = rows}};
    return PlanSelfAttention(sequences, kLimits).launches.front().tile_vectors;
  };
  EXPECT_EQ(height(4), 16);  // 4 heads
  EXPECT_EQ(height(5), 32);
  EXPECT_EQ(height(8), 32);
  EXPECT_EQ(height(9), 0);
  for (const auto& [head_dim, vectors] :
       {std::pair{1, 128}, {128, 128}, {129, 64}, {192, 64}, {193, 32}, {256, 32}})
    EXPECT_EQ(PrefillTileVectors(head_dim), vectors) << head_dim;
}

TEST(AttentionPlan, RowsOfOneRangeAreOneRun) {
  const std::vector<CrossRow> rows = {{0, 2}, {0, 2}, {0, 2}, {2, 2}, {2, 4}, {0, 2}};
  const AttentionPlan plan = PlanCrossAttention(rows, 26, kLimits);
  std::map<int, int> vectors;  // of the run that begins at a row
  for (const AttentionItem& item : plan.items) {
    vectors[item.row_begin] = item.vectors;
    EXPECT_EQ(item.splits, item.row_begin == 3 ? 1 : 4);  // 52 key blocks
  }
  EXPECT_EQ(vectors, (std::map<int, int>{{0, 12}, {3, 4}, {4, 4}, {5, 4}}));
  Covered(plan, kLimits.group);
}

TEST(AttentionPlan, LongTilesComeFirst) {
  const std::vector<SequenceRows> sequences = {{.row_count = 100}};
  const AttentionPlan plan = PlanSelfAttention(sequences, kLimits);
  ASSERT_EQ(plan.items.size(), 4u);
  EXPECT_EQ(plan.items.front().vector_begin, 384);
  EXPECT_EQ(plan.items.front().vectors, 16);
  EXPECT_EQ(plan.items.front().keys, 100);
  EXPECT_EQ(plan.items.back().keys, 32);
}

TEST(AttentionPlan, NoRowsNoLaunch) {
  EXPECT_TRUE(PlanSelfAttention({}, kLimits).launches.empty());
  EXPECT_TRUE(PlanCrossAttention({}, 1, kLimits).launches.empty());
  EXPECT_TRUE(PlanDenseAttention(0, 10, kLimits).launches.empty());
}

}  // namespace
}  // namespace tessera::cuda
