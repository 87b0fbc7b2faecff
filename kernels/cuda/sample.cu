// Sample: the token that SampleOne (kernels/sampling.h) draws, from the same logits, by the same
// integers. A block takes a row; rows beyond the grid follow in turn.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/sample.cuh"

namespace tessera::cuda {

struct SampleLaunch {
  SampleParams op;
  int32_t vectors = 0;  // rows of logits are 16-byte aligned, the vocabulary a multiple of four
};

// Of the raw logits: the largest key, which is kInfinityKey or above if one is no number below
// +inf; keys to `to`.
TESSERA_DEVICE uint32_t ReadLogits(const SampleShared& shared, const RawKeys& raw, uint32_t* to) {
  uint32_t most = 0;
  const auto see = [&](uint32_t key) { most = key > most ? key : most; };
  for (uint32_t first = thread_x() * 4; first < raw.vocab; first += kSampleThreads * 4) {
    const uint4 four = raw.Four(first);
    stg(reinterpret_cast<uint4*>(to + first), four);
    see(four.x);
    see(four.y);
    see(four.z);
    see(four.w);
  }
  return static_cast<uint32_t>(BlockMax(shared, most));
}

// Step 1: bias, penalties, bans. Entries are sorted by id, and the thread of an id's first entry
// does all of that id's in their order.
template <typename IdAt, typename Apply>
TESSERA_DEVICE void ForEntries(int32_t begin, int32_t end, uint32_t vocab, IdAt&& id_at,
                               Apply&& apply) {
  if (begin == end) return;
  for (int32_t i = begin + static_cast<int32_t>(thread_x()); i < end; i += kSampleThreads) {
    const int32_t id = id_at(i);
    if (id < 0 || static_cast<uint32_t>(id) >= vocab) continue;
    if (i > begin && id_at(i - 1) == id) continue;
    for (int32_t same = i; same < end && id_at(same) == id; ++same) apply(same, id);
  }
  sync_threads();
}

TESSERA_DEVICE void ChangeLogits(const SampleParams& p, const SampleTask* task, uint32_t vocab,
                                 uint32_t* keys) {
  ForEntries(
      ldg(&task->bias_begin), ldg(&task->bias_end), vocab,
      [&](int32_t i) { return ldg(&p.bias[i].id); },
      [&](int32_t i, int32_t id) {
        stg(keys + id, KeyOf(fadd_rn(LogitOf(ldg(keys + id)), ldg(&p.bias[i].bias))));
      });
  const float repetition = ldg(&task->repetition_penalty);
  const float frequency = ldg(&task->frequency_penalty);
  const float presence = ldg(&task->presence_penalty);
  ForEntries(
      ldg(&task->counts_begin), ldg(&task->counts_end), vocab,
      [&](int32_t i) { return ldg(&p.counts[i].id); },
      [&](int32_t i, int32_t id) {
        float l = LogitOf(ldg(keys + id));
        const int32_t in_output = ldg(&p.counts[i].in_output);
        if (ldg(&p.counts[i].in_prompt) > 0 || in_output > 0)
          l = l > 0.0f ? fdiv_rn(l, repetition) : fmul_rn(l, repetition);
        if (in_output > 0)
          l = fadd_rn(l, -fadd_rn(fmul_rn(frequency, static_cast<float>(in_output)), presence));
        stg(keys + id, KeyOf(l));
      });
  ForEntries(
      ldg(&task->banned_begin), ldg(&task->banned_end), vocab,
      [&](int32_t i) { return ldg(p.banned + i); },
      [&](int32_t, int32_t id) { stg(keys + id, kRemovedKey); });
}

// The least integer whose double is at least `enough`, and at least 1. enough < 2^63.
TESSERA_DEVICE uint64_t LeastReaching(double enough) {
  if (!(enough > 1.0)) return 1;
  uint64_t high = static_cast<uint64_t>(enough) + 1;
  uint64_t low = high > 2048 ? high - 2048 : 1;  // an ulp below 2^63 is at most 1024
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (static_cast<double>(middle) >= enough)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// Steps 3 and 4. What is kept is always a prefix of the order: all keys above `floor_key` and the
// first `ties` of it by id.
TESSERA_DEVICE uint32_t Draw(const SampleShared& shared, const SampleTask* task,
                             const ChangedKeys& keys, uint32_t best_key, uint64_t candidates) {
  Weigher weigh;
  weigh.temperature = ldg(&task->temperature);
  weigh.best = LogitOf(best_key);
  weigh.z_max = ddiv_rn(Widen(weigh.best), weigh.temperature);
  weigh.cut = ldg(&task->cut);
  weigh.best_key = best_key;
  const auto weight_above = [&](uint32_t key) {
    uint64_t sum = 0;
    ForKeys(keys, [&](uint32_t, uint32_t other) {
      if (other > key) sum += weigh(other);
    });
    return BlockSum(shared, sum);
  };

  constexpr uint32_t kLeast = kRemovedKey + 1;
  uint32_t floor_key = kRemovedKey;
  uint64_t ties = 0, sum = 0;
  const int32_t top_k = ldg(&task->top_k);
  if (top_k > 0 && static_cast<uint64_t>(top_k) < candidates) {
    const Crossing at = FindCrossing(shared, keys, kLeast, best_key, static_cast<uint64_t>(top_k),
                                     [](uint32_t) { return uint64_t{1}; });
    floor_key = at.key;
    ties = static_cast<uint64_t>(top_k) - at.before;
    sum = weight_above(floor_key) + ties * weigh(floor_key);
  } else {
    sum = weight_above(kRemovedKey);
  }
  if (ldg(&task->use_top_p) != 0) {
    const uint64_t enough = LeastReaching(dmul_rn(ldg(&task->top_p), static_cast<double>(sum)));
    if (enough <= sum) {
      const Crossing at = FindCrossing(shared, keys, kLeast, best_key, enough, weigh);
      const uint64_t weight = weigh(at.key);
      floor_key = at.key;
      ties = (enough - at.before + weight - 1) / weight;
      sum = at.before + ties * weight;
    }
  }
  if (ldg(&task->use_min_p) != 0) {
    const double least = ldg(&task->least);
    if (static_cast<double>(uint64_t{1} << kSampleWeightBits) < least) {
      floor_key = best_key;  // not even the best is enough: it stays, alone
      ties = 1;
      sum = uint64_t{1} << kSampleWeightBits;
    } else {
      // The first in the order that is too light: the largest such key.
      uint64_t light = 0;
      ForKeys(keys, [&](uint32_t, uint32_t key) {
        const bool kept = key > floor_key || (key == floor_key && ties > 0);
        if (kept && key > light && static_cast<double>(weigh(key)) < least) light = key;
      });
      light = BlockMax(shared, light);
      if (light != 0) {
        floor_key = static_cast<uint32_t>(light);
        ties = 0;
        sum = weight_above(floor_key);
      }
    }
  }
  const uint64_t target = umulhi64(ldg(&task->bits), sum);
  const Crossing at = FindCrossing(shared, keys, kLeast, best_key, target + 1, weigh);
  const uint64_t rank = (target - at.before) / weigh(at.key);
  ForTies(shared, keys, at.key, rank + 1, [&](uint64_t mine, uint32_t id) {
    if (mine == rank) sts(shared.answer, id);
  });
  sync_threads();
  return lds<uint32_t>(shared.answer);
}

// The raw distribution: its sum, and its best `wanted` in order.
TESSERA_DEVICE void Describe(const SampleShared& shared, const RawKeys& raw, uint32_t best_key,
                             uint32_t wanted, SampleOutput* out) {
  const double max = Widen(LogitOf(best_key));
  uint64_t high = 0, low = 0;
  ForKeys(raw, [&](uint32_t, uint32_t key) {
    if (key <= kRemovedKey) return;
    const double d = dmul_rn(dadd_rn(Widen(LogitOf(key)), -max), kSampleLog2E);
    if (!(d > -64.0)) return;
    const double term = Exp2Scaled(d, kSampleWeightBits);
    const auto whole = static_cast<uint64_t>(term);
    high += whole;
    low += static_cast<uint64_t>(dmul_rn(dadd_rn(term, -static_cast<double>(whole)), 0x1p40));
  });
  high = BlockSum(shared, high);
  low = BlockSum(shared, low);
  if (thread_x() == 0) {
    stg(&out->sum_high, high);
    stg(&out->sum_low, low);
  }
  if (wanted == 0) return;

  // Above the key of the last one wanted in any order, then the ties by id; then in order. What is
  // at -inf is no candidate, but may be reported.
  const Crossing at = FindCrossing(shared, raw, kRemovedKey, best_key, wanted,
                                   [](uint32_t) { return uint64_t{1}; });
  const uint32_t list = shared.low, length = shared.answer + 12;
  if (thread_x() == 0) sts(length, 0u);
  sync_threads();
  ForKeys(raw, [&](uint32_t id, uint32_t key) {
    if (key > at.key)
      sts(list + atomic_add_shared(length, 1) * 8, uint64_t{key} << 32 | (0xffffffffu - id));
  });
  ForTies(shared, raw, at.key, wanted - at.before, [&](uint64_t rank, uint32_t id) {
    sts(list + static_cast<uint32_t>(at.before + rank) * 8,
        uint64_t{at.key} << 32 | (0xffffffffu - id));
  });
  sync_threads();
  if (thread_x() < wanted) {
    const uint64_t mine = lds<uint64_t>(list + thread_x() * 8);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < wanted; ++i) rank += lds<uint64_t>(list + i * 8) > mine ? 1 : 0;
    const uint32_t id = 0xffffffffu - static_cast<uint32_t>(mine);
    stg(out->top_id + rank, static_cast<int32_t>(id));
    stg(out->top_logit + rank, ldg(raw.logits + id));
  }
}

TESSERA_KERNEL TESSERA_BOUNDS(kSampleThreads, 1) void SampleKernel(SampleLaunch args) {
  const SampleParams& p = args.op;
  SHARED_ARRAY(uint32_t, bins_low, kBins);
  SHARED_ARRAY(uint32_t, bins_high, kBins);
  SHARED_ARRAY(uint64_t, partials, kSampleWarps);
  SHARED_ARRAY(uint64_t, answer, 2);
  const SampleShared shared{smem_u32(bins_low), smem_u32(bins_high), smem_u32(partials),
                            smem_u32(answer)};
  const auto vocab = static_cast<uint32_t>(p.vocab);
  uint32_t* keys = p.keys + int64_t{block_x()} * ((p.vocab + 31) / 32 * 32);
  for (int32_t row = static_cast<int32_t>(block_x()); row < p.rows;
       row += static_cast<int32_t>(grid_x())) {
    const SampleTask* task = p.tasks + row;
    SampleOutput* out = p.outputs + row;
    const float* logits = p.logits + ldg(&task->logits_row) * p.logits_stride;
    const RawKeys raw{logits, vocab, args.vectors != 0};
    const ChangedKeys changed{keys, vocab};
    const uint32_t raw_max = ReadLogits(shared, raw, keys);
    bool valid = raw_max < kInfinityKey && raw_max > kRemovedKey;
    uint32_t id = 0;
    if (valid) {
      ChangeLogits(p, task, vocab, keys);
      // The best, its first id, and how many are left. Keys above +inf are NaN.
      uint64_t best = 0, candidates = 0;
      ForKeys(changed, [&](uint32_t i, uint32_t key) {
        const uint64_t entry = uint64_t{key} << 32 | (0xffffffffu - i);
        best = entry > best ? entry : best;
        candidates += key > kRemovedKey ? 1 : 0;
      });
      best = BlockMax(shared, best);
      candidates = BlockSum(shared, candidates);
      const auto best_key = static_cast<uint32_t>(best >> 32);
      valid = best_key != kNanKey && best_key > kRemovedKey;
      id = 0xffffffffu - static_cast<uint32_t>(best);
      if (valid && ldg(&task->temperature) > 0.0)
        id = Draw(shared, task, changed, best_key, candidates);
    }
    const int32_t alternatives = ldg(&task->alternatives);
    uint32_t wanted = 0;
    if (valid && alternatives >= 0) {
      wanted = static_cast<uint32_t>(alternatives) < vocab ? alternatives : vocab;
      Describe(shared, raw, raw_max, wanted, out);
    }
    if (thread_x() == 0) {
      const int32_t drawn = valid ? static_cast<int32_t>(id) : -1;
      stg(&out->id, drawn);
      stg(&out->invalid, valid ? 0 : 1);
      stg(&out->raw_max, LogitOf(raw_max));
      stg(&out->id_logit, valid ? ldg(logits + id) : 0.0f);
      stg(&out->alternatives, static_cast<int32_t>(wanted));
      if (p.ids != nullptr) stg(p.ids + row, drawn);
    }
    sync_threads();  // shared memory and keys go to the next row
  }
}

LaunchStatus LaunchSample(const SampleParams& params, Stream stream) {
  if (params.rows == 0) return {};
  const Grid grid{static_cast<unsigned>(SampleBlocks(params.rows))};
  const SampleLaunch p{
      params, params.vocab % kRun == 0 && RunsAligned(params.logits, params.logits_stride, 4)};
  return launch(&SampleKernel, grid, kSampleThreads, 0, stream, p);
}

}  // namespace tessera::cuda
