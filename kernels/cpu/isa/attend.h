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

// Scores become weights exp(s - m'), 0 where not visible; max and sum move on. Returns exp(m - m').
template <typename V>
TESSERA_INLINE float Soften(float* scores, int key_blocks, uint64_t visible, float* running_max,
                            float* running_sum) {
  const V minus_infinity = V::Set1(-__builtin_inff());
  V masked[4];
  V most = V::Set1(*running_max);
  for (int b = 0; b < 4; ++b) {
    const auto bits = static_cast<uint32_t>(visible >> (b * kLanes)) & 0xffffu;
    masked[b] = b < key_blocks ? V::Select(bits, V::Load(scores + b * kLanes), minus_infinity)
                               : minus_infinity;
    most = V::Max(most, masked[b]);
  }
  const float max = most.MaxLane();
  const V max_lanes = V::Set1(max);
  V weights[4];
  for (int b = 0; b < 4; ++b) {
    const auto bits = static_cast<uint32_t>(visible >> (b * kLanes)) & 0xffffu;
    weights[b] = V::Select(bits, Exp(masked[b] - max_lanes), V::Zero());
    weights[b].Store(scores + b * kLanes);
  }
  float shrink[kLanes];
  Exp(V::Set1(*running_max) - max_lanes).Store(shrink);
  *running_sum =
      *running_sum * shrink[0] + ((weights[0] + weights[1]) + (weights[2] + weights[3])).Sum();
  *running_max = max;
  return shrink[0];
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

template <typename V>
TESSERA_INLINE int ListKeys(uint64_t bits, uint8_t* keys) {
  int count = 0;
  for (; bits != 0; bits &= bits - 1) keys[count++] = static_cast<uint8_t>(__builtin_ctzll(bits));
  return count;
}

template <typename V, typename Format, int kQueries>
void AttendQueries(const AttendBlock& block) {
  alignas(64) float weights[kQueries][64];
  constexpr int kBlocks = KeyBlocksAtOnce<V, kQueries>();
  int b = 0;
  for (; b + kBlocks <= block.key_blocks; b += kBlocks)
    Scores<V, Format, kQueries, kBlocks>(block, b, weights);
  for (; b < block.key_blocks; ++b) Scores<V, Format, kQueries, 1>(block, b, weights);

  float shrink[kQueries];
  uint64_t all = ~uint64_t{0}, any = 0;
  uint32_t active = 0;
  for (int i = 0; i < kQueries; ++i) {
    shrink[i] = 1.0f;
    if (i >= block.queries || block.visible[i] == 0) continue;
    active |= 1u << i;
    all &= block.visible[i];
    any |= block.visible[i];
    shrink[i] =
        Soften<V>(weights[i], block.key_blocks, block.visible[i], block.max + i, block.sum + i);
    // From here on a weight counts the numbers of V, not their values.
    if constexpr (HasScales<Format>()) {
      for (int k = 0; k < block.key_blocks; ++k)
        (V::Load(weights[i] + k * kLanes) * V::Load(static_cast<const float*>(block.v[k])))
            .Store(weights[i] + k * kLanes);
    }
  }
  // All queries together up to the first key that one sees and another does not, then each on its
  // own, in order.
  const uint64_t differ = all ^ any;
  const uint64_t together = differ == 0 ? ~uint64_t{0} : (differ & (~differ + 1)) - 1;
  uint8_t keys[64];
  int count = ListKeys<V>(all & together, keys);
  AllFeatures<V, Format, kQueries>(block, 0, active, weights, shrink, keys, count);
  if (differ == 0) return;
  for (int i = 0; i < kQueries; ++i) {
    if (((active >> i) & 1) == 0) continue;
    count = ListKeys<V>(block.visible[i] & ~together, keys);
    shrink[i] = 1.0f;
    if (count > 0) AllFeatures<V, Format, 1>(block, i, active, weights, shrink, keys, count);
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

}  // namespace tessera::cpu
