#include "media/resize_taps.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tessera::media {
namespace {

double Box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double Triangle(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double Hamming(double x) {
  x = std::fabs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= std::numbers::pi;
  return std::sin(x) / x *
         (0.54f + 0.46f * std::cos(x));  // the window's constants are floats in Pillow
}

double Cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double Sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double Lanczos(double x) { return -3.0 <= x && x < 3.0 ? Sinc(x) * Sinc(x / 3) : 0.0; }

struct Filter {
  double (*weight)(double);
  double support;  // at scale 1
};

Filter FilterOf(Resample resample) {
  switch (resample) {
    case Resample::kLanczos: return {Lanczos, 3.0};
    case Resample::kBilinear: return {Triangle, 1.0};
    case Resample::kBicubic: return {Cubic, 2.0};
    case Resample::kBox: return {Box, 0.5};
    case Resample::kHamming: return {Hamming, 1.0};
    case Resample::kNearest: break;
  }
  return {Box, 0.5};
}

}  // namespace

Taps MakeTaps(int in_size, int out_size, Resample resample) {
  const Filter filter = FilterOf(resample);
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  Taps taps;
  taps.spans.reserve(static_cast<size_t>(out_size));
  std::vector<double> exact;
  for (int out = 0; out < out_size; ++out) {
    const double centre = (out + 0.5) * scale;
    // NOLINTBEGIN(bugprone-incorrect-roundings): Pillow's own rounding, which lround is not
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int last = std::min(static_cast<int>(centre + support + 0.5), in_size);
    // NOLINTEND(bugprone-incorrect-roundings)
    exact.clear();
    double sum = 0.0;
    for (int x = first; x < last; ++x) {
      exact.push_back(filter.weight((x - centre + 0.5) * inverse));
      sum += exact.back();
    }
    taps.spans.push_back({first, last - first, taps.weights.size()});
    taps.most = std::max(taps.most, last - first);
    for (double weight : exact) {
      if (sum != 0.0) weight /= sum;
      taps.weights.push_back(
          static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kFractionBits)));
    }
  }
  return taps;
}

}  // namespace tessera::media
