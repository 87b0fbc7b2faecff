// Thousands of steps with random requests, cancellations and pool sizes: invariants after each, and
// every word compared with a straight recomputation.
#include <gtest/gtest.h>

#include <random>

#include "tests/engine/core_harness.h"

namespace tessera::testing {
namespace {

// Prompts come from few families, so that they share prefixes of many lengths; pictures from a
// small set.
std::shared_ptr<PreparedRequest> RandomRequest(std::mt19937_64& random, bool pictures) {
  const auto below = [&](uint64_t limit) { return random() % limit; };
  auto request = FakeRequest(below(3), static_cast<int>(1 + below(90)));
  request->max_tokens = static_cast<int32_t>(1 + below(40));
  request->n = below(4) == 0 ? static_cast<int32_t>(2 + below(3)) : 1;
  request->cache_salt = FakeDigest(below(2));
  if (below(2) == 0) request->sampling.temperature = 0.7f;
  request->sampling.seed = below(3);
  if (below(4) == 0) request->sampling.frequency_penalty = 0.5f;
  if (below(4) == 0)
    request->min_tokens = static_cast<int32_t>(below(static_cast<uint64_t>(request->max_tokens)));
  if (below(4) == 0) request->end_ids.clear();
  if (below(4) == 0) request->stop_token_ids = {7};
  if (below(3) == 0) request->sampling.logprobs = 2;
  if (!pictures || below(3) == 0) return request;
  int32_t mark = static_cast<int32_t>(below(20));
  while (mark < static_cast<int32_t>(request->prompt.size()) && request->media.size() < 3) {
    const uint64_t seed = below(4);
    request->media.push_back(FakePicture(seed, static_cast<int>(1 + seed), mark));
    request->prompt[mark] = 61;
    mark += below(2) == 0 ? 1 : static_cast<int32_t>(1 + below(30));
  }
  return request;
}

struct Walk {
  const char* name;
  FakeModel model;
  EngineOptions options;
  bool pictures;
};

void PrintTo(const Walk& walk, std::ostream* out) { *out << walk.name; }

class RandomWalk : public ::testing::TestWithParam<Walk> {};

TEST_P(RandomWalk, WordsAreRightAndNothingLeaks) {
  const Walk& walk = GetParam();
  int64_t preemptions = 0, cached = 0, steps = 0, hits = 0, accepted = 0, ahead = 0;
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    CoreHarness harness(walk.model, walk.options);
    std::vector<uint64_t> cancelled;
    for (int round = 0; round < 40; ++round) {
      for (uint64_t i = random() % 5; i > 0; --i) {
        auto request = RandomRequest(random, walk.pictures);
        if (CheckRequest(*request, harness.runner(), harness.core().max_running()))
          harness.Add(std::move(request));
      }
      for (uint64_t i = random() % 8; i > 0; --i) harness.Step();
      const std::vector<uint64_t> ids = harness.ids();
      if (!ids.empty() && random() % 4 == 0) {
        const uint64_t id = ids[random() % ids.size()];
        if (!harness.answer(id).end) {
          harness.core().Cancel(id);
          harness.core().CheckInvariants();
          cancelled.push_back(id);
        }
      }
    }
    harness.RunAll();
    harness.ExpectNothingHeld();
    for (uint64_t id : harness.ids()) {
      if (std::find(cancelled.begin(), cancelled.end(), id) == cancelled.end()) {
        harness.ExpectRightWords(id);
        continue;
      }
      harness.Read(id);
      EXPECT_EQ(harness.answer(id).error(), ErrorCode::kCancelled);
      for (const auto& [choice, answer] : harness.answer(id).choices) {
        EXPECT_EQ(answer.end->reason == FinishReason::kCancelled,
                  answer.ids.size() < FakeAnswer(walk.model, harness.spec(id), choice).size());
      }
    }
    if (HasFatalFailure()) return;
    preemptions += harness.core().stats().preemptions;
    cached += harness.core().stats().cached_tokens;
    hits += harness.core().stats().image_cache_hits;
    steps += harness.core().stats().steps;
    accepted += harness.core().stats().accepted_tokens;
    ahead += harness.core().stats().steps_ahead;
  }
  EXPECT_GT(steps, walk.options.speculate > 0 ? 1000 : 2000);
  if (walk.options.speculate > 0) {
    EXPECT_GT(accepted, 1000);
  }
  if (walk.model.behind) {
    EXPECT_GT(ahead, 200);
  } else {
    EXPECT_EQ(ahead, 0);
  }
  if (walk.options.prefix_cache) {
    EXPECT_GT(cached, 0);
  } else {
    EXPECT_EQ(cached, 0);
  }
  if (walk.pictures) {
    EXPECT_GT(hits, 0);
  }
  if (walk.model.self_pages < 30) {
    EXPECT_GT(preemptions, 20);
  }
}

FakeModel Model(int self_pages, int cross_pages, int max_rows, UnseenRows unseen) {
  FakeModel model;
  model.self_pages = self_pages;
  model.cross_pages = cross_pages;
  model.max_rows = max_rows;
  model.unseen_rows = unseen;
  return model;
}

FakeModel Behind(FakeModel model) {
  model.behind = true;
  return model;
}

FakeModel Repeating(FakeModel model) {
  model.answers = 2;
  return model;
}

INSTANTIATE_TEST_SUITE_P(
    All, RandomWalk,
    ::testing::Values(
        Walk{"roomy_text", Model(400, 0, 64, UnseenRows::kZero), {}, false},
        Walk{"tight_text", Model(24, 0, 64, UnseenRows::kZero), {}, false},
        Walk{"tiny_steps", Model(40, 12, 5, UnseenRows::kZero), {.encode_budget_flops = 1}, true},
        Walk{"zero", Model(200, 24, 64, UnseenRows::kZero), {}, true},
        Walk{"zero_tight", Model(22, 8, 32, UnseenRows::kZero), {.max_running = 8}, true},
        Walk{"attend", Model(200, 24, 64, UnseenRows::kAttend), {}, true},
        Walk{"attend_tight", Model(22, 12, 16, UnseenRows::kAttend), {}, true},
        Walk{"speculating",
             Repeating(Model(200, 24, 64, UnseenRows::kZero)),
             {.speculate = 5},
             true},
        Walk{"speculating_tight",
             Repeating(Model(22, 12, 16, UnseenRows::kAttend)),
             {.speculate = 9},
             true},
        Walk{"behind_text", Behind(Model(400, 0, 64, UnseenRows::kZero)), {}, false},
        Walk{"behind_tight_text", Behind(Model(24, 0, 64, UnseenRows::kZero)), {}, false},
        Walk{"behind", Behind(Model(200, 24, 64, UnseenRows::kZero)), {}, true},
        Walk{"behind_tight", Behind(Model(22, 12, 16, UnseenRows::kAttend)), {}, true},
        Walk{"no_prefix_cache",
             Model(28, 12, 64, UnseenRows::kZero),
             {.prefix_cache = false},
             true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tessera::testing
