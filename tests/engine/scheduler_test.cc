// The policy, on hand-made tables. What a plan does to words is random_walk_test's business.
#include "server/engine/scheduler.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/support/fake_runner.h"

namespace tessera {
namespace {

using testing::FakeDigest;
using testing::FakeRequest;

class Table {
 public:
  Table(int self_pages, int cross_pages) : blocks(self_pages, cross_pages) {
    limits = {.max_rows = 64,
              .max_logits_rows = 16,
              .max_running = 8,
              .encode_budget_flops = 100,
              .flops_per_token = 1};
  }
  RequestState& Waiting(int prompt,
                        std::vector<std::pair<int, int>> pictures = {}) {  // (seed, tiles)
    RequestState& state = states_.emplace_back();
    state.id = states_.size();
    state.prompt_length = prompt;
    state.max_tokens = 16;
    state.deadline = TimePoint(std::chrono::hours(9));
    const auto spec = FakeRequest(state.id, prompt);
    SequenceState& sequence = state.sequences.emplace_back(PrefixKeys(*spec, UnseenRows::kZero));
    sequence.tokens = spec->prompt;
    sequence.prefix_keys.Extend(sequence.tokens);
    for (const auto& [seed, tiles] : pictures) {
      state.media.push_back({.digest = FakeDigest(static_cast<uint64_t>(seed)),
                             .plan = {.units = 10, .flops_per_unit = 30, .kept_tiles = tiles},
                             .used_tiles = tiles});
    }
    return state;
  }
  // One that has generated a token and needs the next.
  RequestState& Decoding(int length) {
    RequestState& state = Waiting(length - 1);
    state.admitted = true;
    SequenceState& sequence = state.sequences[0];
    sequence.tokens.push_back(5);
    sequence.computed = length - 1;
    while (static_cast<int>(sequence.pages.size()) < SelfPagesFor(length - 1))
      sequence.pages.push_back(blocks.self.Allocate());
    return state;
  }
  StepPlan Plan() {
    std::vector<const RequestState*> requests;
    for (const RequestState& state : states_) requests.push_back(&state);
    std::vector<const EncodeJobState*> pointers;
    for (const EncodeJobState& job : jobs) pointers.push_back(&job);
    return PlanStep({.requests = requests, .jobs = pointers, .blocks = &blocks}, limits);
  }
  BlockManager blocks;
  SchedulerLimits limits;
  std::vector<EncodeJobState> jobs;

 private:
  std::deque<RequestState> states_;
};

TEST(Scheduler, DecodeRowsFirstThenPrefillInWhatIsLeft) {
  Table table(64, 0);
  table.Waiting(100);
  table.Decoding(20);
  table.Decoding(40);
  const StepPlan plan = table.Plan();
  ASSERT_EQ(plan.rows.size(), 3u);
  EXPECT_EQ(plan.rows[0].count, 62);  // sorted by request: the prompt is the oldest
  EXPECT_FALSE(plan.rows[0].sample);
  EXPECT_EQ(plan.rows[1].count, 1);
  EXPECT_TRUE(plan.rows[1].sample);
}

TEST(Scheduler, TheYoungestGivesWayAndTheOldestNever) {
  Table table(4, 0);
  table.Decoding(17);  // needs a second page
  table.Decoding(17);
  table.Decoding(33);
  ASSERT_EQ(table.blocks.self.available(), 0);
  const StepPlan plan = table.Plan();
  EXPECT_EQ(plan.preemptions, std::vector<int32_t>{2});
  ASSERT_EQ(plan.rows.size(), 2u);
  EXPECT_TRUE(plan.admissions.empty());
}

TEST(Scheduler, ReadersThatAreBehindGiveWayFirst) {
  Table table(4, 0);
  table.Decoding(17).paused = true;
  table.Decoding(17);
  table.Decoding(32);
  const StepPlan plan = table.Plan();
  EXPECT_EQ(plan.preemptions, std::vector<int32_t>{0});
  EXPECT_EQ(plan.rows.size(), 2u);
}

TEST(Scheduler, PausedAndExpiredRequestsGetNothing) {
  Table table(64, 0);
  table.Decoding(17).paused = true;
  table.Decoding(17).deadline = TimePoint();
  table.Waiting(5).deadline = TimePoint();
  EXPECT_TRUE(table.Plan().empty());
}

TEST(Scheduler, NobodyOvertakesTheHeadOfTheQueue) {
  Table table(64, 4);
  table.Decoding(17);
  table.blocks.cross.Reserve(FakeDigest(99), 2);  // held by somebody
  table.Waiting(5, {{1, 3}});                     // does not fit now
  table.Waiting(5, {{2, 1}});                     // would fit
  table.Waiting(5);
  EXPECT_TRUE(table.Plan().admissions.empty());
}

TEST(Scheduler, AllPicturesOfARequestOrNone) {
  Table table(64, 4);
  table.Waiting(5, {{1, 3}, {2, 2}});
  EXPECT_TRUE(table.Plan().empty());
  Table enough(64, 5);
  enough.Waiting(5, {{1, 3}, {2, 2}});
  const StepPlan plan = enough.Plan();
  EXPECT_EQ(plan.admissions.size(), 1u);
  ASSERT_EQ(plan.encode.size(), 2u);  // nobody else runs: both at once, and the prompt with them
  EXPECT_EQ(plan.encode[1].unit_end, 10);
  EXPECT_EQ(plan.rows.size(), 1u);
}

TEST(Scheduler, EncodingIsBudgetedWhileOthersRun) {
  Table table(64, 8);
  table.Decoding(17);
  table.Waiting(5, {{1, 4}});
  StepPlan plan = table.Plan();
  ASSERT_EQ(plan.encode.size(), 1u);
  EXPECT_EQ(plan.encode[0].unit_end, 3);  // 100 of 30 each
  EXPECT_EQ(plan.rows.size(), 1u);        // its prompt waits for the picture
  table.limits.encode_budget_flops = 1;
  plan = table.Plan();
  EXPECT_EQ(plan.encode[0].unit_end, 1);  // however small, it goes on
}

TEST(Scheduler, APictureUnderWayIsAwaitedNotEncodedTwice) {
  Table table(64, 8);
  RequestState& first = table.Waiting(5, {{1, 4}});
  first.admitted = true;
  table.blocks.cross.Reserve(FakeDigest(1), 4);
  first.sequences[0].pages = {table.blocks.self.Allocate()};
  table.jobs.push_back(
      {.digest = FakeDigest(1), .owner = 1, .plan = first.media[0].plan, .units_done = 4});
  table.Waiting(5, {{1, 4}});
  const StepPlan plan = table.Plan();
  EXPECT_EQ(plan.admissions.size(), 1u);
  ASSERT_EQ(plan.encode.size(), 1u);
  EXPECT_EQ(plan.encode[0].unit_begin, 4);
  EXPECT_EQ(plan.encode[0].unit_end, 10);
  EXPECT_EQ(plan.rows.size(), 2u);  // both prompts follow in the same step
}

TEST(Scheduler, EncodingCountsAgainstPrefill) {
  Table table(64, 8);
  table.limits.flops_per_token = 2;
  table.Decoding(17);
  table.Waiting(5, {{1, 4}});
  table.Waiting(200);
  const StepPlan plan = table.Plan();
  ASSERT_EQ(plan.rows.size(), 2u);
  EXPECT_EQ(plan.encode[0].unit_end, 3);
  EXPECT_EQ(plan.rows[1].count, 18);  // 63 - 90 / 2
}

TEST(Scheduler, WhatJoinsStreamsStaysWithinTheirBudget) {
  Table table(64, 8);
  table.limits.joined_budget_flops = 20;
  table.Waiting(200);
  StepPlan plan = table.Plan();
  EXPECT_EQ(plan.rows[0].count, 64);  // nobody runs: as much as there is
  table.Decoding(17);
  plan = table.Plan();
  ASSERT_EQ(plan.rows.size(), 2u);
  EXPECT_EQ(plan.rows[0].count, 20);
  EXPECT_TRUE(plan.rows[1].decode);
  EXPECT_EQ(plan.joined_flops, 20);
  table.limits.joined_budget_flops = 1;
  EXPECT_EQ(table.Plan().rows[0].count, 4);  // however small, it goes on
  table.limits.joined_budget_flops = 70;
  table.Waiting(5, {{1, 4}});
  plan = table.Plan();
  EXPECT_EQ(plan.encode[0].unit_end, 2);  // 70 of 30 each, although encoding alone might take 3
  EXPECT_EQ(plan.rows[0].count, 10);
  EXPECT_EQ(plan.joined_flops, 70);
}

TEST(Scheduler, GuessesTakeOnlyWhatIsLeft) {
  Table table(8, 0);
  RequestState& first = table.Decoding(15);
  first.sequences[0].draft = {3, 4, 5, 6};
  table.Decoding(20);
  StepPlan plan = table.Plan();
  EXPECT_EQ(plan.rows[0].count, 5);
  EXPECT_EQ(plan.rows[0].drafts, 4);
  EXPECT_EQ(plan.rows[0].new_pages, 1);  // tokens 15 to 19
  EXPECT_EQ(plan.rows[1].drafts, 0);
  table.limits.max_logits_rows = 4;
  EXPECT_EQ(table.Plan().rows[0].drafts, 2);  // every row of a guess is drawn from
  table.limits.max_logits_rows = 16;
  while (table.blocks.self.available() > 2) table.blocks.self.Allocate();
  plan = table.Plan();
  EXPECT_EQ(plan.rows[0].drafts, 1);  // up to its page's end: the two that run may need the others
  EXPECT_EQ(plan.rows[0].new_pages, 0);
  EXPECT_TRUE(plan.preemptions.empty());
}

TEST(Scheduler, AdmissionLeavesAPageForThoseWhoRun) {
  Table table(5, 0);
  table.Decoding(16);
  table.Decoding(16);
  table.Waiting(32);  // 2 of the 3 pages that are left
  EXPECT_TRUE(table.Plan().admissions.empty());
  Table roomy(6, 0);
  roomy.Decoding(16);
  roomy.Decoding(16);
  roomy.Waiting(32);
  EXPECT_EQ(roomy.Plan().admissions.size(), 1u);
}

TEST(Scheduler, MaxRunningHolds) {
  Table table(64, 0);
  table.limits.max_running = 2;
  table.Decoding(17);
  table.Waiting(5);
  table.Waiting(5);
  EXPECT_EQ(table.Plan().admissions.size(), 1u);
}

TEST(Scheduler, ADifferentCallGivesTheSamePlan) {
  Table table(64, 8);
  table.Decoding(17);
  table.Waiting(5, {{1, 4}});
  table.Waiting(200);
  const StepPlan a = table.Plan(), b = table.Plan();
  ASSERT_EQ(a.rows.size(), b.rows.size());
  for (size_t i = 0; i < a.rows.size(); ++i) EXPECT_EQ(a.rows[i].count, b.rows[i].count);
}

}  // namespace
}  // namespace tessera
