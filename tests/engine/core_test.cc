#include <gtest/gtest.h>

#include <set>

#include "tests/engine/core_harness.h"

namespace tessera::testing {
namespace {

std::shared_ptr<PreparedRequest> WithPicture(uint64_t seed, int length, uint64_t picture,
                                             int tiles = 2) {
  auto request = FakeRequest(seed, length);
  request->prompt[3] = 61;
  request->media = {FakePicture(picture, tiles, 3)};
  return request;
}

TEST(EngineCore, OneRequestFromPromptToEnd) {
  CoreHarness harness;
  auto request = FakeRequest(1, 20);
  request->end_ids.clear();
  const uint64_t id = harness.Add(request);
  harness.RunAll();
  harness.ExpectRightWords(id);
  harness.ExpectNothingHeld();
  const Answer& answer = harness.answer(id);
  EXPECT_EQ(answer.choices.at(0).text, FakeText(answer.choices.at(0).ids));
  EXPECT_EQ(answer.choices.at(0).end->reason, FinishReason::kLength);
  EXPECT_EQ(answer.end->usage.prompt_tokens, 20);
  EXPECT_EQ(answer.end->usage.generated_tokens, 16);
  EXPECT_EQ(harness.runner().rows, 20 + 15);  // the last token is drawn and never run
  EXPECT_DOUBLE_EQ(answer.end->timings.prefill, 0.5);
  EXPECT_DOUBLE_EQ(answer.end->timings.decode, 0.5 * 15);
}

TEST(EngineCore, SecondQuestionAboutAPictureEncodesNothing) {
  for (UnseenRows unseen : {UnseenRows::kZero, UnseenRows::kAttend}) {
    FakeModel model;
    model.unseen_rows = unseen;
    CoreHarness harness(model);
    const uint64_t first = harness.Add(WithPicture(1, 20, 7));
    harness.RunAll();
    EXPECT_EQ(harness.runner().pictures, 1);
    const uint64_t second = harness.Add(WithPicture(2, 30, 7));
    harness.RunAll();
    EXPECT_EQ(harness.runner().pictures, 1);
    EXPECT_EQ(harness.answer(first).end->usage.images_encoded, 1);
    EXPECT_GT(harness.answer(first).end->timings.vision_encode, 0);
    EXPECT_EQ(harness.answer(second).end->usage.images_encoded, 0);
    EXPECT_EQ(harness.answer(second).end->timings.vision_encode, 0);
    EXPECT_EQ(harness.answer(second).end->usage.image_tokens, 2 * 5);
    EXPECT_EQ(harness.core().stats().images_encoded, 1);
    EXPECT_EQ(harness.core().stats().image_cache_hits, 1);
    harness.ExpectRightWords(first);
    harness.ExpectRightWords(second);
  }
}

TEST(EngineCore, APictureOfManyRequestsAtOnceIsEncodedOnce) {
  CoreHarness harness;
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 6; ++i) ids.push_back(harness.Add(WithPicture(i, 20, 7)));
  harness.RunAll();
  EXPECT_EQ(harness.runner().pictures, 1);
  for (uint64_t id : ids) harness.ExpectRightWords(id);
}

TEST(EngineCore, TheOwnersCancellationDoesNotStopTheEncodingOthersWaitFor) {
  FakeModel model;
  model.flops_per_unit = 1e12;
  CoreHarness harness(model);
  auto talker = FakeRequest(9, 10);
  talker->max_tokens = 60;
  talker->end_ids.clear();
  harness.Add(talker);
  harness.Step();
  const uint64_t owner = harness.Add(WithPicture(1, 20, 7));
  const uint64_t other = harness.Add(WithPicture(2, 20, 7));
  for (int i = 0; i < 3; ++i) harness.Step();  // a unit a step
  harness.core().Cancel(owner);
  harness.core().CheckInvariants();
  harness.RunAll();
  EXPECT_EQ(harness.runner().pictures, 1);
  harness.ExpectRightWords(other);
}

TEST(EngineCore, DecodingGoesOnWhileAPictureIsEncoded) {
  FakeModel model;
  model.flops_per_unit = 1e12;
  CoreHarness harness(model);
  auto talker = FakeRequest(9, 10);
  talker->max_tokens = 60;
  talker->end_ids.clear();
  const uint64_t id = harness.Add(talker);
  harness.Step();
  harness.Add(WithPicture(1, 20, 7, 4));
  size_t before = harness.answer(id).choices.at(0).ids.size();
  while (harness.runner().pictures == 0) {
    ASSERT_TRUE(harness.Step());
    ASSERT_EQ(harness.answer(id).choices.at(0).ids.size(), ++before);  // a token in every step
  }
  EXPECT_EQ(before, 1u + 8u);  // eight units, one a step
}

TEST(EngineCore, PrefixIsReusedUpToTheLastTokenExclusive) {
  CoreHarness harness;
  const uint64_t first = harness.Add(FakeRequest(1, 48));
  harness.RunAll();
  const int64_t rows = harness.runner().rows;
  const uint64_t second = harness.Add(FakeRequest(1, 48));
  harness.RunAll();
  // Three whole pages are known, but the last token's logits are wanted.
  EXPECT_EQ(harness.answer(second).end->usage.cached_tokens, 32);
  EXPECT_EQ(harness.runner().rows - rows, rows - 32);
  EXPECT_EQ(harness.answer(first).choices.at(0).ids, harness.answer(second).choices.at(0).ids);
}

TEST(EngineCore, AnswerIsFoundByTheNextTurn) {
  CoreHarness harness;
  auto request = FakeRequest(1, 20);
  request->end_ids.clear();
  request->max_tokens = 40;
  const uint64_t first = harness.Add(request);
  harness.RunAll();
  auto next = std::make_shared<PreparedRequest>(*request);
  const auto& ids = harness.answer(first).choices.at(0).ids;
  next->prompt.insert(next->prompt.end(), ids.begin(), ids.end());
  next->prompt.push_back(5);
  const uint64_t second = harness.Add(next);
  harness.RunAll();
  EXPECT_EQ(harness.answer(second).end->usage.cached_tokens, 48);  // of 59 tokens with K/V
  harness.ExpectRightWords(second);
}

TEST(EngineCore, SamePromptOtherPictureSharesNothingBehindTheMark) {
  CoreHarness harness;
  harness.Add(WithPicture(1, 60, 7));
  harness.RunAll();
  const uint64_t other = harness.Add(WithPicture(1, 60, 8));
  harness.RunAll();
  EXPECT_EQ(harness.answer(other).end->usage.cached_tokens, 0);
  harness.ExpectRightWords(other);
  auto salted = WithPicture(1, 60, 7);
  salted->cache_salt = FakeDigest(1);
  const uint64_t tenant = harness.Add(salted);
  harness.RunAll();
  EXPECT_EQ(harness.answer(tenant).end->usage.cached_tokens, 0);
}

TEST(EngineCore, ChoicesShareThePromptsPages) {
  FakeModel model;
  model.self_pages = 16;
  CoreHarness harness(model);
  auto request = FakeRequest(3, 100);  // 6 whole pages and 4 tokens
  request->n = 8;
  request->max_tokens = 12;  // to 111: one page of its own each
  request->sampling.temperature = 1;
  request->sampling.seed = 5;
  request->end_ids.clear();
  const uint64_t id = harness.Add(request);
  harness.RunAll();
  harness.ExpectRightWords(id);
  EXPECT_EQ(harness.runner().rows, 100 + 8 * 11);
  EXPECT_EQ(harness.core().stats().preemptions, 0);
  std::set<std::vector<int32_t>> different;
  for (const auto& [choice, answer] : harness.answer(id).choices) different.insert(answer.ids);
  EXPECT_EQ(different.size(), 8u);
}

// Everybody alone, then all together in every kind of shortage: the same words.
TEST(EngineCore, CompanyChunksAndPreemptionChangeNothing) {
  std::vector<std::shared_ptr<PreparedRequest>> requests;
  for (uint64_t i = 0; i < 12; ++i) {
    auto request = i % 2 ? WithPicture(i, static_cast<int>(20 + 5 * i), i % 3, 2)
                         : FakeRequest(i, static_cast<int>(10 + 7 * i));
    request->sampling.temperature = 0.5f;
    request->sampling.seed = i;
    request->max_tokens = 40;
    request->end_ids.clear();
    request->n = i % 5 == 0 ? 3 : 1;
    requests.push_back(request);
  }
  for (const FakeModel& model :
       {FakeModel{.self_pages = 400}, FakeModel{.self_pages = 18, .cross_pages = 4},
        FakeModel{.self_pages = 30, .max_rows = 6}}) {
    CoreHarness harness(model);
    std::vector<uint64_t> ids;
    for (const auto& request : requests) ids.push_back(harness.Add(request));
    harness.RunAll();
    for (uint64_t id : ids) harness.ExpectRightWords(id);
    harness.ExpectNothingHeld();
    if (model.self_pages == 18) {
      EXPECT_GT(harness.core().stats().preemptions, 3);
    }
  }
}

TEST(EngineCore, TheOldestIsNeverPreempted) {
  CoreHarness harness({.self_pages = 12});
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 8; ++i) {
    auto request = FakeRequest(i, 30);
    request->max_tokens = 100;
    request->end_ids.clear();
    ids.push_back(harness.Add(request));
  }
  harness.RunAll();
  EXPECT_EQ(harness.answer(ids[0]).end->usage.preemptions, 0);
  EXPECT_GT(harness.core().stats().preemptions, 0);
  for (uint64_t id : ids) harness.ExpectRightWords(id);
}

TEST(EngineCore, PicturesBeyondThePoolTakeTurnsWithoutDeadlock) {
  CoreHarness harness({.cross_pages = 6});
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 10; ++i) {
    auto request = FakeRequest(i, 30);
    request->media = {FakePicture(i, 3, 2),
                      FakePicture(i + 1, 3, 9)};  // 6 tiles each: one request at a time
    ids.push_back(harness.Add(request));
  }
  harness.RunAll();
  for (uint64_t id : ids) harness.ExpectRightWords(id);
}

TEST(EngineCore, WhatCanNeverFitIsRefusedWithNumbers) {
  FakeRunner runner({.self_pages = 4, .cross_pages = 4, .max_context = 200});
  auto refused = [&](const PreparedRequest& request, std::string_view field,
                     std::string_view value) {
    const Result<void> checked = CheckRequest(request, runner, 8);
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(checked.error().field, field);
    EXPECT_EQ(checked.error().value, value);
    EXPECT_FALSE(checked.error().limit.empty());
  };
  auto request = FakeRequest(1, 50);
  request->max_tokens = 15;
  EXPECT_TRUE(CheckRequest(*request, runner, 8));
  request->max_tokens = 16;
  refused(*request, "max_tokens", "80");
  request->max_tokens = 200;
  refused(*request, "max_tokens", "50 + 200");
  request = FakeRequest(1, 20);
  request->media = {FakePicture(1, 3, 1), FakePicture(1, 3, 2), FakePicture(2, 2, 3)};
  refused(*request, "images", "5");
  request = FakeRequest(1, 20);
  request->prompt[4] = 69;
  refused(*request, "prompt", "69");
  request->prompt[4] = -1;
  refused(*request, "prompt", "-1");
  request = FakeRequest(1, 20);
  request->n = 9;
  refused(*request, "n", "9");
  request = FakeRequest(1, 20);
  request->prompt.clear();
  refused(*request, "messages", "0");
}

TEST(EngineCore, StopStringsAcrossTokensAndMinTokens) {
  CoreHarness harness;
  auto request = FakeRequest(4, 20);
  request->end_ids.clear();
  request->max_tokens = 40;
  const uint64_t whole = harness.Add(request);
  harness.RunAll();
  const std::string text = harness.answer(whole).choices.at(0).text;
  ASSERT_GT(text.size(), 30u);
  const std::string stop = text.substr(20, 5);
  ASSERT_EQ(text.find(stop), 20u);
  for (bool include : {false, true}) {
    auto stopped = std::make_shared<PreparedRequest>(*request);
    stopped->stop = {"never", stop};
    stopped->include_stop = include;
    const uint64_t id = harness.Add(stopped);
    harness.RunAll();
    const ChoiceAnswer& answer = harness.answer(id).choices.at(0);
    EXPECT_EQ(answer.text, text.substr(0, include ? 25 : 20));
    EXPECT_EQ(answer.end->reason, FinishReason::kStop);
    EXPECT_EQ(answer.end->stop_string, stop);
  }
  auto later = std::make_shared<PreparedRequest>(*request);
  later->stop = {stop};
  later->min_tokens = 39;
  const uint64_t id = harness.Add(later);
  harness.RunAll();
  EXPECT_EQ(harness.answer(id).choices.at(0).text, text);
}

TEST(EngineCore, EndIdsStopTokenIdsAndIgnoreEos) {
  CoreHarness harness;
  auto request = FakeRequest(4, 20);
  request->end_ids.clear();
  request->max_tokens = 30;
  const uint64_t whole = harness.Add(request);
  harness.RunAll();
  const std::vector<int32_t> ids = harness.answer(whole).choices.at(0).ids;
  const auto first = std::find(ids.begin(), ids.end(), ids[12]) - ids.begin();
  for (bool as_stop_token : {false, true}) {
    auto ended = std::make_shared<PreparedRequest>(*request);
    (as_stop_token ? ended->stop_token_ids : ended->end_ids) = {ids[12]};
    const uint64_t id = harness.Add(ended);
    harness.RunAll();
    const ChoiceAnswer& answer = harness.answer(id).choices.at(0);
    EXPECT_EQ(answer.end->reason, FinishReason::kStop);
    EXPECT_EQ(answer.end->stop_token, ids[12]);
    EXPECT_EQ(static_cast<int64_t>(answer.ids.size()), first + 1);
    EXPECT_EQ(answer.text,
              FakeText({ids.begin(), ids.begin() + first}));  // the end id gives no text
  }
  auto least = std::make_shared<PreparedRequest>(*request);
  least->end_ids = {ids[12]};
  least->min_tokens = 25;
  const uint64_t id = harness.Add(least);
  harness.RunAll();
  EXPECT_GE(harness.answer(id).choices.at(0).ids.size(), 25u);
  harness.ExpectRightWords(id);
}

TEST(EngineCore, LogprobsComeWithTheTokens) {
  CoreHarness harness;
  auto request = FakeRequest(4, 20);
  request->sampling.logprobs = 3;
  const uint64_t id = harness.Add(request);
  harness.RunAll();
  for (const TokenOut& token : harness.answer(id).choices.at(0).tokens) {
    EXPECT_EQ(token.top.size(), 3u);
    EXPECT_LE(token.logprob, 0);
  }
}

TEST(EngineCore, CancelInEveryState) {
  // A picture in slices beside a talker, a long prompt in chunks, then decoding: cancelled after
  // every number of steps.
  FakeModel model{.self_pages = 40, .max_rows = 8, .flops_per_unit = 1e12};
  int longest = 1;
  for (int steps = 0; steps < longest; ++steps) {
    CoreHarness harness(model);
    auto talker = FakeRequest(9, 10);
    talker->max_tokens = 200;
    talker->end_ids.clear();
    const uint64_t other = harness.Add(talker);
    harness.Step();
    harness.Step();
    const EngineStats before = harness.core().stats();
    auto victim = WithPicture(1, 50, 7);
    victim->end_ids.clear();
    const uint64_t id = harness.Add(victim);
    for (int i = 0; i < steps; ++i) harness.Step();
    if (steps + 1 == longest && !harness.answer(id).end) ++longest;
    harness.core().Cancel(id);
    harness.core().CheckInvariants();
    harness.Read(id);
    ASSERT_TRUE(harness.answer(id).end);
    const EngineStats after = harness.core().stats();
    EXPECT_EQ(after.cross_pages_free, before.cross_pages_free);
    EXPECT_EQ(after.running, 1);
    harness.core().Cancel(id);  // a second time: nothing
    harness.core().Cancel(12345);
    harness.RunAll();
    harness.ExpectRightWords(other);
    harness.ExpectNothingHeld();
    if (steps + 1 == longest) {
      EXPECT_EQ(harness.answer(id).choices.at(0).end->reason, FinishReason::kLength);
    } else {
      EXPECT_EQ(harness.answer(id).error(), ErrorCode::kCancelled);
    }
  }
  EXPECT_GT(longest, 8 + 6 + 16);
}

TEST(EngineCore, NothingRunsAfterTheDeadline) {
  CoreHarness harness({.self_pages = 40});
  auto running = FakeRequest(1, 20);
  running->max_tokens = 100;
  running->end_ids.clear();
  running->deadline = harness.clock().Now() + std::chrono::seconds(10);
  const uint64_t id = harness.Add(running);
  for (int i = 0; i < 5; ++i) harness.Step();
  auto expired = FakeRequest(2, 20);
  expired->deadline = harness.clock().Now() + std::chrono::seconds(10);
  const uint64_t queued = harness.Add(expired);
  harness.clock().Advance(std::chrono::seconds(10));
  const int64_t rows = harness.runner().rows;
  EXPECT_FALSE(harness.Step());
  EXPECT_EQ(harness.runner().rows, rows);
  EXPECT_EQ(harness.answer(id).error(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(harness.answer(id).choices.at(0).end->reason, FinishReason::kError);
  EXPECT_EQ(harness.answer(queued).error(), ErrorCode::kDeadlineExceeded);
  harness.ExpectNothingHeld();
}

TEST(EngineCore, FiftySilentReadersBesideEightNormalOnes) {
  EngineOptions options;
  options.max_running = 64;
  CoreHarness harness(
      {.self_pages = 50 * 150 + 8 * 8, .max_rows = 128, .max_logits_rows = 64, .max_context = 4096},
      options);
  std::vector<uint64_t> silent;
  for (uint64_t i = 0; i < 50; ++i) {
    auto request = FakeRequest(i, 10);
    request->max_tokens = 2300;
    request->end_ids.clear();
    silent.push_back(harness.Add(request));
    harness.StopReading(silent.back());
  }
  // They fill their streams and are scheduled no more.
  harness.RunAll();
  const int64_t steps = harness.runner().steps;
  for (uint64_t id : silent) {
    EXPECT_TRUE(harness.stream(id).Full());
    EXPECT_LT(harness.stream(id).high_water_bytes(), EventStream::kMaxBytes + 4096);
    EXPECT_FALSE(harness.answer(id).end);
  }
  // Eight normal ones need as many steps as without the others.
  std::vector<uint64_t> normal;
  for (uint64_t i = 0; i < 8; ++i) {
    auto request = FakeRequest(100 + i, 10);
    request->end_ids.clear();
    normal.push_back(harness.Add(request));
  }
  harness.RunAll();
  for (uint64_t id : normal) harness.ExpectRightWords(id);
  EXPECT_EQ(harness.runner().steps - steps, 16);  // the prompts together, then fifteen tokens each
  // After 30 s they end, their pages free.
  harness.clock().Advance(std::chrono::seconds(29));
  EXPECT_FALSE(harness.Step());
  EXPECT_EQ(harness.core().requests(), 50);
  harness.clock().Advance(std::chrono::seconds(1));
  harness.Step();
  harness.ExpectNothingHeld();
  for (uint64_t id : silent) {
    harness.Read(id);
    EXPECT_EQ(harness.answer(id).error(), ErrorCode::kResourceExhausted);
    const auto& ids = harness.answer(id).choices.at(0).ids;
    const auto expected = FakeAnswer(harness.model(), harness.spec(id), 0);
    EXPECT_EQ(ids, std::vector<int32_t>(expected.begin(),
                                        expected.begin() + static_cast<int64_t>(ids.size())));
  }
}

TEST(EngineCore, AReaderThatCatchesUpGoesOnWithTheSameWords) {
  CoreHarness harness({.self_pages = 160, .max_context = 4096});
  auto request = FakeRequest(1, 10);
  request->max_tokens = 2400;
  request->end_ids.clear();
  const uint64_t id = harness.Add(request);
  harness.StopReading(id);
  harness.RunAll();
  ASSERT_TRUE(harness.stream(id).Full());
  // Meanwhile its pages go to somebody else.
  auto big = FakeRequest(2, 900);
  big->max_tokens = 1600;
  big->end_ids.clear();
  const uint64_t other = harness.Add(big);
  harness.RunAll();
  harness.ExpectRightWords(other);
  EXPECT_GT(harness.core().stats().preemptions, 0);
  harness.Read(id);
  harness.RunAll();
  harness.ExpectRightWords(id);
}

}  // namespace
}  // namespace tessera::testing
