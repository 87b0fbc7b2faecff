// The sampling kernel against SampleOne: the same token and the same log-probabilities, bit for
// bit, over thousands of random rows of every option, with ties, infinities and NaN.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/cuda/sample_plan.h"
#include "kernels/sampling.h"
#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {
namespace {

struct Logits {
  Logits(Floats values, int64_t rows, int64_t vocab, int64_t gap, int64_t lead)
      : host(std::move(values)),
        vocab(vocab),
        device(RowType::kF32, rows, vocab, gap, lead, host) {}
  std::span<const float> Row(int64_t row) const {
    return std::span(host).subspan(static_cast<size_t>(row * vocab), static_cast<size_t>(vocab));
  }
  const Floats host;
  const int64_t vocab;
  const DeviceRows device;
};

std::vector<SampleResult> SampleOnDevice(const DeviceRows& logits, int64_t vocab,
                                         const std::vector<SampleRow>& rows) {
  const cuda::SamplePlan plan = cuda::PlanSample(rows);
  const DeviceArray<cuda::SampleTask> tasks(plan.tasks);
  const DeviceArray<cuda::SampleCount> counts(plan.counts);
  const DeviceArray<cuda::SampleBias> biases(plan.biases);
  const DeviceArray<int32_t> banned(plan.banned);
  const DeviceBytes keys(
      static_cast<size_t>(cuda::SampleBlocks(std::ssize(rows)) * cuda::SampleKeysStride(vocab)) *
      sizeof(uint32_t));
  const DeviceArray<cuda::SampleOutput> outputs(std::vector<cuda::SampleOutput>(rows.size()));
  const DeviceArray<int32_t> ids(std::vector<int32_t>(rows.size(), -7));
  ExpectRan(cuda::LaunchSample({.logits = static_cast<const float*>(logits.data()),
                                .logits_stride = logits.stride(),
                                .tasks = tasks.get(),
                                .counts = counts.get(),
                                .bias = biases.get(),
                                .banned = banned.get(),
                                .keys = static_cast<uint32_t*>(keys.data()),
                                .outputs = outputs.get(),
                                .ids = ids.get(),
                                .rows = static_cast<int32_t>(rows.size()),
                                .vocab = static_cast<int32_t>(vocab)},
                               TestStream()),
            "sample");
  const std::vector<cuda::SampleOutput> got = outputs.Get();
  const std::vector<int32_t> got_ids = ids.Get();
  std::vector<SampleResult> results;
  for (size_t i = 0; i < rows.size(); ++i) {
    results.push_back(cuda::SampleResultOf(got[i], plan.tasks[i]));
    EXPECT_EQ(got_ids[i], got[i].id);
  }
  return results;
}

void ExpectEqual(const Logits& logits, const std::vector<SampleRow>& rows,
                 const std::string& what) {
  const std::vector<SampleResult> got = SampleOnDevice(logits.device, logits.vocab, rows);
  std::vector<SampleCandidate> scratch(static_cast<size_t>(logits.vocab));
  for (size_t i = 0; i < rows.size(); ++i) {
    const SampleResult want = SampleOne(logits.Row(rows[i].logits_row), rows[i], scratch);
    ASSERT_EQ(got[i].invalid, want.invalid) << what << " row " << i;
    ASSERT_EQ(got[i].id, want.id) << what << " row " << i;
    ASSERT_EQ(got[i].logprob, want.logprob) << what << " row " << i;
    ASSERT_EQ(got[i].alternatives, want.alternatives) << what << " row " << i;
    for (size_t a = 0; a < static_cast<size_t>(want.alternatives); ++a) {
      ASSERT_EQ(got[i].top[a].id, want.top[a].id) << what << " row " << i << " alternative " << a;
      ASSERT_EQ(got[i].top[a].logprob, want.top[a].logprob) << what << " row " << i;
    }
  }
}

// Every choice of options over one set of logits.
std::vector<SampleRow> EveryOption(int32_t logits_rows, int step) {
  std::vector<SampleRow> rows;
  int number = 0;
  for (int32_t logits_row = 0; logits_row < logits_rows; ++logits_row)
    for (float temperature : {0.0f, 0.3f, 1.0f, 5.0f})
      for (int32_t top_k : {0, 1, 40, 100000})
        for (float top_p : {1.0f, 0.9f, 0.3f, 1e-6f, 0.0f})
          for (float min_p : {0.0f, 0.05f, 1.0f, 1.5f}) {
            if (++number % step != 0) continue;
            rows.push_back({.logits_row = logits_row,
                            .temperature = temperature,
                            .top_k = top_k,
                            .top_p = top_p,
                            .min_p = min_p,
                            .seed = static_cast<uint64_t>(number) * 77,
                            .choice = static_cast<uint32_t>(number % 3),
                            .position = static_cast<uint32_t>(number),
                            .logprobs = number % 5 == 0 ? number % 25 - 1 : -1});
          }
  return rows;
}

Floats Tied(Floats logits) {
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);
  return logits;
}

TEST(SampleKernel, EqualsSampleOneForEveryOption) {
  const int64_t vocab = 1500;
  const Logits logits(Tied(Random(3 * vocab, 1000, 4.0f)), 3, vocab, 0, 0);
  const std::vector<SampleRow> rows = EveryOption(3, 2);
  ExpectEqual(logits, rows, "options");
}

TEST(SampleKernel, EqualsSampleOneWithPenalties) {
  const int64_t vocab = 1003;
  const Logits logits(Tied(Random(2 * vocab, 1001, 4.0f)), 2, vocab, 2, 1);
  const float infinity = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  // Out of order and repeated: entries apply in the order given
  const std::vector<TokenCount> counts = {{700, 4, 1}, {3, 1, 0}, {5, 0, 2}, {9, 0, 1},
                                          {3, 1, 2},   {8, 0, 0}, {-4, 1, 1}};
  const std::vector<LogitBias> bias = {{700, -1.0f}, {4, 2.5f},   {5000, 9.0f},    {1003, 9.0f},
                                       {4, 0.1f},    {9, -0.25f}, {900, -infinity}},
                               forced = {{77, infinity}}, broken = {{77, nan}},
                               cancelled = {{12, infinity}, {12, -infinity}};
  const std::vector<int32_t> banned = {1200, 7, -1, 7, 12},
                             most =
                                 [&] {
                                   std::vector<int32_t> all;
                                   for (int32_t id = 0; id < vocab; ++id)
                                     if (id % 400 != 3) all.push_back(id);
                                   return all;
                                 }(),
                             every = [&] {
                               std::vector<int32_t> all(static_cast<size_t>(vocab));
                               std::iota(all.begin(), all.end(), 0);
                               return all;
                             }();
  std::vector<SampleRow> rows = EveryOption(2, 7);
  for (size_t i = 0; i < rows.size(); ++i) {
    SampleRow& row = rows[i];
    row.repetition_penalty = i % 2 == 0 ? 1.3f : 1.0f;
    row.frequency_penalty = i % 3 == 0 ? 0.2f : 0.0f;
    row.presence_penalty = i % 5 == 0 ? -0.5f : 0.4f;
    row.counts = counts;
    if (i % 4 != 0) row.bias = bias;
    if (i % 11 == 0) row.bias = forced;
    if (i % 13 == 0) row.bias = broken;
    if (i % 17 == 0) row.bias = cancelled;
    if (i % 6 != 0) row.banned = banned;
    if (i % 19 == 0) row.banned = most;
    if (i % 23 == 0) row.banned = every;
  }
  ExpectEqual(logits, rows, "penalties");
}

TEST(SampleKernel, EqualsSampleOneAtEdges) {
  const float infinity = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Floats> edges = {
      {1},
      {-infinity},
      {1, nan, 2},
      {1, infinity, 2},
      {-infinity, -infinity},
      {-infinity, -3, -infinity},
      {0.0f, -0.0f, 0.0f, -1e-20f},
      {-4, -3, -3, -5},
      {3e38f, -3e38f, 3e38f, 1},
      {1e-30f, 2e-30f, -1e-30f, 0, 1e-30f},
      {5, 5, 5, 5, 5, 5, 5},
      // A bin of the first histogram that has a few more floats than a power of two: its last one
      {1 - 0x1p-22f, 0.5f - 0x1p-22f + 0x1p-25f, 0.25f, 0.5f - 0x1p-23f},
      {-std::numeric_limits<float>::max(), -infinity, -std::numeric_limits<float>::max(),
       -infinity},
  };
  for (const Floats& edge : edges) {
    const Logits logits(edge, 1, std::ssize(edge), 0, 0);
    std::vector<SampleRow> rows;
    for (float temperature : {0.0f, 1.0f, 1e-30f, 1e-38f, 1e30f})
      for (int32_t top_k : {0, 1, 2, 3})
        for (float top_p : {1.0f, 0.5f, -1.0f})
          for (float min_p : {0.0f, 0.5f})
            rows.push_back({.temperature = temperature,
                            .top_k = top_k,
                            .top_p = top_p,
                            .min_p = min_p,
                            .seed = rows.size(),
                            .position = static_cast<uint32_t>(rows.size()),
                            .logprobs = static_cast<int32_t>(rows.size() % 7) - 1});
    ExpectEqual(logits, rows, fmt::format("edge of {} logits, first {}", edge.size(), edge[0]));
  }
}

// Random options over random shapes of logits: flat, peaked, few distinct values, wide.
TEST(SampleKernel, EqualsSampleOneOnRandomRows) {
  std::mt19937_64 bits(5);
  const auto pick = [&](std::initializer_list<float> of) { return of.begin()[bits() % of.size()]; };
  for (int64_t vocab : {17, 260, 2049}) {
    const int64_t logits_rows = 12;
    Floats values = Random(logits_rows * vocab, static_cast<uint64_t>(vocab), 1.0f);
    for (int64_t r = 0; r < logits_rows; ++r) {
      const float scale = std::initializer_list<float>{1e-3f, 1, 3, 8, 40, 1e4f}.begin()[r % 6];
      for (int64_t i = 0; i < vocab; ++i) {
        float& l = values[static_cast<size_t>(r * vocab + i)];
        l *= scale;
        if (r % 4 == 1) l = std::round(l);
        if (r % 5 == 2 && i % 3 == 0) l = -std::numeric_limits<float>::infinity();
      }
    }
    const Logits logits(values, logits_rows, vocab, vocab % 4 == 0 ? 4 : 1, 0);
    std::vector<SampleRow> rows;
    for (int i = 0; i < 700; ++i)
      rows.push_back({.logits_row = static_cast<int32_t>(bits() % 12),
                      .temperature = pick({0.0f, 0.05f, 0.7f, 1.0f, 1.3f, 20.0f}),
                      .top_k = static_cast<int32_t>(pick({0, 0, 1, 5, 50, 500})),
                      .top_p = pick({1.0f, 1.0f, 0.99f, 0.8f, 0.2f}),
                      .min_p = pick({0.0f, 0.0f, 0.01f, 0.3f}),
                      .seed = bits(),
                      .choice = static_cast<uint32_t>(bits() % 4),
                      .position = static_cast<uint32_t>(bits() % 1000),
                      .logprobs = bits() % 4 == 0 ? static_cast<int32_t>(bits() % 21) : -1});
    ExpectEqual(logits, rows, fmt::format("vocabulary of {}", vocab));
  }
}

TEST(SampleKernel, HasNoRacesInAnyOrder) {
  const int64_t vocab = 300;
  const Logits logits(Tied(Random(2 * vocab, 21, 4.0f)), 2, vocab, 0, 0);
  const std::vector<TokenCount> counts = {{3, 1, 2}, {5, 0, 2}};
  const std::vector<LogitBias> bias = {{3, 1.5f}};
  const std::vector<int32_t> banned = {3, 9};
  std::vector<SampleRow> rows = EveryOption(1, 23);
  for (size_t i = 0; i < rows.size(); i += 2)
    rows[i].counts = counts, rows[i].bias = bias, rows[i].banned = banned,
    rows[i].repetition_penalty = 1.1f;
  ForSchedules(4,
               [&](uint64_t seed) { ExpectEqual(logits, rows, fmt::format("schedule {}", seed)); });
}

// More rows than blocks, and ids beside the outputs.
TEST(SampleKernel, BlocksTakeRowsInTurn) {
  const int64_t vocab = 42;  // rows are aligned, and end with half of what is read at a time
  const Logits logits(Random(5 * vocab, 31, 2.0f), 5, vocab, 2, 0);
  std::vector<SampleRow> rows;
  for (int i = 0; i < cuda::kMaxSampleBlocks * 2 + 3; ++i)
    rows.push_back({.logits_row = i % 5,
                    .temperature = 1,
                    .seed = 9,
                    .position = static_cast<uint32_t>(i),
                    .logprobs = i % 3});
  ExpectEqual(logits, rows, "rows");
}

// A vocabulary as large as models have, as peaked as models are.
TEST(SampleKernel, LargeVocabulary) {
  const int64_t vocab = 128256;
  Floats values = Random(vocab, 41, 2.5f);
  for (size_t i = 0; i < 30; ++i) values[i * 4001] += 12.0f;
  const Logits logits(values, 1, vocab, 0, 0);
  ExpectEqual(logits,
              {{.temperature = 0, .logprobs = 20},
               {.temperature = 1, .seed = 3, .logprobs = 5},
               {.temperature = 0.8f, .top_k = 50, .top_p = 0.95f, .seed = 4},
               {.temperature = 2, .top_p = 0.9f, .min_p = 0.01f, .seed = 5}},
              "large");
}

}  // namespace
}  // namespace tessera::cuda_test
