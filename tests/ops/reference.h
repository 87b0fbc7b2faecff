// The ops again, in float64 and as plainly as they can be written. Beside each result stands the
// bound on the error that fp32 arithmetic in any order of the terms can make: the tests' tolerances
// come from here, not from experience.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/ops.h"

namespace tessera::ops_test {

// Unit roundoff of fp32.
inline constexpr double kU = 0x1p-24;

struct Bounded {
  double value = 0;
  double bound = 0;  // of the absolute error
};

// a . b: any order of n products and n - 1 additions, each rounded: (n + 1) u sum |a b| (Higham,
// section 3.1).
inline Bounded Dot(const float* a, const float* b, int64_t n, int64_t b_step = 1) {
  double sum = 0, absolute = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double product = static_cast<double>(a[i]) * b[i * b_step];
    sum += product;
    absolute += std::fabs(product);
  }
  return {sum, (static_cast<double>(n) + 1) * kU * absolute};
}

// An activation of a value known up to `x.bound`. Slopes of all of them are below 1.13. What the
// body itself may add: its exponential's argument is rounded (|argument| u), a handful of
// operations, and, for bodies that compute 1 + erf or 1 + tanh, a cancellation of size u |x|.
inline Bounded Activate(Activation activation, Bounded x) {
  const double v = x.value;
  double y = v, argument = 0;
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return {v > 0 ? v : 0, x.bound};
    case Activation::kSilu: y = v / (1 + std::exp(-v)), argument = v; break;
    case Activation::kQuickGelu: y = v / (1 + std::exp(-1.702 * v)), argument = 1.702 * v; break;
    case Activation::kGelu: y = 0.5 * v * std::erfc(-v / std::sqrt(2.0)), argument = v * v; break;
    case Activation::kGeluTanh: {
      const double u = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
      y = 0.5 * v * (1 + std::tanh(u)), argument = 4 * u;
      break;
    }
  }
  return {y, 1.13 * x.bound + kU * (8 + 2 * std::fabs(argument)) * std::fabs(y) +
                 2 * kU * std::fabs(v) + 1e-37};
}

// x[K], w rows of K, as the op sees them after rounding to operand and storage types.
inline Bounded MatMulElement(const float* x, const float* w, int64_t k, const float* bias,
                             Activation activation, float gate, const float* residual) {
  Bounded y = Dot(x, w, k);
  if (bias != nullptr) {
    y.value += *bias;
    y.bound += kU * std::fabs(y.value);
  }
  y = Activate(activation, y);
  y.value *= gate;
  y.bound = y.bound * std::fabs(gate) + kU * std::fabs(y.value);
  if (residual != nullptr) {
    y.value += *residual;
    y.bound += kU * std::fabs(y.value);
  }
  return {y.value, y.bound + 1e-37};
}

// The square root halves the sum's relative error; three more operations an element.
inline std::vector<Bounded> RmsNormRow(const float* x, const float* weight, float eps, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
  std::vector<Bounded> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double y = x[i] * scale * weight[i];
    out[static_cast<size_t>(i)] = {y, (static_cast<double>(n) / 2 + 6) * kU * std::fabs(y) + 1e-37};
  }
  return out;
}

// The mean's error, n u mean|x|, moves every difference and, through the variance, the scale.
inline std::vector<Bounded> LayerNormRow(const float* x, const float* weight, const float* bias,
                                         float eps, int64_t n) {
  const auto count = static_cast<double>(n);
  double sum = 0, absolute = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i], absolute += std::fabs(x[i]);
  const double mean = sum / count, mean_error = (count + 1) * kU * absolute / count;
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double variance = squares / count + eps, scale = 1 / std::sqrt(variance);
  const double scale_error =
      (count / 2 + 8) * kU + mean_error * mean_error / variance + kU * std::fabs(mean) * scale;
  std::vector<Bounded> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double normal = (x[i] - mean) * scale;
    const double y = normal * weight[i] + (bias != nullptr ? bias[i] : 0);
    const double moved = (mean_error + kU * (std::fabs(x[i]) + std::fabs(mean))) * scale;
    out[static_cast<size_t>(i)] = {
        y, std::fabs(weight[i]) * (moved + scale_error * std::fabs(normal)) +
               3 * kU * (std::fabs(normal * weight[i]) + std::fabs(y)) + 1e-37};
  }
  return out;
}

// Softmax attention of one query over `keys` keys; key(j), value(j) give rows of D, sees(j) the
// mask. Bound: a score is off by its dot product's bound, so a weight by twice the largest such
// (numerator and sum), plus exponentials (3 u, and the argument's rounding), rescaling once a block
// of 64, and two sums over the keys. `naive` is the same in fp32, in one pass over the keys after
// the maximum: what the same precision gives without blocks.
struct AttentionRow {
  std::vector<Bounded> out;
  std::vector<float> naive;
};
template <typename Key, typename Value, typename Sees>
AttentionRow Attend(const float* q, int64_t dim, int64_t keys, float scale, Key&& key,
                    Value&& value, Sees&& sees) {
  AttentionRow row{std::vector<Bounded>(static_cast<size_t>(dim)),
                   std::vector<float>(static_cast<size_t>(dim), 0.0f)};
  std::vector<double> s(static_cast<size_t>(keys));
  std::vector<float> naive(static_cast<size_t>(keys));
  double max = -std::numeric_limits<double>::infinity(), score_error = 0, most = 0;
  int64_t seen = 0;
  for (int64_t j = 0; j < keys; ++j) {
    if (!sees(j)) continue;
    const Bounded dot = Dot(q, key(j), dim);
    const auto at = static_cast<size_t>(j);
    s[at] = dot.value * scale;
    float sum = 0;
    for (int64_t d = 0; d < dim; ++d) sum += q[d] * key(j)[d];
    naive[at] = sum * scale;
    max = std::max(max, s[at]);
    most = std::max(most, std::fabs(s[at]));
    score_error = std::max(score_error, dot.bound * std::fabs(scale) + kU * std::fabs(s[at]));
    ++seen;
  }
  if (seen == 0) return row;
  double sum = 0;
  float naive_sum = 0, naive_max = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < keys; ++j)
    if (sees(j)) naive_max = std::max(naive_max, naive[static_cast<size_t>(j)]);
  std::vector<double> absolute(static_cast<size_t>(dim), 0.0);
  for (int64_t j = 0; j < keys; ++j) {
    if (!sees(j)) continue;
    const double p = std::exp(s[static_cast<size_t>(j)] - max);
    const float naive_p = std::exp(naive[static_cast<size_t>(j)] - naive_max);
    sum += p;
    naive_sum += naive_p;
    for (int64_t d = 0; d < dim; ++d) {
      row.out[static_cast<size_t>(d)].value += p * value(j)[d];
      absolute[static_cast<size_t>(d)] += p * std::fabs(value(j)[d]);
      row.naive[static_cast<size_t>(d)] += naive_p * value(j)[d];
    }
  }
  const double blocks = static_cast<double>(keys) / 64 + 1;
  const double weight_error = 2 * score_error + (4 + 4 * most) * kU + 4 * blocks * kU;
  for (int64_t d = 0; d < dim; ++d) {
    const auto at = static_cast<size_t>(d);
    row.out[at].value /= sum;
    row.out[at].bound =
        (2 * weight_error + 2 * (static_cast<double>(seen) + blocks) * kU) * absolute[at] / sum +
        1e-37;
    row.naive[at] /= naive_sum;
  }
  return row;
}

}  // namespace tessera::ops_test
