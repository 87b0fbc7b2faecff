#include "server/engine/batch.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/fake_runner.h"

namespace tessera {
namespace {

using testing::FakeDigest;

std::vector<MediaState> Marks(const std::vector<int32_t>& marks) {
  std::vector<MediaState> media;
  for (size_t i = 0; i < marks.size(); ++i) {
    media.push_back({.digest = FakeDigest(i),
                     .plan = {.kept_tiles = 4},
                     .used_tiles = static_cast<int32_t>(1 + i % 4),
                     .mark = marks[i]});
  }
  return media;
}

// For every picture the rows [from, to) that see it, from the last picture backwards: the published
// rule of the reference processor (a mark next to the following one takes over its end).
std::vector<std::pair<int, int>> SpansOfPictures(const std::vector<int32_t>& marks, int length) {
  std::vector<std::pair<int, int>> spans(marks.size());
  for (size_t k = marks.size(); k-- > 0;) {
    const int next = k + 1 < marks.size() ? marks[k + 1] : length;
    const bool adjacent = k + 1 < marks.size() && marks[k] + 1 == marks[k + 1];
    spans[k] = {marks[k], adjacent ? spans[k + 1].second : next};
  }
  return spans;
}

TEST(VisibleMedia, EqualsTheSpansOfThePictures) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 2000; ++round) {
    const int length = static_cast<int>(1 + random() % 40);
    std::vector<int32_t> marks;
    for (int p = 0; p < length; ++p) {
      if (random() % 4 == 0) marks.push_back(p);
    }
    const std::vector<MediaState> media = Marks(marks);
    const auto spans = SpansOfPictures(marks, length);
    for (int p = 0; p < length; ++p) {
      const MediaInterval seen = VisibleMedia(media, p);
      for (int k = 0; k < static_cast<int>(marks.size()); ++k) {
        ASSERT_EQ(k >= seen.begin && k < seen.end, p >= spans[k].first && p < spans[k].second)
            << "row " << p << " picture " << k;
      }
    }
    // Generated tokens repeat the prompt's last row.
    const MediaInterval last = VisibleMedia(media, length - 1),
                        later = VisibleMedia(media, length + 100);
    ASSERT_TRUE(last.begin == later.begin && last.end == later.end);
  }
}

// Two pictures (1 and 2 used tiles of 4 kept) at 2 and 4, rows 0..5.
BuiltBatch Build(UnseenRows unseen, BlockManager& blocks, int first, int count, bool sample) {
  auto spec = testing::FakeRequest(1, 20);
  RequestState state;
  state.prompt_length = 20;
  state.media = Marks({2, 4});
  const int kept = unseen == UnseenRows::kAttend ? 4 : 0;
  for (MediaState& media : state.media) {
    media.plan.kept_tiles = kept > 0 ? kept : media.used_tiles;
    if (blocks.cross.Find(media.digest) == nullptr)
      blocks.cross.Reserve(media.digest, media.plan.kept_tiles);
  }
  for (int choice = 0; choice < 3; ++choice) {
    SequenceState& sequence = state.sequences.emplace_back(PrefixKeys(*spec, unseen));
    sequence.choice = choice;
    sequence.tokens = spec->prompt;
  }
  state.sequences[0].computed = first;
  state.sequences[0].pages = {3, 1};
  state.sequences[1].finished = true;
  StepPlan plan;
  plan.rows.push_back({.first = first, .count = count, .sample = sample});
  const RequestState* requests[] = {&state};
  return BuildBatch(plan, requests, blocks, unseen);
}

TEST(BuildBatch, ZeroLeavesUnseenRowsOut) {
  BlockManager blocks(4, 8);
  const Batch batch = Build(UnseenRows::kZero, blocks, 0, 6, false).batch;
  EXPECT_EQ(batch.cross_tile_pages.size(), 3u);
  ASSERT_EQ(batch.cross_rows.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(batch.cross_rows[i].row, static_cast<int32_t>(i + 2));
    EXPECT_EQ(batch.cross_rows[i].tiles_begin, i < 2 ? 0 : 1);
    EXPECT_EQ(batch.cross_rows[i].tiles_end, i < 2 ? 1 : 3);
    EXPECT_TRUE(batch.cross_rows[i].mlp);
  }
  EXPECT_TRUE(batch.logits_rows.empty());
}

TEST(BuildBatch, AttendShowsUnseenRowsEverything) {
  BlockManager blocks(4, 8);
  const Batch batch = Build(UnseenRows::kAttend, blocks, 0, 6, false).batch;
  ASSERT_EQ(batch.cross_tile_pages.size(), 8u);
  // Used tiles first, so that a picture's used tiles are an interval; then the padding tiles.
  const auto& first = blocks.cross.Find(FakeDigest(0))->pages;
  const auto& second = blocks.cross.Find(FakeDigest(1))->pages;
  EXPECT_EQ(batch.cross_tile_pages,
            (std::vector<int32_t>{first[0], second[0], second[1], first[1], first[2], first[3],
                                  second[2], second[3]}));
  ASSERT_EQ(batch.cross_rows.size(), 6u);
  for (int i : {0, 1}) {
    EXPECT_FALSE(batch.cross_rows[i].mlp);
    EXPECT_EQ(batch.cross_rows[i].tiles_begin, 0);
    EXPECT_EQ(batch.cross_rows[i].tiles_end, 8);
  }
  EXPECT_EQ(batch.cross_rows[5].tiles_begin, 1);
  EXPECT_EQ(batch.cross_rows[5].tiles_end, 3);
}

TEST(BuildBatch, SlotsTablesAndDraws) {
  BlockManager blocks(4, 8);
  const BuiltBatch built = Build(UnseenRows::kZero, blocks, 14, 6, true);
  const Batch& batch = built.batch;
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{14, 15, 16, 17, 18, 19}));
  EXPECT_EQ(batch.self_slots, (std::vector<int64_t>{62, 63, 16, 17, 18, 19}));
  EXPECT_EQ(batch.self_pages, (std::vector<int32_t>{3, 1}));
  EXPECT_EQ(batch.logits_rows, std::vector<int32_t>{5});
  // The prompt's last row serves every choice that is not finished.
  ASSERT_EQ(built.draws.size(), 2u);
  EXPECT_EQ(built.draws[0].sequence, 0);
  EXPECT_EQ(built.draws[1].sequence, 2);
}

}  // namespace
}  // namespace tessera
