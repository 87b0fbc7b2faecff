#include "server/golden/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace tessera {

Deviation Measure(std::span<const float> got, std::span<const float> golden) {
  TESSERA_CHECK(got.size() == golden.size(), "compare: expected {} elements, got {}", golden.size(),
                got.size());
  Deviation d{.count = static_cast<int64_t>(golden.size())};
  if (golden.empty()) return d;
  const auto n = static_cast<double>(golden.size());
  double mean = 0, square = 0, error_sum = 0;
  for (const float value : golden) mean += value / n;
  for (size_t i = 0; i < golden.size(); ++i) {
    square += (golden[i] - mean) * (golden[i] - mean) / n;
    double error = std::abs(static_cast<double>(got[i]) - golden[i]);
    // Equal infinities differ by NaN, which is no error; any other NaN is one without bound
    if (std::isnan(error)) {
      const bool same = got[i] == golden[i] || (std::isnan(got[i]) && std::isnan(golden[i]));
      error = same ? 0 : std::numeric_limits<double>::infinity();
    }
    error_sum += error;
    if (d.worst < 0 || error > d.max_abs) {
      d.max_abs = error;
      d.worst = static_cast<int64_t>(i);
    }
  }
  d.golden_std = std::sqrt(square);
  const double scale = d.golden_std > 0 ? d.golden_std : 1;
  d.max_relative = d.max_abs / scale;
  d.mean_relative = error_sum / n / scale;
  return d;
}

void Yardstick::Add(const Deviation& deviation) {
  max_relative = std::max(max_relative, deviation.max_relative);
  mean_relative = std::max(mean_relative, deviation.mean_relative);
}

bool WithinFloat(const Deviation& deviation) { return deviation.max_relative <= kFloatBound; }

bool WithinBf16(const Deviation& deviation, const Yardstick& yardstick) {
  return deviation.max_relative <= kBf16MaxFactor * yardstick.max_relative &&
         deviation.mean_relative <= kBf16MeanFactor * yardstick.mean_relative;
}

GreedyVerdict CompareGreedy(std::span<const int32_t> got, std::span<const int64_t> golden,
                            std::span<const float> margins, double excused_below) {
  for (size_t i = 0; i < golden.size(); ++i) {
    if (i < got.size() && got[i] == golden[i]) continue;
    const double margin = i < margins.size() ? margins[i] : std::numeric_limits<double>::infinity();
    // A sequence that ends early is never excused
    return {.pass = i < got.size() && margin < excused_below,
            .first_difference = static_cast<int>(i),
            .margin = margin};
  }
  return {.pass = got.size() == golden.size(),
          .first_difference = got.size() == golden.size() ? -1 : static_cast<int>(golden.size())};
}

std::string Describe(const Deviation& d) {
  return fmt::format("max {:.3g} = {:.3g} std, mean {:.3g} std, worst index {} of {}", d.max_abs,
                     d.max_relative, d.mean_relative, d.worst, d.count);
}

}  // namespace tessera
