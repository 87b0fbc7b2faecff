#include "tools/quantize/group_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera::quantize {
namespace {

constexpr int kTries = 20;

float AsStored(float scale, DType dtype) {
  if (dtype == DType::kBF16) return BF16ToFloat(FloatToBF16(scale));
  if (dtype == DType::kF16) return F16ToFloat(FloatToF16(scale));
  return scale;
}

float CodeOf(float w, float inverse, int zero) {
  return std::clamp(std::nearbyint(w * inverse) + static_cast<float>(zero), 0.0f, 15.0f);
}

}  // namespace

GroupCodes SearchGroup(std::span<const float> w, std::span<const float> importance, bool symmetric,
                       DType scale_dtype, std::span<uint8_t> codes) {
  const auto weight_of = [&](size_t i) { return importance.empty() ? 1.0 : double{importance[i]}; };
  float low = 0, high = 0;
  for (const float value : w) low = std::min(low, value), high = std::max(high, value);
  GroupCodes best{.scale = 0, .zero = 8, .error = std::numeric_limits<double>::infinity()};
  const auto consider = [&](float scale, int zero) {
    scale = AsStored(scale, scale_dtype);
    if (!std::isfinite(scale) || scale == 0) return;
    double error = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      const float steps = CodeOf(w[i], 1.0f / scale, zero) - static_cast<float>(zero);
      const double off = double{scale} * steps - w[i];
      error += weight_of(i) * off * off;
    }
    if (error < best.error) best = {scale, zero, error};
  };
  // The scale of least squares for the codes that `scale` gives.
  const auto refine = [&](float scale, int zero) {
    if (scale == 0) return;
    double wq = 0, qq = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      const double steps = double{CodeOf(w[i], 1.0f / scale, zero)} - zero;
      wq += weight_of(i) * w[i] * steps;
      qq += weight_of(i) * steps * steps;
    }
    consider(scale, zero);
    if (qq > 0) consider(static_cast<float>(wq / qq), zero);
  };
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const float share = 0.2f * static_cast<float>(attempt);
    if (symmetric) {
      // Steps are -8..7; other readers want scales above zero.
      refine(std::max(high, -low) / (6.2f + share), 8);
    } else {
      const float scale = (high - low) / (13.0f + share);
      if (scale == 0) break;
      const int zero = static_cast<int>(std::clamp(std::nearbyint(-low / scale), 0.0f, 15.0f));
      for (int near = std::max(0, zero - 1); near <= std::min(15, zero + 1); ++near)
        refine(scale, near);
    }
  }
  if (best.scale == 0) {
    best.error = 0;
    for (size_t i = 0; i < w.size(); ++i) best.error += weight_of(i) * w[i] * w[i];
    std::fill(codes.begin(), codes.end(), static_cast<uint8_t>(best.zero));
    return best;
  }
  for (size_t i = 0; i < w.size(); ++i)
    codes[i] = static_cast<uint8_t>(CodeOf(w[i], 1.0f / best.scale, best.zero));
  return best;
}

}  // namespace tessera::quantize
