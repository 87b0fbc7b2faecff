// Faults of a step: contained, traced to the request that causes them, and everybody else gets the
// same words.
#include <gtest/gtest.h>

#include <new>
#include <random>

#include "tests/engine/core_harness.h"

namespace tessera::testing {
namespace {

constexpr int32_t kPoison = 62;  // in no prompt and, beyond the vocabulary, never drawn

std::shared_ptr<PreparedRequest> Good(uint64_t i) {
  auto request = FakeRequest(i, static_cast<int>(10 + 3 * i));
  request->sampling.temperature = 1;
  request->sampling.seed = i;
  request->max_tokens = 20;
  if (i % 2) {
    request->prompt[2] = 61;
    request->media = {FakePicture(i % 3, 2, 2)};
  }
  return request;
}

TEST(Faults, InvalidProbabilitiesEndTheirRequestOnly) {
  FakeModel model;
  model.nan_token = kPoison;
  CoreHarness harness(model);
  std::vector<uint64_t> good;
  auto bad = Good(7);
  bad->prompt[20] = kPoison;
  bad->n = 2;
  good.push_back(harness.Add(Good(0)));
  const uint64_t id = harness.Add(bad);
  for (uint64_t i = 1; i < 6; ++i) good.push_back(harness.Add(Good(i)));
  harness.RunAll();
  EXPECT_EQ(harness.answer(id).error(), ErrorCode::kInternal);
  EXPECT_EQ(harness.answer(id).choices.at(1).end->reason, FinishReason::kError);
  for (uint64_t other : good) harness.ExpectRightWords(other);
  harness.ExpectNothingHeld();
  // Nothing of it is found again: the prompt is computed anew, the picture encoded anew.
  const int64_t pictures = harness.runner().pictures;
  harness.Add(bad);
  harness.RunAll();
  EXPECT_EQ(harness.core().stats().cached_tokens, 0);
  EXPECT_EQ(harness.runner().pictures, pictures + 1);
}

TEST(Faults, AStepThatThrowsFailsItsCauseOnly) {
  FakeModel model;
  model.throw_token = kPoison;
  CoreHarness harness(model);
  std::vector<uint64_t> good;
  for (uint64_t i = 0; i < 4; ++i) good.push_back(harness.Add(Good(i)));
  for (int i = 0; i < 5; ++i) harness.Step();
  auto bad = Good(6);
  bad->prompt[9] = kPoison;
  const uint64_t id = harness.Add(bad);
  good.push_back(harness.Add(Good(5)));
  harness.RunAll();
  EXPECT_EQ(harness.answer(id).error(), ErrorCode::kInternal);
  for (uint64_t other : good) harness.ExpectRightWords(other);
  EXPECT_GE(harness.core().stats().faults, 2);
  harness.ExpectNothingHeld();
}

TEST(Faults, APassingShortageFailsNobody) {
  CoreHarness harness;
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 6; ++i) ids.push_back(harness.Add(Good(i)));
  int calls = 0;
  harness.runner().before_step = [&](const Step&) {
    if (++calls == 7) throw std::bad_alloc();
  };
  harness.RunAll();
  for (uint64_t id : ids) harness.ExpectRightWords(id);
  EXPECT_EQ(harness.core().stats().faults, 1);
}

TEST(Faults, APictureThatCannotBeEncodedFailsThoseWhoShowIt) {
  CoreHarness harness;
  std::vector<uint64_t> good, bad;
  const Media poison = FakePicture(77, 3, 2);
  for (uint64_t i = 0; i < 6; ++i) {
    auto request = Good(i);
    if (i == 1 || i == 4) {
      request->prompt[2] = 61;
      request->media = {poison};
      bad.push_back(harness.Add(request));
    } else {
      good.push_back(harness.Add(request));
    }
  }
  harness.runner().before_step = [&](const Step& step) {
    for (const EncodeSlice& slice : step.encode) {
      if (slice.pixels == poison.pixels.get() && slice.unit_end > 3)
        throw std::runtime_error("injected");
    }
  };
  harness.RunAll();
  for (uint64_t id : good) harness.ExpectRightWords(id);
  for (uint64_t id : bad) EXPECT_EQ(harness.answer(id).error(), ErrorCode::kInternal);
  harness.ExpectNothingHeld();
}

TEST(Faults, ALostDeviceEndsEverybodyUnavailable) {
  CoreHarness harness;
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 6; ++i) ids.push_back(harness.Add(Good(i)));
  for (int i = 0; i < 4; ++i) harness.Step();
  harness.runner().error = Error{.code = ErrorCode::kUnavailable, .what = "injected"};
  harness.Step();
  EXPECT_TRUE(harness.core().device_lost());
  EXPECT_FALSE(harness.Step());
  for (uint64_t id : ids) EXPECT_EQ(harness.answer(id).error(), ErrorCode::kUnavailable);
  harness.ExpectNothingHeld();
}

// Ten thousand requests, one in four poisoned in one way or another, random exceptions on top.
TEST(Faults, TenThousandInjections) {
  FakeModel model{.self_pages = 120, .cross_pages = 12};
  model.nan_token = kPoison;
  model.throw_token = kPoison + 1;
  CoreHarness harness(model);
  std::mt19937_64 random(5);
  int64_t injected = 0;
  std::vector<uint64_t> good, bad;
  for (int i = 0; i < 10000; ++i) {
    auto request = Good(random() % 8);
    request->max_tokens = static_cast<int32_t>(1 + random() % 6);
    const bool poisoned = random() % 4 == 0;
    if (poisoned) {
      request->prompt[4 + random() % 6] = kPoison + static_cast<int32_t>(random() % 2);
      ++injected;
    }
    (poisoned ? bad : good).push_back(harness.Add(request));
    if (harness.core().requests() > 12) {
      harness.core().RunOnce();
      harness.core().RunOnce();
    }
    if (i % 500 == 0) {
      harness.core().CheckInvariants();
    }
  }
  harness.RunAll();
  EXPECT_GT(injected, 2000);
  for (uint64_t id : bad) {
    harness.Read(id);
    ASSERT_EQ(harness.answer(id).error(), ErrorCode::kInternal);
  }
  for (uint64_t id : good) harness.ExpectRightWords(id);
  harness.ExpectNothingHeld();
}

}  // namespace
}  // namespace tessera::testing
