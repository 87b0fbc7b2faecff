// The function table of a vector tier.
#pragma once

#include "kernels/cpu/isa/attend.h"
#include "kernels/cpu/isa/matmul_tile.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/sampling_sum.h"

namespace tessera::cpu {

// Enough chains to hide an FMA's latency and keep both ports busy.
template <typename V>
int64_t FmaLoopBody(int64_t rounds, float* sink) {
  constexpr int kChains = V::kRegisters >= 32 ? 16 : 6;
  const V a = V::Set1(0.999f), b = V::Set1(1e-3f);
  V acc[kChains];
  Unroll<V, kChains>([&](auto i) __attribute__((always_inline)) {
    acc[i] = V::Set1(
        static_cast<float>(static_cast<int>(i)));  // all different, or the compiler computes fewer
  });
  for (int64_t round = 0; round < rounds; ++round)
    Unroll<V, kChains>([&](auto i)
                           __attribute__((always_inline)) { acc[i] = V::Fma(acc[i], a, b); });
  V sum = b;
  Unroll<V, kChains>([&](auto i) __attribute__((always_inline)) { sum = sum + acc[i]; });
  *sink += sum.Sum();
  return rounds * 2 * kChains * kLanes;
}

template <typename V>
void ReadLoopBody(const void* from, int64_t bytes, float* sink) {
  const auto* p = static_cast<const float*>(from);
  V sums[4] = {V::Zero(), V::Zero(), V::Zero(), V::Zero()};
  for (int64_t i = 0; i + 4 * kLanes <= bytes / 4; i += 4 * kLanes)
    Unroll<V, 4>([&](auto u) __attribute__((always_inline)) {
      __builtin_prefetch(p + i + u * kLanes + 1024);
      sums[u] = sums[u] + V::Load(p + i + u * kLanes);
    });
  *sink += ((sums[0] + sums[1]) + (sums[2] + sums[3])).Sum();
}

template <typename V>
constexpr Kernels VectorKernels(std::string_view tier, const QuantKernels& quant) {
  return {.tier = tier,
          .matmul_rows = RowsOf<V>(),
          .matmul_panels = PanelsOf<V>,
          .matmul_tile = {TileOf<V, F32>, TileOf<V, F16>, TileOf<V, BF16>},
          .widen = {WidenOf<V, F32>, WidenOf<V, F16>, WidenOf<V, BF16>},
          .amx_tile = nullptr,
          .epilogue = EpilogueBody<V>,
          .quant = quant,
          .gated_activation = GatedActivationBody<V>,
          .rms_norm = RmsNormBody<V>,
          .layer_norm = LayerNormBody<V>,
          .fma_loop = FmaLoopBody<V>,
          .read_loop = ReadLoopBody<V>,
          .sample_weight_sum = SampleWeightSumOf<V>,
          .transpose = TransposeBody<V>,
          .attend_queries = V::kRegisters >= 32 ? 8 : 4,
          .attend = {AttendOf<V, F32>, AttendOf<V, F16>, AttendOf<V, BF16>, AttendOf<V, I8>}};
}

}  // namespace tessera::cpu
