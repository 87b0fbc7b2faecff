// The attention micro-kernel of the vector tiers: one block of 64 keys for up to 8 query vectors
// (AttendBlock).
//
// Scores: a vector holds 16 keys of one feature, a query's feature is broadcast: each score is one
// chain of FMAs in ascending d. Output: a vector holds 16 features of one key's V, the key's weight
// is broadcast: each output is one chain in ascending key. Both are the same whatever queries share
// the call.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/simd.h"

namespace tessera::cpu {

// A divisor of 4: blocks of 16 keys whose scores for kQueries queries are accumulated at once.
template <typename V, int kQueries>
constexpr int KeyBlocksAtOnce() {
  return V::kRegisters >= 32 ? (kQueries <= 4 ? 4 : 2) : kQueries == 1 ? 4 : kQueries == 2 ? 2 : 1;
}
// Vectors of features whose outputs are accumulated at once.
template <typename V, int kQueries>
constexpr int FeaturesAtOnce() {
  return KeyBlocksAtOnce<V, kQueries>();
}

// scores[i][16 b + lane] for blocks first .. first + kBlocks.
template <typename V, typename Format, int kQueries, int kBlocks>
TESSERA_INLINE void Scores(const AttendBlock& block, int first, float (&scores)[kQueries][64]) {
  using Type = typename Format::Type;
  const Type* k[kBlocks];
  V acc[kQueries][kBlocks];
  Unroll<V, kBlocks>([&](auto b) __attribute__((always_inline)) {
    k[b] = Numbers<Format>(block.k[first + b]);
    Unroll<V, kQueries>([&](auto i) __attribute__((always_inline)) { acc[i][b] = V::Zero(); });
  });
  const float* q = block.q;
  const int64_t stride = block.padded_dim;
  for (int d = 0; d < block.head_dim; ++d, ++q) {
    V keys[kBlocks];
    Unroll<V, kBlocks>([&](auto b) __attribute__((always_inline)) {
      keys[b] = Format::Load(k[b] + d * kLanes);
    });
    Unroll<V, kQueries>([&](auto i) __attribute__((always_inline)) {
      const V x = V::Set1(q[i * stride]);
      Unroll<V, kBlocks>([&](auto b) __attribute__((always_inline)) {
        acc[i][b] = V::Fma(x, keys[b], acc[i][b]);
      });
    });
  }
  const V scale = V::Set1(block.scale);
  Unroll<V, kQueries>([&](auto i) __attribute__((always_inline)) {
    Unroll<V, kBlocks>([&](auto b) __attribute__((always_inline)) {
      V score = acc[i][b];
      if constexpr (HasScales<Format>())
        score = score * V::Load(static_cast<const float*>(block.k[first + b]));
      (score * scale).Store(scores[i] + (first + b) * kLanes);
    });
  });
}

// exp(x) for x <= 0: Exp without its upper limit, the same bits.
template <typename V>
TESSERA_INLINE V ExpOfNegative(V x) {
  return ExpBelow<V>(V::Max(V::Set1(-88.0f), x));
}

// Scores of kBlocks blocks become weights exp(s - m'), 0 where not visible. `max` is m', which is
// not less than any score that is seen. Returns the weights' sum.
template <typename V, int kBlocks>
TESSERA_INLINE float Soften(float* scores, uint64_t visible, float max) {
  const V max_lanes = V::Set1(max);
  V weights[4] = {V::Zero(), V::Zero(), V::Zero(), V::Zero()};
  Unroll<V, kBlocks>([&](auto b) __attribute__((always_inline)) {
    const auto bits = static_cast<uint32_t>(visible >> (b * kLanes)) & 0xffffu;
    const V below = V::Select(bits, V::Load(scores + b * kLanes), max_lanes) - max_lanes;
    weights[b] = V::Select(bits, ExpOfNegative(below), V::Zero());
    weights[b].Store(scores + b * kLanes);
  });
  return ((weights[0] + weights[1]) + (weights[2] + weights[3])).Sum();
}

// The greater of `max` and the scores that are seen.
template <typename V, int kBlocks>
TESSERA_INLINE float MaxOfSeen(const float* scores, uint64_t visible, float max) {
  V most = V::Set1(max);
  Unroll<V, kBlocks>([&](auto b) __attribute__((always_inline)) {
    const auto bits = static_cast<uint32_t>(visible >> (b * kLanes)) & 0xffffu;
    most = V::Max(most, V::Select(bits, V::Load(scores + b * kLanes), V::Set1(-__builtin_inff())));
  });
  return most.MaxLane();
}

// Scores of the queries in `active` become weights; max and sum move on; shrink[i] is exp(m - m'),
// 1 of the others.
template <typename V, int kQueries, int kBlocks>
TESSERA_INLINE void SoftenQueries(const AttendBlock& block, uint32_t active, float (*scores)[64],
                                  float* shrink) {
  static_assert(kQueries <= kLanes);
  float max[kQueries];
  float drop[kLanes] = {};
  for (int i = 0; i < kQueries; ++i) {
    if (((active >> i) & 1) == 0) continue;
    max[i] = MaxOfSeen<V, kBlocks>(scores[i], block.visible[i], block.max[i]);
    drop[i] = block.max[i] - max[i];
  }
  float shrinks[kLanes];
  ExpOfNegative(V::Load(drop)).Store(shrinks);
  for (int i = 0; i < kQueries; ++i) {
    shrink[i] = 1.0f;
    if (((active >> i) & 1) == 0) continue;
    shrink[i] = shrinks[i];
    const float sum = Soften<V, kBlocks>(scores[i], block.visible[i], max[i]);
    block.sum[i] = block.sum[i] * shrink[i] + sum;
    block.max[i] = max[i];
  }
}

// out[i][features] = out * shrink[i] + sum over `keys` of weight * V, for kQueries queries from
// `first` on that share the keys. Queries whose bit in `active` is not set are computed with the
// others and thrown away.
template <typename V, typename Format, int kQueries, int kVectors, bool kWhole>
TESSERA_INLINE void Outputs(const AttendBlock& block, int first, uint32_t active,
                            const float (*weights)[64], const float* shrink, const uint8_t* keys,
                            int key_count, int feature, int lanes) {
  using Type = typename Format::Type;
  V acc[kQueries][kVectors];
  float* out = block.out + int64_t{first} * block.padded_dim + feature;
  Unroll<V, kQueries>([&](auto i) __attribute__((always_inline)) {
    const V c = V::Set1(shrink[first + i]);
    Unroll<V, kVectors>([&](auto f) __attribute__((always_inline)) {
      acc[i][f] = V::Load(out + i * block.padded_dim + f * kLanes) * c;
    });
  });
  for (int n = 0; n < key_count; ++n) {
    const int key = keys[n];
    const Type* v =
        Numbers<Format>(block.v[key / kLanes]) + (key % kLanes) * block.head_dim + feature;
    V values[kVectors];
    Unroll<V, kVectors>([&](auto f) __attribute__((always_inline)) {
      if constexpr (kWhole) {
        values[f] = Format::Load(v + f * kLanes);
      } else {
        values[f] = Format::LoadPart(v + f * kLanes, lanes);
      }
    });
    Unroll<V, kQueries>([&](auto i) __attribute__((always_inline)) {
      const V p = V::Set1(weights[first + i][key]);
      Unroll<V, kVectors>([&](auto f) __attribute__((always_inline)) {
        acc[i][f] = V::Fma(p, values[f], acc[i][f]);
      });
    });
  }
  Unroll<V, kQueries>([&](auto i) __attribute__((always_inline)) {
    if (((active >> (first + i)) & 1) != 0)
      Unroll<V, kVectors>([&](auto f) __attribute__((always_inline)) {
        acc[i][f].Store(out + i * block.padded_dim + f * kLanes);
      });
  });
}

template <typename V, typename Format, int kQueries>
TESSERA_INLINE void AllFeatures(const AttendBlock& block, int first, uint32_t active,
                                const float (*weights)[64], const float* shrink,
                                const uint8_t* keys, int key_count) {
  constexpr int kVectors = FeaturesAtOnce<V, kQueries>();
  int feature = 0;
  for (; feature + kVectors * kLanes <= block.head_dim; feature += kVectors * kLanes)
    Outputs<V, Format, kQueries, kVectors, true>(block, first, active, weights, shrink, keys,
                                                 key_count, feature, 0);
  for (; feature + kLanes <= block.head_dim; feature += kLanes)
    Outputs<V, Format, kQueries, 1, true>(block, first, active, weights, shrink, keys, key_count,
                                          feature, 0);
  if (feature < block.head_dim)
    Outputs<V, Format, kQueries, 1, false>(block, first, active, weights, shrink, keys, key_count,
                                           feature, block.head_dim - feature);
}

// Keys 0, 1, ..., 63.
struct EveryKey {
  uint8_t of[64];
  constexpr EveryKey() : of() {
    for (int key = 0; key < 64; ++key) of[key] = static_cast<uint8_t>(key);
  }
};
inline constexpr EveryKey kEveryKey;

// The keys of `bits` in ascending order, in `room` where they are not the first ones.
struct KeyList {
  const uint8_t* keys;
  int count;
};
template <typename V>
TESSERA_INLINE KeyList ListKeys(uint64_t bits, uint8_t* room) {
  if ((bits & (bits + 1)) == 0) return {kEveryKey.of, __builtin_popcountll(bits)};
  int count = 0;
  for (; bits != 0; bits &= bits - 1) room[count++] = static_cast<uint8_t>(__builtin_ctzll(bits));
  return {room, count};
}

template <typename V, typename Format, int kQueries>
void AttendQueries(const AttendBlock& block) {
  alignas(64) float weights[kQueries][64];
  constexpr int kBlocks = KeyBlocksAtOnce<V, kQueries>();
  int b = 0;
  for (; b + kBlocks <= block.key_blocks; b += kBlocks)
    Scores<V, Format, kQueries, kBlocks>(block, b, weights);
  for (; b < block.key_blocks; ++b) Scores<V, Format, kQueries, 1>(block, b, weights);

  uint64_t all = ~uint64_t{0}, any = 0;
  uint32_t active = 0;
  for (int i = 0; i < block.queries; ++i) {
    if (block.visible[i] == 0) continue;
    active |= 1u << i;
    all &= block.visible[i];
    any |= block.visible[i];
  }
  float shrink[kQueries];
  switch (block.key_blocks) {
    case 1: SoftenQueries<V, kQueries, 1>(block, active, weights, shrink); break;
    case 2: SoftenQueries<V, kQueries, 2>(block, active, weights, shrink); break;
    case 3: SoftenQueries<V, kQueries, 3>(block, active, weights, shrink); break;
    default: SoftenQueries<V, kQueries, 4>(block, active, weights, shrink); break;
  }
  // From here on a weight counts the numbers of V, not their values.
  if constexpr (HasScales<Format>()) {
    for (int i = 0; i < kQueries; ++i) {
      if (((active >> i) & 1) == 0) continue;
      for (int k = 0; k < block.key_blocks; ++k)
        (V::Load(weights[i] + k * kLanes) * V::Load(static_cast<const float*>(block.v[k])))
            .Store(weights[i] + k * kLanes);
    }
  }
  // All queries together up to the first key that one sees and another does not, then each on its
  // own, in order.
  const uint64_t differ = all ^ any;
  const uint64_t together = differ == 0 ? ~uint64_t{0} : (differ & (~differ + 1)) - 1;
  uint8_t room[64];
  const KeyList shared = ListKeys<V>(all & together, room);
  AllFeatures<V, Format, kQueries>(block, 0, active, weights, shrink, shared.keys, shared.count);
  if (differ == 0) return;
  for (int i = 0; i < kQueries; ++i) {
    if (((active >> i) & 1) == 0) continue;
    const KeyList own = ListKeys<V>(block.visible[i] & ~together, room);
    shrink[i] = 1.0f;
    if (own.count > 0)
      AllFeatures<V, Format, 1>(block, i, active, weights, shrink, own.keys, own.count);
  }
}

template <typename V, template <typename> typename Format>
void AttendOf(const AttendBlock& block) {
  if (block.queries == 1) return AttendQueries<V, Format<V>, 1>(block);
  if (block.queries == 2) return AttendQueries<V, Format<V>, 2>(block);
  if constexpr (V::kRegisters < 32) {
    return AttendQueries<V, Format<V>, 4>(block);
  } else {
    if (block.queries <= 4) return AttendQueries<V, Format<V>, 4>(block);
    return AttendQueries<V, Format<V>, 8>(block);
  }
}

// 16 rows of `columns` numbers, `stride` apart, to [columns][16]: a block of keys.
template <typename V>
void TransposeBody(const float* from, int64_t stride, int64_t columns, float* to) {
  for (int64_t column = 0; column < columns; ++column)
    V::LoadStrided(from + column, static_cast<int32_t>(stride)).Store(to + column * kLanes);
}

}  // namespace tessera::cpu
