// Sample against its definition in ops.h, written out again here in the plainest way.
#include "kernels/sampling.h"

#include <algorithm>
#include <limits>
#include <random>

#include "kernels/cpu/kernels.h"
#include "kernels/factory.h"
#include "tests/ops/harness.h"

namespace tessera::ops_test {
namespace {

TEST(Philox, KnownAnswers) {
  // Random123's kat_vectors for philox4x32-10: counter, key, result.
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(SampleWeight, IsTheExponential) {
  EXPECT_EQ(SampleWeight(0), uint64_t{1} << 40);
  EXPECT_EQ(SampleWeight(-1), uint64_t{1} << 39);
  EXPECT_EQ(SampleWeight(-40), 1u);
  EXPECT_EQ(SampleWeight(-40.01), 0u);
  EXPECT_EQ(SampleWeight(-std::numeric_limits<double>::infinity()), 0u);
  EXPECT_EQ(SampleWeight(std::numeric_limits<double>::quiet_NaN()), 0u);
  uint64_t before = SampleWeight(-40);
  for (double d = -40; d <= 0; d += 1.0 / 1024) {
    const double exact = std::ldexp(std::exp2(d), 40);
    EXPECT_NEAR(static_cast<double>(SampleWeight(d)), exact, 1 + exact * 1e-13) << d;
    EXPECT_GE(SampleWeight(d), before) << d;
    before = SampleWeight(d);
  }
}

// The definition, by a full sort.
int32_t Plain(const Floats& logits, const SampleRow& row) {
  struct Entry {
    double l;
    int32_t id;
  };
  std::vector<Entry> entries;
  for (int32_t id = 0; id < std::ssize(logits); ++id) {
    float l = logits[static_cast<size_t>(id)];
    for (const LogitBias& bias : row.bias)
      if (bias.id == id) l += bias.bias;
    for (const TokenCount& count : row.counts)
      if (count.id == id) {
        l = l > 0 ? l / row.repetition_penalty : l * row.repetition_penalty;
        l -= row.frequency_penalty * static_cast<float>(count.in_output) +
             (count.in_output > 0 ? row.presence_penalty : 0.0f);
      }
    if (std::find(row.banned.begin(), row.banned.end(), id) == row.banned.end())
      entries.push_back({l, id});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.l > b.l || (a.l == b.l && a.id < b.id);
  });
  if (row.temperature == 0) return entries[0].id;
  std::vector<uint64_t> weights;
  for (const Entry& entry : entries)
    weights.push_back(SampleWeight((entry.l / row.temperature - entries[0].l / row.temperature) *
                                   1.4426950408889634));
  const auto sum_of = [&] {
    uint64_t sum = 0;
    for (uint64_t w : weights) sum += w;
    return sum;
  };
  if (row.top_k > 0 && weights.size() > static_cast<size_t>(row.top_k))
    weights.resize(static_cast<size_t>(row.top_k));
  if (row.top_p < 1) {
    const double enough = static_cast<double>(row.top_p) * static_cast<double>(sum_of());
    uint64_t running = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      running += weights[i];
      if (static_cast<double>(running) >= enough) weights.resize(i + 1);
    }
  }
  if (row.min_p > 0)
    while (weights.size() > 1 &&
           static_cast<double>(weights.back()) < static_cast<double>(row.min_p) * 0x1p40)
      weights.pop_back();
  const auto target = static_cast<uint64_t>(
      static_cast<unsigned __int128>(SampleBits(row.seed, row.position, row.choice)) * sum_of() >>
      64);
  uint64_t running = 0;
  for (size_t i = 0; i < weights.size(); ++i)
    if ((running += weights[i]) > target) return entries[i].id;
  return -1;
}

// Every tier's vectors give what the scalar definition gives, to the last bit.
TEST(SampleWeight, SumsOfWholeVocabularies) {
  std::mt19937 random(5);
  for (const float temperature : {0.05f, 0.7f, 1.0f, 3.0f, 1e-30f}) {
    std::vector<float> logits(1000 + 7);
    std::normal_distribution<float> normal(0, 9);
    for (float& l : logits) l = normal(random);
    logits[3] = -std::numeric_limits<float>::infinity();
    logits[900] = -1e30f;
    logits[10] = logits[11] = *std::max_element(logits.begin(), logits.end());
    const double z_max = static_cast<double>(logits[10]) / temperature;
    uint64_t expected = 0;
    for (float l : logits)
      expected += SampleWeight((static_cast<double>(l) / temperature - z_max) * kSampleLog2E);
    EXPECT_GE(expected, uint64_t{2} << 40);
    const auto size = std::ssize(logits);
    EXPECT_EQ(PlainSampleWeightSum(logits.data(), size, temperature, z_max), expected);
    for (const std::string& tier : AvailableCpuTiers()) {
      const cpu::Kernels* kernels = tier == "avx2"     ? cpu::Avx2Kernels()
                                    : tier == "avx512" ? cpu::Avx512Kernels()
                                                       : cpu::ReferenceKernels();
      EXPECT_EQ(kernels->sample_weight_sum(logits.data(), size, temperature, z_max), expected)
          << tier << " at " << temperature;
    }
  }
}

class Sampling : public BackendTest {
 protected:
  SampleResult One(const Floats& logits, SampleRow row) {
    const GuardedRows rows(backend(), 1, std::ssize(logits), 0, logits);
    SampleResult result;
    backend().Sample({.logits = rows.view(), .rows = {&row, 1}, .results = {&result, 1}});
    return result;
  }
};
// Tiers share the host code; one of each device is enough, and two thread counts.
INSTANTIATE_TEST_SUITE_P(Backends, Sampling, testing::Values(BackendsUnderTest().front()), NameOf);

TEST_P(Sampling, EqualsTheDefinition) {
  const int64_t vocab = 1500;
  const std::vector<TokenCount> counts = {{3, 1, 0}, {5, 0, 2}, {700, 4, 1}, {9, 0, 1}};
  const std::vector<LogitBias> bias = {
      {4, 2.5f}, {700, -1.0f}, {5000, 9.0f}};  // an id beyond the vocabulary is ignored
  const std::vector<int32_t> banned = {7, 1200, -1};
  Floats logits = Random(4 * vocab, 1000, 4.0f);
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);  // many ties
  const GuardedRows device_rows(backend(), 4, vocab, 5, logits);
  std::vector<SampleRow> rows;
  for (int32_t logits_row = 0; logits_row < 4; ++logits_row)
    for (float temperature : {0.0f, 0.3f, 1.0f, 5.0f})
      for (int32_t top_k : {0, 1, 40, 2000})
        for (float top_p : {1.0f, 0.9f, 0.3f, 1e-6f})
          for (float min_p : {0.0f, 0.05f, 1.0f})
            for (bool penalties : {false, true}) {
              SampleRow row{.logits_row = logits_row,
                            .temperature = temperature,
                            .top_k = top_k,
                            .top_p = top_p,
                            .min_p = min_p,
                            .seed = rows.size() * 77,
                            .choice = static_cast<uint32_t>(rows.size() % 3),
                            .position = static_cast<uint32_t>(rows.size())};
              if (penalties) {
                row.repetition_penalty = 1.3f, row.frequency_penalty = 0.2f,
                row.presence_penalty = 0.5f;
                row.counts = counts, row.bias = bias, row.banned = banned;
              }
              rows.push_back(row);
            }
  std::vector<SampleResult> results(rows.size());
  backend().Sample({.logits = device_rows.view(), .rows = rows, .results = results});
  for (size_t i = 0; i < rows.size(); ++i) {
    const Floats mine(logits.begin() + rows[i].logits_row * vocab,
                      logits.begin() + (rows[i].logits_row + 1) * vocab);
    EXPECT_EQ(results[i].id, Plain(mine, rows[i])) << "row " << i;
    EXPECT_FALSE(results[i].invalid);
  }
  ExpectSameBits(device_rows.Get(), logits, "logits are left alone");
}

TEST_P(Sampling, DrawsTheDistribution) {
  const Floats logits = {1.0f, 0.0f, 2.0f, -1.0f, 2.0f};
  const int draws = 20000;
  std::vector<double> got(logits.size(), 0), want;
  double sum = 0;
  for (float l : logits) want.push_back(std::exp(l / 0.8)), sum += want.back();
  for (int i = 0; i < draws; ++i)
    ++got[static_cast<size_t>(
        One(logits, {.temperature = 0.8f, .seed = 42, .position = static_cast<uint32_t>(i)}).id)];
  for (size_t i = 0; i < logits.size(); ++i) {
    const double p = want[i] / sum;
    EXPECT_NEAR(got[i] / draws, p, 5 * std::sqrt(p * (1 - p) / draws))
        << i;  // five standard deviations
  }
}

TEST_P(Sampling, SeedPositionAndChoiceEachMatter) {
  const Floats logits(1000, 0.0f);
  const auto draw = [&](uint64_t seed, uint32_t position, uint32_t choice) {
    return One(logits, {.temperature = 1, .seed = seed, .choice = choice, .position = position}).id;
  };
  EXPECT_EQ(draw(1, 2, 3), draw(1, 2, 3));
  EXPECT_NE(draw(1, 2, 3), draw(2, 2, 3));
  EXPECT_NE(draw(1, 2, 3), draw(1, 3, 3));
  EXPECT_NE(draw(1, 2, 3), draw(1, 2, 4));
  EXPECT_NE(draw(1, 2, 3), draw(1 + (uint64_t{1} << 32), 2, 3));
}

TEST_P(Sampling, BadLogitsAndNothingLeft) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(One({1, nan, 2}, {}).invalid);
  EXPECT_TRUE(One({1, infinity, 2}, {}).invalid);
  EXPECT_TRUE(One({-infinity, -infinity}, {.temperature = 1}).invalid);
  const std::vector<int32_t> both = {0, 1};
  EXPECT_TRUE(One({1, 2}, {.banned = both}).invalid);
  const std::vector<LogitBias> bias = {{1, nan}};
  EXPECT_TRUE(One({1, 2}, {.bias = bias}).invalid);
  const SampleResult result = One({-infinity, -3, -infinity}, {.temperature = 1.5f});
  EXPECT_FALSE(result.invalid);
  EXPECT_EQ(result.id, 1);
}

TEST_P(Sampling, ExtremeTemperatures) {
  const Floats logits = {-4.0f, -3.0f, -3.0f, -5.0f};
  EXPECT_EQ(One(logits, {.temperature = 1e-45f, .seed = 1}).id == 3, false);
  for (uint32_t position = 0; position < 50; ++position) {
    const int32_t id = One(logits, {.temperature = 1e-30f, .position = position}).id;
    EXPECT_TRUE(id == 1 || id == 2) << id;  // both largest stay candidates
    EXPECT_GE(One(logits, {.temperature = 1e30f, .position = position}).id, 0);
  }
}

TEST_P(Sampling, LogprobsAreTheModelsOwn) {
  Floats logits = Random(900, 1100, 3.0f);
  logits[17] = logits[400] = logits[3] = 11.0f;  // ties: by id
  double sum = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l) - 11);
  const std::vector<int32_t> banned = {3};
  const std::vector<LogitBias> bias = {{600, 100.0f}};
  const SampleResult result = One(logits, {.logprobs = 5, .bias = bias, .banned = banned});
  EXPECT_EQ(result.id, 600);
  EXPECT_NEAR(result.logprob, logits[600] - 11 - std::log(sum), 1e-5);
  ASSERT_EQ(result.alternatives, 5);
  EXPECT_EQ(result.top[0].id, 3);
  EXPECT_EQ(result.top[1].id, 17);
  EXPECT_EQ(result.top[2].id, 400);
  EXPECT_NEAR(result.top[0].logprob, -std::log(sum), 1e-5);
  for (int i = 1; i < 5; ++i)
    EXPECT_LE(result.top[static_cast<size_t>(i)].logprob,
              result.top[static_cast<size_t>(i - 1)].logprob);
  EXPECT_EQ(One({1, 2}, {.logprobs = 20}).alternatives, 2);
  EXPECT_EQ(One({1, 2}, {.logprobs = 0}).alternatives, 0);
  EXPECT_NEAR(One({0, 0}, {.logprobs = 0}).logprob, -std::log(2.0), 1e-6);
}

}  // namespace
}  // namespace tessera::ops_test
