// Steps ahead of what is known: the same words, events and pages as step by step, at most one row
// more for a choice whose end nobody could foresee, and faults contained as ever.
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "tests/engine/core_harness.h"

namespace tessera::testing {
namespace {

FakeModel Model(bool behind) {
  FakeModel model;
  model.behind = behind;
  return model;
}

// What could depend on tokens that the host does not know yet: ends, stops, bans, draws.
std::shared_ptr<PreparedRequest> Kind(uint64_t i) {
  auto request = FakeRequest(i, static_cast<int>(9 + 5 * i));
  request->max_tokens = 40;
  request->sampling.temperature = i % 2 ? 0.9f : 0.0f;
  request->sampling.seed = i;
  if (i % 3 == 0) request->end_ids.clear();
  if (i % 4 == 1) request->stop = {"a", "7b"};
  if (i % 4 == 2) request->min_tokens = 12;
  if (i % 4 == 3) request->sampling.logprobs = 2;
  if (i % 5 == 4) request->n = 3;
  if (i % 7 == 5) request->sampling.frequency_penalty = 0.5f;
  if (i % 6 == 1) request->sampling.bias = {{.id = 5, .bias = 2}};
  return request;
}

void ExpectSame(const Answer& a, const Answer& b) {
  ASSERT_TRUE(a.end && b.end);
  EXPECT_FALSE(a.end->error || b.end->error);
  ASSERT_EQ(a.choices.size(), b.choices.size());
  for (const auto& [choice, answer] : a.choices) {
    const auto& other = b.choices.at(choice);
    EXPECT_EQ(answer.ids, other.ids);
    EXPECT_EQ(answer.text, other.text);
    EXPECT_EQ(answer.end->reason, other.end->reason);
    EXPECT_EQ(answer.end->stop_string, other.end->stop_string);
    EXPECT_EQ(answer.end->stop_token, other.end->stop_token);
    ASSERT_EQ(answer.tokens.size(), other.tokens.size());
    for (size_t i = 0; i < answer.tokens.size(); ++i)
      EXPECT_EQ(answer.tokens[i].logprob, other.tokens[i].logprob);
  }
}

TEST(Ahead, EveryKindOfRequestGetsTheSame) {
  int64_t ahead = 0;
  for (uint64_t first = 0; first < 40; ++first) {
    SCOPED_TRACE(first);
    CoreHarness plain(Model(false)), behind(Model(true));
    for (CoreHarness* harness : {&plain, &behind}) {
      for (uint64_t i = 0; i < 1 + first % 3; ++i) harness->Add(Kind(first + 11 * i));
      harness->RunAll();
      harness->ExpectNothingHeld();
    }
    for (uint64_t id : plain.ids()) ExpectSame(plain.answer(id), behind.answer(id));
    EXPECT_EQ(plain.core().stats().steps_ahead, 0);
    ahead += behind.core().stats().steps_ahead;
  }
  EXPECT_GT(ahead, 200);
}

TEST(Ahead, AnEndThatIsKnownCostsNoRow) {
  CoreHarness harness(Model(true));
  auto request = FakeRequest(1, 20);
  request->end_ids.clear();
  const uint64_t id = harness.Add(request);
  harness.RunAll();
  harness.ExpectRightWords(id);
  EXPECT_EQ(harness.runner().rows, 20 + 15);
  EXPECT_EQ(harness.core().stats().steps, 16);
  EXPECT_EQ(harness.core().stats().steps_ahead,
            14);  // not the prompt's, not the first that decodes
}

TEST(Ahead, AnEndThatNobodyKnewCostsOneRow) {
  const FakeModel model = Model(true);
  auto request = FakeRequest(1, 20);
  request->max_tokens = 30;
  request->end_ids.clear();
  request->end_ids = {FakeAnswer(model, *request, 0)[9]};
  const auto length = static_cast<int64_t>(FakeAnswer(model, *request, 0).size());
  ASSERT_GT(length, 3);
  CoreHarness harness(model);
  const uint64_t id = harness.Add(request);
  harness.RunAll();
  harness.ExpectRightWords(id);
  harness.ExpectNothingHeld();
  EXPECT_EQ(harness.runner().rows, 20 + length - 1 + 1);
  EXPECT_EQ(harness.answer(id).end->usage.generated_tokens, length);
}

TEST(Ahead, WhoComesWaitsForOneStepAtMost) {
  CoreHarness harness(Model(true));
  auto talker = FakeRequest(2, 10);
  talker->end_ids.clear();
  talker->max_tokens = 60;
  const uint64_t first = harness.Add(talker);
  for (int i = 0; i < 8; ++i) harness.Step();
  const uint64_t second = harness.Add(FakeRequest(3, 12));
  harness.Step();  // takes in the step in flight and runs one with the newcomer
  EXPECT_EQ(harness.core().stats().running, 2);
  harness.RunAll();
  harness.ExpectRightWords(first);
  harness.ExpectRightWords(second);
}

TEST(Ahead, CancelledAfterAnyNumberOfSteps) {
  for (int steps = 0; steps < 24; ++steps) {
    SCOPED_TRACE(steps);
    CoreHarness harness(Model(true));
    const uint64_t other = harness.Add(Kind(3)), id = harness.Add(Kind(9));
    for (int i = 0; i < steps; ++i) harness.Step();
    harness.core().Cancel(id);
    harness.core().CheckInvariants();
    harness.RunAll();
    harness.ExpectRightWords(other);
    harness.ExpectNothingHeld();
  }
}

TEST(Ahead, AnEngineThatEndsWaitsForItsStep) {
  for (int steps = 1; steps < 12; ++steps) {
    CoreHarness harness(Model(true));
    harness.Add(Kind(3));
    for (int i = 0; i < steps; ++i) harness.Step();
  }
}

TEST(Ahead, AShortageInAnyStepFailsNobody) {
  for (int nth = 1; nth < 20; ++nth) {
    SCOPED_TRACE(nth);
    CoreHarness harness(Model(true));
    std::atomic<int> calls = 0;
    harness.runner().before_step = [&](const Step&) {
      if (++calls == nth) throw std::bad_alloc();
    };
    const uint64_t a = harness.Add(Kind(3)), b = harness.Add(Kind(9));
    harness.RunAll();
    harness.ExpectRightWords(a);
    harness.ExpectRightWords(b);
    harness.ExpectNothingHeld();
    EXPECT_EQ(harness.core().stats().faults, 1);
  }
}

TEST(Ahead, ADeviceLostInAnyStepEndsEverybodyOnce) {
  for (int nth = 1; nth < 20; ++nth) {
    SCOPED_TRACE(nth);
    CoreHarness harness(Model(true));
    std::atomic<int> calls = 0;
    harness.runner().before_step = [&](const Step&) {
      if (++calls >= nth)
        harness.runner().error = Error{.code = ErrorCode::kUnavailable, .what = "injected"};
    };
    const uint64_t a = harness.Add(Kind(3)), b = harness.Add(Kind(9));
    harness.RunAll();
    EXPECT_TRUE(harness.core().device_lost());
    EXPECT_EQ(harness.answer(a).error(), ErrorCode::kUnavailable);
    EXPECT_EQ(harness.answer(b).error(), ErrorCode::kUnavailable);
    harness.ExpectNothingHeld();
  }
}

}  // namespace
}  // namespace tessera::testing
