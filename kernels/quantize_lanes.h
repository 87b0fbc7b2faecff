// Choosing the scales and codes of one group of 16 rows at once: a lane is a row, k goes upward.
// `V` is any vector of 16 fp32 lanes: the plain array below, or one of a processor's registers; all
// find the same codes. No FMAs: not every `V` has them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/quantize.h"

#define TESSERA_LANES_INLINE inline __attribute__((always_inline))

namespace tessera {

// w [k][16], all finite and at most kQuantMost.
struct QuantGroup {
  const float* w = nullptr;
  int64_t k = 0;
  const float* importance = nullptr;  // [k] or null
};

// What a group's codes are made from.
template <typename V>
struct QuantSteps {
  V scale, minimum;
};

// To bf16 and back.
template <typename V>
TESSERA_LANES_INLINE V RoundedToBF16(V x) {
  float lanes[kQuantLanes];
  uint16_t bits[kQuantLanes];
  x.Store(lanes);
  for (int i = 0; i < kQuantLanes; ++i) bits[i] = FloatToBF16(lanes[i]);
  return V::LoadBF16(bits);
}

// 1 / x, 0 where x is zero.
template <typename V>
TESSERA_LANES_INLINE V InverseOrZero(V x) {
  return V::SelectPositive(V::Abs(x), V::Set1(1.0f) / x, V::Zero());
}

template <typename V>
TESSERA_LANES_INLINE V Clamp(V x, float least, float most) {
  return V::Min(V::Set1(most), V::Max(V::Set1(least), x));
}

// To the nearest whole number, ties to even, of anything below 2^22; larger numbers stay large.
template <typename V>
TESSERA_LANES_INLINE V Rounded(V x) {
  const V big = V::Set1(12582912.0f);  // 1.5 * 2^23: no bits are left below one
  return (x + big) - big;
}

// The code of one weight of each lane, a whole number. `inverse` is InverseOrZero of the scale.
template <typename V>
TESSERA_LANES_INLINE V CodeOf(V w, V inverse, V minimum, const QuantFormat& format) {
  const float least = format.bits == 8 ? 1.0f : 0.0f, most = format.bits == 8 ? 255.0f : 15.0f;
  return Clamp(Rounded((w - minimum) * inverse) + V::Set1(static_cast<float>(format.offset())),
               least, most);
}

// The largest magnitude of each lane, zero where it does not count.
template <typename V>
TESSERA_LANES_INLINE V Magnitude(const QuantGroup& group) {
  V most = V::Zero();
  for (int64_t k = 0; k < group.k; ++k)
    most = V::Max(most, V::Abs(V::Load(group.w + k * kQuantLanes)));
  return V::SelectPositive(most - V::Set1(kQuantLeast), most, V::Zero());
}

template <typename V>
QuantSteps<V> StepsInt8(const QuantGroup& group) {
  // Rounded up a little, so that bf16 does not make it too small for the largest.
  return {RoundedToBF16(Magnitude<V>(group) * V::Set1((1.0f + 0x1p-8f) / 127.0f)), V::Zero()};
}

inline constexpr int kQuantTries = 12;

// w ~ s * q, q in -8..7. The largest weight w0 is tried at q = -t for several t about 8; for the
// codes that each try gives, s = sum w q / sum q^2 has the least squared error, by (sum w q)^2 /
// sum q^2 below that of no weights at all. Numbers are relative to the largest, so squares of huge
// ones are finite.
template <typename V>
QuantSteps<V> StepsInt4(const QuantGroup& group) {
  const V magnitude = Magnitude<V>(group), inverse = InverseOrZero(magnitude);
  V extreme = V::Zero();
  for (int64_t k = 0; k < group.k; ++k) {
    const V w = V::Load(group.w + k * kQuantLanes);
    extreme = V::SelectPositive(V::Abs(w) - V::Abs(extreme), w, extreme);
  }
  const V sign = V::SelectPositive(extreme, V::Set1(-1.0f), V::Set1(1.0f));
  V best_gain = V::Zero(), best = sign * V::Set1(0.125f);
  for (int attempt = 0; attempt < kQuantTries; ++attempt) {
    const V steps = sign * V::Set1(6.6f + 0.2f * static_cast<float>(attempt));
    const V to_steps = inverse * steps;
    V wq = V::Zero(), qq = V::Zero();
    for (int64_t k = 0; k < group.k; ++k) {
      const V w = V::Load(group.w + k * kQuantLanes);
      const V q = Clamp(Rounded(w * to_steps), -8.0f, 7.0f);
      const V weighed = group.importance == nullptr ? q : q * V::Set1(group.importance[k]);
      wq = wq + (w * inverse) * weighed;
      qq = qq + q * weighed;
    }
    const V least = wq * InverseOrZero(qq), gain = wq * least;
    best = V::SelectPositive(gain - best_gain, least, best);
    best_gain = V::Max(gain, best_gain);
  }
  return {RoundedToBF16(best * magnitude), V::Zero()};
}

// w ~ s * n + m, n in 0..15. Tried are steps of 1 / t of the range for several t about 15, about
// its middle; for each try's codes s and m come from the normal equations of least squares.
template <typename V>
QuantSteps<V> StepsInt4Minimum(const QuantGroup& group) {
  const V magnitude = Magnitude<V>(group), inverse = InverseOrZero(magnitude), one = V::Set1(1.0f);
  V low = V::Load(group.w) * inverse, high = low;
  for (int64_t k = 1; k < group.k; ++k) {
    const V w = V::Load(group.w + k * kQuantLanes) * inverse;
    low = V::Min(low, w);
    high = V::Max(high, w);
  }
  const V range = high - low;
  const V per_range = InverseOrZero(range);
  V best_gain = V::Set1(-1.0f), best_scale = range * V::Set1(1.0f / 15.0f),
    best_minimum = V::Zero();
  for (int attempt = 0; attempt < kQuantTries; ++attempt) {
    const float steps = 13.4f + 0.4f * static_cast<float>(attempt);
    // The middle of the range is step 7.5, whatever a step is.
    const V to_steps = per_range * V::Set1(steps), shift = V::Set1(7.5f - 0.5f * steps);
    V i1 = V::Zero(), n1 = V::Zero(), nn = V::Zero(), u1 = V::Zero(), un = V::Zero();
    for (int64_t k = 0; k < group.k; ++k) {
      const V u = V::Load(group.w + k * kQuantLanes) * inverse - low;
      const V n = Clamp(Rounded(u * to_steps + shift), 0.0f, 15.0f);
      const V i = group.importance == nullptr ? one : V::Set1(group.importance[k]);
      const V in = i * n;
      i1 = i1 + i;
      n1 = n1 + in;
      nn = nn + in * n;
      u1 = u1 + i * u;
      un = un + in * u;
    }
    const V scale = (i1 * un - n1 * u1) * InverseOrZero(i1 * nn - n1 * n1);
    const V minimum = (u1 - scale * n1) * InverseOrZero(i1);
    const V gain = scale * un + minimum * u1;
    const V better = gain - best_gain;
    best_scale = V::SelectPositive(better, scale, best_scale);
    best_minimum = V::SelectPositive(better, minimum, best_minimum);
    best_gain = V::Max(gain, best_gain);
  }
  return {RoundedToBF16(best_scale * magnitude), RoundedToBF16((low + best_minimum) * magnitude)};
}

// Of formats with groups.
template <typename V>
QuantSteps<V> StepsOf(const QuantFormat& format, const QuantGroup& group) {
  if (format.bits == 8) return StepsInt8<V>(group);
  return format.minimum ? StepsInt4Minimum<V>(group) : StepsInt4<V>(group);
}

// 16 lanes as an array.
struct PlainLanes {
  float v[kQuantLanes];
  template <typename Body>
  static PlainLanes Each(Body&& body) {
    PlainLanes out;
    for (int i = 0; i < kQuantLanes; ++i) out.v[i] = body(i);
    return out;
  }
  static PlainLanes Set1(float x) {
    return Each([x](int) { return x; });
  }
  static PlainLanes Zero() { return Set1(0.0f); }
  static PlainLanes Load(const float* p) {
    return Each([p](int i) { return p[i]; });
  }
  static PlainLanes LoadBF16(const uint16_t* p) {
    return Each([p](int i) { return BF16ToFloat(p[i]); });
  }
  void Store(float* p) const { std::copy_n(v, kQuantLanes, p); }
  static PlainLanes Abs(const PlainLanes& x) {
    return Each([&](int i) { return std::fabs(x.v[i]); });
  }
  static PlainLanes Min(const PlainLanes& a, const PlainLanes& b) {
    return Each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static PlainLanes Max(const PlainLanes& a, const PlainLanes& b) {
    return Each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static PlainLanes SelectPositive(const PlainLanes& x, const PlainLanes& a, const PlainLanes& b) {
    return Each([&](int i) { return x.v[i] > 0 ? a.v[i] : b.v[i]; });
  }
  friend PlainLanes operator+(const PlainLanes& a, const PlainLanes& b) {
    return Each([&](int i) { return a.v[i] + b.v[i]; });
  }
  friend PlainLanes operator-(const PlainLanes& a, const PlainLanes& b) {
    return Each([&](int i) { return a.v[i] - b.v[i]; });
  }
  friend PlainLanes operator*(const PlainLanes& a, const PlainLanes& b) {
    return Each([&](int i) { return a.v[i] * b.v[i]; });
  }
  friend PlainLanes operator/(const PlainLanes& a, const PlainLanes& b) {
    return Each([&](int i) { return a.v[i] / b.v[i]; });
  }
};

// The one scale of each of 16 rows, w [k][16], where all of a row shares it. Returns the lane of a
// row that cannot be quantised, or -1.
int RowScalesOf16(const float* w, int64_t k, float* scales);

}  // namespace tessera
