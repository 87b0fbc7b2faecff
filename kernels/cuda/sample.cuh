// What sampling does to a row of logits, as a block of kSampleThreads threads does it.
//
// Logits are looked at as keys: 32-bit integers in the logits' order. The order of candidates
// (logit descending, id ascending) is never made by sorting. A question about it ("which logit is
// the k-th", "where does the running weight pass this sum") is answered by radix select: a
// histogram of the keys says in which bin the answer lies, and the next histogram looks into that
// bin alone. All sums are integers, so their order does not matter (Alabi, Blelloch, Blanchard et
// al.: Fast k- selection algorithms for graphics processing units, JEA 2012).
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rows.h"
#include "kernels/sampling_constants.h"

namespace tessera::cuda {

inline constexpr uint32_t kSampleThreads = 512;
inline constexpr uint32_t kSampleWarps = kSampleThreads / kWarpSize;
inline constexpr uint32_t kBins = 2048;
inline constexpr uint32_t kBinsPerThread = kBins / kSampleThreads;

inline constexpr uint32_t kRemovedKey = 0x007fffff;   // of -inf: no candidate
inline constexpr uint32_t kInfinityKey = 0xff800000;  // of +inf
inline constexpr uint32_t kNanKey = 0xffffffff;

TESSERA_DEVICE uint32_t KeyOf(float l) {
  const auto bits = __builtin_bit_cast(uint32_t, l);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return kNanKey;
  if ((bits & 0x7fffffffu) == 0) return 0x80000000u;  // both zeros are one candidate's logit
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
TESSERA_DEVICE float LogitOf(uint32_t key) {
  return __builtin_bit_cast(float, (key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}
// As a double. By integers where the float is subnormal, which not every unit reads as it is.
TESSERA_DEVICE double Widen(float l) {
  const auto bits = __builtin_bit_cast(uint32_t, l);
  if ((bits & 0x7f800000u) != 0) return static_cast<double>(l);
  const double magnitude = dmul_rn(static_cast<double>(bits & 0x7fffffu), 0x1p-149);
  return (bits & 0x80000000u) != 0 ? -magnitude : magnitude;
}

// 2^d 2^power, operation for operation as kernels/sampling.cc.
TESSERA_DEVICE double Exp2Scaled(double d, int power) {
  constexpr SampleExp2Table kTable = kSampleExp2;
  auto whole = static_cast<int>(d);
  if (static_cast<double>(whole) > d) --whole;
  const double scale =
      __builtin_bit_cast(double, static_cast<uint64_t>(1023 + whole + power) << 52);
  const double fraction = dadd_rn(d, -static_cast<double>(whole));
  double sum = kTable.term[kSampleExp2Terms - 1];
#pragma unroll
  for (int n = kSampleExp2Terms - 2; n >= 0; --n)
    sum = dadd_rn(dmul_rn(sum, fraction), kTable.term[n]);
  return dmul_rn(sum, scale);
}

// What turns a key into a weight.
struct Weigher {
  double temperature;
  double z_max;
  float best;
  float cut;
  uint32_t best_key;

  TESSERA_DEVICE uint64_t operator()(uint32_t key) const {
    if (key == best_key) return uint64_t{1} << kSampleWeightBits;
    const float l = LogitOf(key);
    if (best - l > cut) return 0;
    const double d = dmul_rn(dadd_rn(ddiv_rn(Widen(l), temperature), -z_max), kSampleLog2E);
    if (!(d >= -kSampleWeightBits)) return 0;
    return static_cast<uint64_t>(Exp2Scaled(d, kSampleWeightBits));
  }
};

// Keys of a row, four neighbours at a time; ids beyond the vocabulary have key 0, below all others.
struct ChangedKeys {
  const uint32_t* keys;  // 16-byte aligned, zeros up to a multiple of four
  uint32_t vocab;

  TESSERA_DEVICE uint4 Four(uint32_t first) const {
    return ldg(reinterpret_cast<const uint4*>(keys + first));
  }
};
struct RawKeys {
  const float* logits;
  uint32_t vocab;
  bool vectors;

  TESSERA_DEVICE uint32_t One(uint32_t id) const {
    return id < vocab ? KeyOf(ldg(logits + id)) : 0;
  }
  TESSERA_DEVICE uint4 Four(uint32_t first) const {
    if (!vectors) return make_uint4(One(first), One(first + 1), One(first + 2), One(first + 3));
    const float4 l = ldg(reinterpret_cast<const float4*>(logits + first));
    return make_uint4(KeyOf(l.x), KeyOf(l.y), KeyOf(l.z), KeyOf(l.w));
  }
};
// body(id, key) over the whole row, each thread its part.
template <typename Keys, typename Body>
TESSERA_DEVICE void ForKeys(const Keys& keys, Body&& body) {
  for (uint32_t first = thread_x() * 4; first < keys.vocab; first += kSampleThreads * 4) {
    const uint4 four = keys.Four(first);
    body(first, four.x);
    body(first + 1, four.y);
    body(first + 2, four.z);
    body(first + 3, four.w);
  }
}

// Shared memory of a block, by address.
struct SampleShared {
  uint32_t low, high;  // [kBins] u32 each: sums of a bin
  uint32_t partials;   // [kSampleWarps] u64
  uint32_t answer;     // {u64 before, u32 bin}
};

// value of all threads put together by `op`, in every thread.
template <typename Op>
TESSERA_DEVICE uint64_t BlockReduce(const SampleShared& shared, uint64_t value, Op&& op) {
#pragma unroll
  for (uint32_t mask = kWarpSize / 2; mask > 0; mask /= 2) value = op(value, shfl_xor(value, mask));
  sync_threads();  // the last reduction has been read
  if (lane_id() == 0) sts(shared.partials + warp_id() * 8, value);
  sync_threads();
  value = lds<uint64_t>(shared.partials);
  for (uint32_t warp = 1; warp < kSampleWarps; ++warp)
    value = op(value, lds<uint64_t>(shared.partials + warp * 8));
  return value;
}
TESSERA_DEVICE uint64_t BlockSum(const SampleShared& shared, uint64_t value) {
  return BlockReduce(shared, value, [](uint64_t a, uint64_t b) { return a + b; });
}
TESSERA_DEVICE uint64_t BlockMax(const SampleShared& shared, uint64_t value) {
  return BlockReduce(shared, value, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
}

// The sum of `value` over the lanes up to this one.
template <typename T>
TESSERA_DEVICE T WarpScan(T value) {
#pragma unroll
  for (uint32_t step = 1; step < kWarpSize; step *= 2) {
    const T before = shfl_idx(value, lane_id() - step);
    if (lane_id() >= step) value += before;
  }
  return value;
}
// The sum of `value` over the threads before this one.
TESSERA_DEVICE uint64_t BlockScan(const SampleShared& shared, uint64_t value) {
  const uint64_t sum = WarpScan(value);
  sync_threads();
  if (lane_id() == kWarpSize - 1) sts(shared.partials + warp_id() * 8, sum);
  sync_threads();
  uint64_t before = 0;
  for (uint32_t warp = 0; warp < warp_id(); ++warp)
    before += lds<uint64_t>(shared.partials + warp * 8);
  return before + sum - value;
}

// The bin of the first histogram: linear in the logit, which spreads what a model puts out over
// many bins where the bits of a float would not. Bins rise as logits fall.
TESSERA_DEVICE uint32_t LinearBin(float best, uint32_t key) {
  constexpr float kBinsPerUnit = 64.0f;
  const float below = best - LogitOf(key);
  if (!(below > 0.0f)) return 0;
  return below >= (kBins - 1) / kBinsPerUnit ? kBins - 1
                                             : static_cast<uint32_t>(below * kBinsPerUnit);
}

// The first key in the order of candidates at which the running sum of amount(key) reaches
// `target`, and the sum before it. 0 < target <= the sum over all. Keys from `least_key` to
// `best_key`, the largest, count.
struct Crossing {
  uint32_t key;
  uint64_t before;
};
template <typename Keys, typename Amount>
TESSERA_DEVICE Crossing FindCrossing(const SampleShared& shared, const Keys& keys,
                                     uint32_t least_key, uint32_t best_key, uint64_t target,
                                     Amount&& amount) {
  const float best = LogitOf(best_key);
  Crossing at{best_key, 0};
  uint32_t low = least_key, high = best_key;
  bool linear = true;
  while (true) {
    uint32_t shift = 0;
    while (((high - low) >> shift) >= kBins) ++shift;
    for (uint32_t bin = thread_x(); bin < kBins; bin += kSampleThreads) {
      sts(shared.low + bin * 4, 0u);
      sts(shared.high + bin * 4, 0u);
    }
    sync_threads();
    ForKeys(keys, [&](uint32_t, uint32_t key) {
      if (key < low || key > high) return;
      const uint64_t sum = amount(key);
      if (sum == 0) return;
      const uint32_t bin = linear ? LinearBin(best, key) : (high - key) >> shift;
      const auto part = static_cast<uint32_t>(sum);
      const uint32_t carry = atomic_add_shared(shared.low + bin * 4, part) + part < part ? 1 : 0;
      const uint32_t rest = static_cast<uint32_t>(sum >> 32) + carry;
      if (rest != 0) atomic_add_shared(shared.high + bin * 4, rest);
    });
    sync_threads();
    uint64_t sums[kBinsPerThread], all = 0;
#pragma unroll
    for (uint32_t i = 0; i < kBinsPerThread; ++i) {
      const uint32_t bin = (thread_x() * kBinsPerThread + i) * 4;
      sums[i] = lds<uint32_t>(shared.low + bin) | uint64_t{lds<uint32_t>(shared.high + bin)} << 32;
      all += sums[i];
    }
    uint64_t running = at.before + BlockScan(shared, all);
#pragma unroll
    for (uint32_t i = 0; i < kBinsPerThread; ++i) {
      if (running < target && running + sums[i] >= target) {
        sts(shared.answer, running);
        sts(shared.answer + 8, thread_x() * kBinsPerThread + i);
      }
      running += sums[i];
    }
    sync_threads();
    at.before = lds<uint64_t>(shared.answer);
    const uint32_t bin = lds<uint32_t>(shared.answer + 8);  // written again behind more barriers
    if (linear) {
      // The keys of that bin are a stretch: its ends by halving.
      uint32_t least = low, most = high;
      for (uint32_t end = high; least < end;) {
        const uint32_t middle = least + (end - least) / 2;
        if (LinearBin(best, middle) <= bin)
          end = middle;
        else
          least = middle + 1;
      }
      for (uint32_t begin = least; begin < most;) {
        const uint32_t middle = most - (most - begin) / 2;
        if (LinearBin(best, middle) >= bin)
          begin = middle;
        else
          most = middle - 1;
      }
      low = least, high = most;
      linear = false;
      if (low == high) break;
    } else {
      high -= bin << shift;
      const uint32_t width = (1u << shift) - 1;
      low = high - low > width ? high - width : low;
      if (shift == 0) break;
    }
  }
  at.key = high;
  return at;
}

// found(rank, id) for the candidates whose key is `key` with rank < limit, ranks counted by id.
// Each warp looks through a stretch of ids, first for how many there are, then for which.
template <typename Keys, typename Found>
TESSERA_DEVICE void ForTies(const SampleShared& shared, const Keys& keys, uint32_t key,
                            uint64_t limit, Found&& found) {
  constexpr uint32_t kStep = kWarpSize * 4;
  const uint32_t stretch = (keys.vocab + kStep * kSampleWarps - 1) / (kStep * kSampleWarps) * kStep;
  const uint32_t begin = warp_id() * stretch;
  const uint32_t end = begin + stretch < keys.vocab ? begin + stretch : keys.vocab;
  uint32_t count = 0;
  for (uint32_t first = begin + lane_id() * 4; first < end; first += kStep) {
    const uint4 four = keys.Four(first);
    count += (four.x == key) + (four.y == key) + (four.z == key) + (four.w == key);
  }
  uint64_t rank = shfl_idx(BlockScan(shared, count), 0);
  for (uint32_t step = begin; step < end && rank < limit; step += kStep) {
    const uint32_t first = step + lane_id() * 4;
    const uint4 four = first < end ? keys.Four(first) : make_uint4(0, 0, 0, 0);
    const uint32_t ties = (four.x == key) + (four.y == key) + (four.z == key) + (four.w == key);
    if (ballot(ties != 0) == 0) continue;
    const uint32_t through = WarpScan(ties);
    uint64_t mine = rank + through - ties;
    if (four.x == key && mine < limit) found(mine, first);
    mine += four.x == key;
    if (four.y == key && mine < limit) found(mine, first + 1);
    mine += four.y == key;
    if (four.z == key && mine < limit) found(mine, first + 2);
    mine += four.z == key;
    if (four.w == key && mine < limit) found(mine, first + 3);
    rank += shfl_idx(through, kWarpSize - 1);
  }
}

}  // namespace tessera::cuda
