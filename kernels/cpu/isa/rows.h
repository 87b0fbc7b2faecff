// Row bodies of the vector tiers: epilogue, gated activation, norms.
#pragma once

#include <cmath>

#include "kernels/cpu/isa/simd.h"

namespace tessera::cpu {

template <typename V>
void EpilogueBody(const EpilogueRows& rows) {
  WithActivation<V>(rows.activation, [&](auto activation) {
    const V gate = V::Set1(rows.gate);
    for (int64_t r = 0; r < rows.rows; ++r) {
      const float* acc = rows.acc + r * rows.acc_stride;
      const float* residual =
          rows.residual == nullptr ? nullptr : rows.residual + r * rows.residual_stride;
      float* out = rows.out + r * rows.out_stride;
      ForLanes<V>(rows.n, [&](int64_t i, auto load, auto store) {
        V y = load(acc + i);
        if (rows.bias != nullptr) y = y + load(rows.bias + i);
        y = Act<V, decltype(activation)::value>(y) * gate;
        if (residual != nullptr) y = y + load(residual + i);
        store(out + i, y);
      });
    }
  });
}

template <typename V>
void GatedActivationBody(Activation kind, const float* gate, const float* up, float* out,
                         int64_t n) {
  WithActivation<V>(kind, [&](auto activation) {
    ForLanes<V>(n, [&](int64_t i, auto load, auto store) {
      store(out + i, Act<V, decltype(activation)::value>(load(gate + i)) * load(up + i));
    });
  });
}

// Sum over i of term(x[i]) in 4 x 16 chains, then in halves. `term(values, sum, lanes)`: absent
// lanes hold 0 and have no bit in `lanes`.
template <typename V, typename Term>
TESSERA_INLINE float SumOf(const float* x, int64_t n, Term&& term) {
  V sums[4] = {V::Zero(), V::Zero(), V::Zero(), V::Zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    Unroll<V, 4>([&](auto u) __attribute__((always_inline)) {
      sums[u] = term(V::Load(x + i + u * kLanes), sums[u], ~0u);
    });
  for (; i < n; i += kLanes) {
    const int left = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    sums[0] = term(V::LoadPart(x + i, left), sums[0], (1u << left) - 1);
  }
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])).Sum();
}

template <typename V>
void RmsNormBody(const float* x, const float* weight, float eps, float* out, int64_t n) {
  const float sum = SumOf<V>(x, n, [](V v, V total, uint32_t) { return V::Fma(v, v, total); });
  const V scale = V::Set1(1.0f / std::sqrt(sum / static_cast<float>(n) + eps));
  ForLanes<V>(n, [&](int64_t i, auto load, auto store) {
    store(out + i, load(x + i) * scale * load(weight + i));
  });
}

template <typename V>
void LayerNormBody(const float* x, const float* weight, const float* bias, float eps, float* out,
                   int64_t n) {
  const V mean = V::Set1(SumOf<V>(x, n, [](V v, V total, uint32_t) { return total + v; }) /
                         static_cast<float>(n));
  const float squares = SumOf<V>(x, n, [mean](V v, V total, uint32_t lanes) {
    const V difference = V::Select(lanes, v - mean, V::Zero());
    return V::Fma(difference, difference, total);
  });
  const V scale = V::Set1(1.0f / std::sqrt(squares / static_cast<float>(n) + eps));
  ForLanes<V>(n, [&](int64_t i, auto load, auto store) {
    V y = (load(x + i) - mean) * scale * load(weight + i);
    if (bias != nullptr) y = y + load(bias + i);
    store(out + i, y);
  });
}

}  // namespace tessera::cpu
