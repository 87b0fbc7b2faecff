#include "kernels/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/sampling_sum.h"

namespace tessera {
namespace {

// 2^d for -1000 < d < 1000 and a power of two to go with it. Whole part by truncation: exact, and
// no call of libm.
double Exp2Scaled(double d, int power) {
  auto whole = static_cast<int>(d);
  if (static_cast<double>(whole) > d) --whole;
  const double scale = std::bit_cast<double>(static_cast<uint64_t>(1023 + whole + power) << 52);
  return SampleExp2Fraction(d - whole) * scale;
}

// Order of candidates: logit descending, id ascending. Scores divided by a temperature in fp64 keep
// this order: two fp32 numbers that differ are too far apart to meet in an fp64 quotient.
bool Before(const SampleCandidate& a, const SampleCandidate& b) {
  return a.l > b.l || (a.l == b.l && a.id < b.id);
}

// The maximum, and whether every logit is a number below +inf. In 16 chains, which the compiler
// turns into vectors; a maximum has no order.
struct Range {
  float max = -std::numeric_limits<float>::infinity();
  bool is_number = true;
};
Range RangeOf(std::span<const float> logits) {
  constexpr size_t kChains = 16;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float most[kChains];
  std::fill(most, most + kChains, -kInfinity);
  int bad[kChains] = {};
  size_t i = 0;
  for (; i + kChains <= logits.size(); i += kChains) {
    for (size_t chain = 0; chain < kChains; ++chain) {
      const float l = logits[i + chain];
      most[chain] = l > most[chain] ? l : most[chain];
      bad[chain] |= static_cast<int>(!(l < kInfinity));
    }
  }
  Range range;
  for (; i < logits.size(); ++i) {
    range.max = std::max(range.max, logits[i]);
    range.is_number &= logits[i] < kInfinity;
  }
  for (size_t chain = 0; chain < kChains; ++chain) {
    range.max = std::max(range.max, most[chain]);
    range.is_number &= bad[chain] == 0;
  }
  return range;
}

// The first id that has the largest logit.
int32_t FirstAt(std::span<const float> logits, float value) {
  constexpr size_t kBlock = 64;
  size_t i = 0;
  for (; i + kBlock <= logits.size(); i += kBlock) {
    int found = 0;
    for (size_t k = 0; k < kBlock; ++k) found |= static_cast<int>(logits[i + k] == value);
    if (found != 0) break;
  }
  while (i < logits.size() && logits[i] != value) ++i;
  return static_cast<int32_t>(i);
}

// Candidates in order, gathered and sorted only as far as they are asked for: a draw rarely needs
// more than a few hundred of 128,000. Candidates come in layers of logits, each below the last one,
// so that a layer is a stretch of the order.
class OrderedPrefix {
 public:
  // Of `logits`: what is at -inf is no candidate. Layers begin below `max`, some multiples of
  // `temperature`.
  OrderedPrefix(std::span<const float> logits, float max, float temperature,
                std::span<SampleCandidate> scratch)
      : logits_(logits), all_(scratch), max_(max), temperature_(temperature) {}
  // Of candidates that are gathered already.
  explicit OrderedPrefix(std::span<SampleCandidate> all)
      : all_(all), gathered_(all.size()), layer_(kLayers) {}

  const SampleCandidate& at(size_t i) {
    while (i >= sorted_) {
      if (sorted_ == gathered_) Gather();
      const size_t next = std::min(gathered_, std::max<size_t>(sorted_ + 128, sorted_ * 4));
      if (next < gathered_)
        std::nth_element(all_.begin() + sorted_, all_.begin() + next, all_.begin() + gathered_,
                         Before);
      std::sort(all_.begin() + sorted_, all_.begin() + next, Before);
      sorted_ = next;
    }
    return all_[i];
  }

 private:
  static constexpr int kLayers = 4;
  static constexpr float kDepth[kLayers] = {3, 8, 20, std::numeric_limits<float>::infinity()};

  void Gather() {
    const float floor = max_ - kDepth[layer_] * temperature_;
    for (size_t id = 0; id < logits_.size(); ++id) {
      const float l = logits_[id];
      if (l > floor && !(l > above_)) all_[gathered_++] = {l, static_cast<int32_t>(id)};
    }
    above_ = floor;
    ++layer_;
  }

  const std::span<const float> logits_;
  const std::span<SampleCandidate> all_;
  const float max_ = 0, temperature_ = 0;
  size_t gathered_ = 0;
  size_t sorted_ = 0;
  int layer_ = 0;
  float above_ = std::numeric_limits<float>::infinity();  // what is above it is gathered
};

// log(sum of exp(l)) of finite or -inf logits with a maximum above -inf. The sum is kept in
// integers (SampleLogNormaliser), so that its order does not matter.
double LogSumExp(std::span<const float> logits, float max) {
  uint64_t high = 0, low = 0;
  for (float l : logits) {
    const double d = (static_cast<double>(l) - max) * kSampleLog2E;
    if (!(d > -64)) continue;  // below half an ulp of the sum even a million times over
    const double term = Exp2Scaled(d, kSampleWeightBits);
    const auto whole = static_cast<uint64_t>(term);
    high += whole;
    low += static_cast<uint64_t>((term - static_cast<double>(whole)) * 0x1p40);
  }
  return SampleLogNormaliser(max, high, low);
}

void FillLogprobs(std::span<const float> logits, float max, const SampleRow& row,
                  SampleResult& result) {
  const double normaliser = LogSumExp(logits, max);
  const auto logprob = [&](int32_t id) { return static_cast<float>(logits[id] - normaliser); };
  result.logprob = logprob(result.id);
  // Best first, equal ones by id: insertion into a short list.
  const int wanted =
      static_cast<int>(std::min<int64_t>(std::min(row.logprobs, kMaxLogprobs), std::ssize(logits)));
  int count = 0;
  for (int32_t id = 0; wanted > 0 && id < std::ssize(logits); ++id) {
    if (count == wanted && !(logits[id] > result.top[count - 1].logprob)) continue;
    int at = count < wanted ? count++ : count - 1;
    for (; at > 0 && logits[id] > result.top[at - 1].logprob; --at)
      result.top[at] = result.top[at - 1];
    result.top[at] = {.id = id, .logprob = logits[id]};
  }
  for (int i = 0; i < count; ++i) result.top[i].logprob = logprob(result.top[i].id);
  result.alternatives = count;
}

}  // namespace

double SampleExp2Fraction(double fraction) {
  double sum = kSampleExp2.term[kSampleExp2Terms - 1];
  for (int n = kSampleExp2Terms - 2; n >= 0; --n) sum = sum * fraction + kSampleExp2.term[n];
  return sum;
}

uint64_t SampleWeight(double d) {
  if (!(d >= -kSampleWeightBits)) return 0;
  return static_cast<uint64_t>(Exp2Scaled(d, kSampleWeightBits));
}

double SampleLogNormaliser(float max, uint64_t high, uint64_t low) {
  return max + std::log(static_cast<double>(high) * 0x1p-40 + static_cast<double>(low) * 0x1p-80);
}

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

uint64_t SampleBits(uint64_t seed, uint32_t position, uint32_t choice) {
  const auto words = Philox4x32({position, choice, 0, 0},
                                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return words[0] | uint64_t{words[1]} << 32;
}

uint64_t PlainSampleWeightSum(const float* l, int64_t n, double temperature, double z_max) {
  struct Plain;
  return SampleWeightSumOf<Plain>(l, n, temperature, z_max);
}

namespace {

// Steps 3 and 4. `all`: the sum of the weights of all `kept` candidates.
template <typename Weight, typename AllWeights>
int32_t DrawFrom(OrderedPrefix& ordered, size_t kept, const SampleRow& row, Weight&& weight,
                 AllWeights&& all) {
  // `kept` shrinks to the length of the prefix that stays; all three cuts leave a prefix.
  uint64_t sum = 0;
  if (row.top_k > 0 && static_cast<size_t>(row.top_k) < kept) {
    kept = static_cast<size_t>(row.top_k);
    for (size_t i = 0; i < kept; ++i) sum += weight(ordered.at(i).l);
  } else {
    sum = all();
  }
  if (row.top_p < 1) {
    const double enough = static_cast<double>(row.top_p) * static_cast<double>(sum);
    uint64_t running = 0;
    size_t count = 0;
    do {
      running += weight(ordered.at(count++).l);
    } while (count < kept && static_cast<double>(running) < enough);
    kept = count;
    sum = running;
  }
  if (row.min_p > 0) {
    const double least =
        static_cast<double>(row.min_p) * static_cast<double>(uint64_t{1} << kSampleWeightBits);
    uint64_t running = 0;
    size_t count = 0;
    while (count < kept) {
      const uint64_t w = weight(ordered.at(count).l);
      if (count > 0 && static_cast<double>(w) < least) break;
      running += w;
      ++count;
    }
    kept = count;
    sum = running;
  }
  const uint64_t u = SampleBits(row.seed, row.position, row.choice);
  const auto target = static_cast<uint64_t>((static_cast<unsigned __int128>(u) * sum) >> 64);
  uint64_t running = 0;
  for (size_t i = 0; i < kept; ++i) {
    const SampleCandidate& candidate = ordered.at(i);
    running += weight(candidate.l);
    if (running > target) return candidate.id;
  }
  return ordered.at(0).id;
}

// A row that changes no logit: the logits are read where they are.
int32_t DrawUnchanged(std::span<const float> logits, float max, const SampleRow& row,
                      std::span<SampleCandidate> scratch, SampleWeightSum sum) {
  if (!(row.temperature > 0)) return FirstAt(logits, max);
  const double temperature = row.temperature, z_max = static_cast<double>(max) / temperature;
  const auto weight = [&](float l) {
    return SampleWeight((static_cast<double>(l) / temperature - z_max) * kSampleLog2E);
  };
  size_t kept = logits.size();
  if (row.top_k > 0 || row.min_p > 0) {  // only then does it matter how many are at -inf
    kept = static_cast<size_t>(std::count_if(logits.begin(), logits.end(), [](float l) {
      return l > -std::numeric_limits<float>::infinity();
    }));
  }
  OrderedPrefix ordered(logits, max, row.temperature, scratch);
  return DrawFrom(ordered, kept, row, weight,
                  [&] { return sum(logits.data(), std::ssize(logits), temperature, z_max); });
}

}  // namespace

SampleResult SampleOne(std::span<const float> logits, const SampleRow& row,
                       std::span<SampleCandidate> scratch, SampleWeightSum sum) {
  SampleResult result;
  const auto vocab = static_cast<int64_t>(logits.size());
  // The raw distribution's maximum, and whether every logit is a number. +inf has no distribution
  // either.
  const auto [raw_max, is_number] = RangeOf(logits);
  result.invalid = true;
  if (!is_number || raw_max == -std::numeric_limits<float>::infinity()) return result;
  if (row.bias.empty() && row.counts.empty() && row.banned.empty()) {
    result.invalid = false;
    result.id = DrawUnchanged(logits, raw_max, row, scratch, sum);
    if (row.logprobs >= 0) FillLogprobs(logits, raw_max, row, result);
    return result;
  }

  // Step 1. Later steps see the changed logits in `scratch`, where candidate i is still id i.
  for (int64_t id = 0; id < vocab; ++id)
    scratch[id] = {.l = logits[id], .id = static_cast<int32_t>(id)};
  const auto known = [&](int32_t id) { return id >= 0 && id < vocab; };
  for (const LogitBias& bias : row.bias)
    if (known(bias.id)) scratch[bias.id].l += bias.bias;
  for (const TokenCount& count : row.counts) {
    if (!known(count.id)) continue;
    float& l = scratch[count.id].l;
    if (count.in_prompt > 0 || count.in_output > 0)
      l = l > 0 ? l / row.repetition_penalty : l * row.repetition_penalty;
    if (count.in_output > 0)
      l -= row.frequency_penalty * static_cast<float>(count.in_output) + row.presence_penalty;
  }
  for (int32_t id : row.banned)
    if (known(id)) scratch[id].l = -std::numeric_limits<float>::infinity();

  // Step 2. What is at -inf is out; the best one is wanted in either case.
  size_t kept = 0;
  SampleCandidate best{.l = -std::numeric_limits<float>::infinity(), .id = -1};
  for (int64_t id = 0; id < vocab; ++id) {
    const SampleCandidate candidate = scratch[id];
    if (!(candidate.l > -std::numeric_limits<float>::infinity())) {
      if (candidate.l != candidate.l) return result;  // a bias or penalty made NaN
      continue;
    }
    if (candidate.l > best.l) best = candidate;
    scratch[kept++] = candidate;
  }
  if (best.id < 0) return result;
  result.invalid = false;
  result.id = best.id;

  if (row.temperature > 0) {
    const double z_max = static_cast<double>(best.l) / row.temperature;
    const auto weight = [&](float l) {
      return l == best.l
                 ? uint64_t{1} << kSampleWeightBits
                 : SampleWeight((static_cast<double>(l) / row.temperature - z_max) * kSampleLog2E);
    };
    OrderedPrefix ordered(scratch.first(kept));
    result.id = DrawFrom(ordered, kept, row, weight, [&] {
      uint64_t all = 0;
      for (size_t i = 0; i < kept; ++i) all += weight(scratch[i].l);
      return all;
    });
  }
  if (row.logprobs >= 0) FillLogprobs(logits, raw_max, row, result);
  return result;
}

}  // namespace tessera
