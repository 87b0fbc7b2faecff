// Speculation by prompt lookup: what is guessed, and that no guess changes a word.
#include <gtest/gtest.h>

#include <random>

#include "server/engine/prompt_lookup.h"
#include "tests/engine/core_harness.h"

namespace tessera::testing {
namespace {

using Ids = std::vector<int32_t>;

TEST(PromptLookup, GuessesWhatFollowedLastTime) {
  PromptLookup lookup;
  EXPECT_EQ(lookup.Guess(Ids{1}, 4), Ids{});
  EXPECT_EQ(lookup.Guess(Ids{1, 2, 3, 4, 5, 9}, 4), Ids{});
  EXPECT_EQ(lookup.Guess(Ids{1, 2, 3, 4, 5, 9, 2, 3}, 2), (Ids{4, 5}));
  EXPECT_EQ(lookup.Guess(Ids{1, 2, 3, 4, 5, 9, 2, 3}, 0), Ids{});
  EXPECT_EQ(lookup.Guess(Ids{1, 2, 3, 4, 5, 9, 2, 3, 7, 8, 2, 3}, 3),
            (Ids{7, 8, 2}));  // the latest
}

TEST(PromptLookup, PrefersThePlaceThatAgreesLongest) {
  PromptLookup lookup;
  EXPECT_EQ(lookup.Guess(Ids{6, 1, 2, 50, 7, 1, 2, 60, 6, 1, 2}, 1), Ids{50});
}

TEST(PromptLookup, ALoopGoesOn) {
  PromptLookup lookup;
  EXPECT_EQ(lookup.Guess(Ids{4, 5, 4, 5}, 5), (Ids{4, 5, 4, 5, 4}));
  EXPECT_EQ(lookup.Guess(Ids{4, 5, 4, 5, 5, 5, 5}, 3), (Ids{5, 5, 5}));
}

TEST(PromptLookup, GrowingTokenByTokenMakesNoDifference) {
  std::mt19937 random(3);
  Ids tokens;
  PromptLookup growing;
  for (int i = 0; i < 500; ++i) {
    tokens.push_back(static_cast<int32_t>(random() % 5));
    PromptLookup fresh;
    ASSERT_EQ(growing.Guess(tokens, 6), fresh.Guess(tokens, 6)) << i;
  }
}

FakeModel Repeating() {
  FakeModel model;
  model.self_pages = 200;
  model.answers = 2;
  return model;
}

// Greedy and drawn, penalties, minimum lengths, several choices.
std::vector<std::shared_ptr<PreparedRequest>> Mixed() {
  std::vector<std::shared_ptr<PreparedRequest>> specs;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    auto request = FakeRequest(seed, static_cast<int>(5 + 3 * seed));
    request->max_tokens = static_cast<int32_t>(7 * seed);
    request->sampling.seed = seed;
    if (seed % 2 == 0) request->sampling.temperature = 0.9f;
    if (seed % 3 == 0) request->sampling.repetition_penalty = 1.2f;
    if (seed % 4 == 0) request->n = 3;
    if (seed % 5 == 0) request->min_tokens = 4;
    if (seed % 2 == 1) request->sampling.logprobs = 1;
    specs.push_back(std::move(request));
  }
  return specs;
}

TEST(Speculation, ChangesNoWord) {
  for (const int self_pages : {200, 24}) {
    FakeModel model = Repeating();
    model.self_pages = self_pages;
    int64_t plain_steps = 0;
    for (const int speculate : {0, 1, 4, 16}) {
      SCOPED_TRACE(::testing::Message() << speculate << " guesses, " << self_pages << " pages");
      CoreHarness harness(model, {.speculate = speculate});
      for (const auto& spec : Mixed()) harness.Add(spec);
      harness.RunAll();
      harness.ExpectNothingHeld();
      for (uint64_t id : harness.ids()) harness.ExpectRightWords(id);
      const EngineStats stats = harness.core().stats();
      EXPECT_EQ(stats.preemptions > 0, self_pages == 24);
      if (speculate == 0) {
        EXPECT_EQ(stats.drafted_tokens, 0);
        plain_steps = stats.steps;
      } else {
        EXPECT_GT(stats.accepted_tokens, 50);
        EXPECT_LT(stats.accepted_tokens, stats.drafted_tokens);
        EXPECT_LT(stats.steps, plain_steps);
      }
      int64_t drafted = 0, accepted = 0;
      for (uint64_t id : harness.ids()) {
        drafted += harness.answer(id).end->usage.drafted_tokens;
        accepted += harness.answer(id).end->usage.accepted_tokens;
      }
      EXPECT_EQ(drafted, stats.drafted_tokens);
      EXPECT_EQ(accepted, stats.accepted_tokens);
    }
  }
}

TEST(Speculation, StopsWhereThePlainPathStops) {
  const FakeModel model = Repeating();
  int matched = 0, ended = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    auto request = FakeRequest(seed, 20);
    request->max_tokens = 40;
    // Ids 30 and 31 are "4" and "5".
    if (seed % 2 == 0) request->stop = {"4545", "5544"};
    if (seed % 3 == 0) request->min_tokens = 12;
    if (seed % 5 == 0) request->stop_token_ids = {31};
    if (seed % 7 == 0) request->include_stop = true;
    CoreHarness plain(model), guessing(model, {.speculate = 8});
    const uint64_t a = plain.Add(request), b = guessing.Add(request);
    plain.RunAll();
    guessing.RunAll();
    const ChoiceAnswer& expected = plain.answer(a).choices.at(0);
    const ChoiceAnswer& got = guessing.answer(b).choices.at(0);
    EXPECT_EQ(got.ids, expected.ids) << seed;
    EXPECT_EQ(got.text, expected.text) << seed;
    EXPECT_EQ(got.end->reason, expected.end->reason) << seed;
    EXPECT_EQ(got.end->stop_string, expected.end->stop_string) << seed;
    EXPECT_EQ(got.end->stop_token, expected.end->stop_token) << seed;
    matched += expected.end->stop_string.empty() ? 0 : 1;
    ended += expected.end->stop_token >= 0 ? 1 : 0;
    guessing.ExpectNothingHeld();
  }
  EXPECT_GT(matched, 5);
  EXPECT_GT(ended, 3);
}

TEST(Speculation, NeverRunsBeyondTheLastToken) {
  CoreHarness harness(Repeating(), {.speculate = 16});
  int32_t furthest = 0;
  harness.runner().before_step = [&](const Step& step) {
    for (int32_t position : step.batch.positions) furthest = std::max(furthest, position);
  };
  auto request = FakeRequest(3, 20);
  request->max_tokens = 25;
  harness.Add(request);
  harness.RunAll();
  EXPECT_EQ(furthest, 20 + 25 - 2);  // the last token is drawn but never run
}

}  // namespace
}  // namespace tessera::testing
