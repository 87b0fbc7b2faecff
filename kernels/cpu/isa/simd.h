// What the bodies of the vector tiers share. `V` is the tier's vector of 16 fp32 lanes (vec_avx2.h,
// vec_avx512.h); every template here depends on it, so that no two tiers ever share compiled code.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/cpu/kernels.h"

#define TESSERA_INLINE inline __attribute__((always_inline))

namespace tessera::cpu {

// body(integral_constant 0), body(1), ...: unrolled before the optimiser looks at arrays, so they
// become registers.
template <typename V, int kCount, typename Body>
TESSERA_INLINE void Unroll(Body&& body) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, kIndex>{}), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}

// Storage formats of weights and K/V. All widen to fp32 exactly.
template <typename V>
struct F32 {
  using Type = float;
  static TESSERA_INLINE V Load(const float* p) { return V::Load(p); }
  static TESSERA_INLINE V LoadPart(const float* p, int n) { return V::LoadPart(p, n); }
};
template <typename V>
struct F16 {
  using Type = uint16_t;
  static TESSERA_INLINE V Load(const uint16_t* p) { return V::LoadF16(p); }
  static TESSERA_INLINE V LoadPart(const uint16_t* p, int n) { return V::LoadF16Part(p, n); }
};
template <typename V>
struct BF16 {
  using Type = uint16_t;
  static TESSERA_INLINE V Load(const uint16_t* p) { return V::LoadBF16(p); }
  static TESSERA_INLINE V LoadPart(const uint16_t* p, int n) { return V::LoadBF16Part(p, n); }
};

// K/V alone: 16 scales, one a token, stand in front of a block's numbers.
template <typename V>
struct I8 {
  using Type = int8_t;
  static constexpr int kScaleBytes = kLanes * sizeof(float);
  static TESSERA_INLINE V Load(const int8_t* p) { return V::LoadI8(p); }
  static TESSERA_INLINE V LoadPart(const int8_t* p, int n) { return V::LoadI8Part(p, n); }
};
template <typename Format>
constexpr bool HasScales() {
  return sizeof(typename Format::Type) == 1;
}
// The numbers of a block of keys.
template <typename Format>
TESSERA_INLINE const typename Format::Type* Numbers(const void* block) {
  if constexpr (HasScales<Format>()) {
    return static_cast<const typename Format::Type*>(block) + Format::kScaleBytes;
  } else {
    return static_cast<const typename Format::Type*>(block);
  }
}

// e^x within 1 ulp or so; 0 below -87.7, infinity above 88.4, NaN stays NaN.
// x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r), q fitted at Chebyshev nodes (relative
// error 1e-8).
template <typename V>
TESSERA_INLINE V ExpBelow(V x) {  // of what lies between the limits
  const V n = V::Round(x * V::Set1(1.44269504f));
  V r = V::Fma(n, V::Set1(-0.693359375f),
               x);  // ln 2 in two parts; the product with the first is exact
  r = V::Fma(n, V::Set1(2.12194440e-4f), r);
  V q = V::Set1(1.3933648927e-3f);
  q = V::Fma(q, r, V::Set1(8.3631815450e-3f));
  q = V::Fma(q, r, V::Set1(4.1666464949e-2f));
  q = V::Fma(q, r, V::Set1(1.6666576967e-1f));
  q = V::Fma(q, r, V::Set1(0.5f));
  return V::Fma(q, r * r, r + V::Set1(1.0f)) * V::Pow2(n);
}
template <typename V>
TESSERA_INLINE V Exp(V x) {
  return ExpBelow<V>(V::Max(V::Set1(-88.0f), V::Min(V::Set1(88.8f), x)));
}

// x * Phi(x). For z = |x| / sqrt(2): erfc(z) = t exp(P(t) - z^2), t = 1 / (1 + z / 2), P fitted on
// z in [0, 10] (5e-8). Phi(x) = erfc / 2 below zero, so that nothing cancels there; 1 - erfc / 2
// above.
template <typename V>
TESSERA_INLINE V Gelu(V x) {
  const V z = V::Abs(x) * V::Set1(0.707106781f);
  const V t = V::Set1(1.0f) / V::Fma(z, V::Set1(0.5f), V::Set1(1.0f));
  V p = V::Set1(0.14493021375f);
  p = V::Fma(p, t, V::Set1(-0.68082717802f));
  p = V::Fma(p, t, V::Set1(1.15673375780f));
  p = V::Fma(p, t, V::Set1(-0.69625189994f));
  p = V::Fma(p, t, V::Set1(-0.08028043121f));
  p = V::Fma(p, t, V::Set1(0.00126758566f));
  p = V::Fma(p, t, V::Set1(0.03460280021f));
  p = V::Fma(p, t, V::Set1(0.38664041021f));
  p = V::Fma(p, t, V::Set1(0.99863278334f));
  p = V::Fma(p, t, V::Set1(-1.26544799690f));
  const V half = V::Set1(0.5f) * t * Exp(V::Fma(V::Set1(0.0f) - z, z, p));
  return x * V::SelectPositive(x, V::Set1(1.0f) - half, half);
}

template <typename V>
TESSERA_INLINE V TimesSigmoid(V x, V argument) {
  return x / (V::Set1(1.0f) + Exp(V::Set1(0.0f) - argument));
}

template <typename V, Activation kActivation>
TESSERA_INLINE V Act(V x) {
  if constexpr (kActivation == Activation::kSilu) return TimesSigmoid(x, x);
  if constexpr (kActivation == Activation::kGelu) return Gelu(x);
  if constexpr (kActivation == Activation::kGeluTanh) {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    const V cubic = V::Fma(x * x * x, V::Set1(0.044715f), x);
    return TimesSigmoid(x, V::Set1(1.5957691216f) * cubic);
  }
  if constexpr (kActivation == Activation::kQuickGelu) return TimesSigmoid(x, V::Set1(1.702f) * x);
  if constexpr (kActivation == Activation::kRelu) return V::Max(V::Zero(), x);
  return x;
}

// The run-time activation becomes a compile-time one, once a row.
template <typename V, typename Body>
TESSERA_INLINE void WithActivation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kNone: return body(std::integral_constant<Activation, Activation::kNone>{});
    case Activation::kSilu: return body(std::integral_constant<Activation, Activation::kSilu>{});
    case Activation::kGelu: return body(std::integral_constant<Activation, Activation::kGelu>{});
    case Activation::kGeluTanh:
      return body(std::integral_constant<Activation, Activation::kGeluTanh>{});
    case Activation::kQuickGelu:
      return body(std::integral_constant<Activation, Activation::kQuickGelu>{});
    case Activation::kRelu: return body(std::integral_constant<Activation, Activation::kRelu>{});
  }
}

// body(i, load, store) for i = 0, 16, ...: whole vectors, then the last n % 16 lanes by masks. A
// lane's bits do not depend on which of the two it went through.
template <typename V, typename Body>
TESSERA_INLINE void ForLanes(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    body(
        i, [](const float* p) { return V::Load(p); }, [](float* p, V x) { x.Store(p); });
  if (i < n) {
    const int left = static_cast<int>(n - i);
    body(
        i, [left](const float* p) { return V::LoadPart(p, left); },
        [left](float* p, V x) { x.StorePart(p, left); });
  }
}

}  // namespace tessera::cpu
