#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tessera {
namespace {

float GetMscale(double scale, double mscale) {
  return static_cast<float>(scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0);
}

// Dimension at which a feature turns `rotations` times within `context` positions (YaRN, equation
// 17 and its code).
double CorrectionDim(double rotations, int dim, double base, double context) {
  return dim * std::log(context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(base));
}

void ScaleLlama3(const RopeConfig& rope, std::vector<float>& inverse) {
  const auto context = static_cast<double>(rope.original_context);
  const auto low_wavelength = static_cast<float>(context / rope.low_freq_factor);
  const auto high_wavelength = static_cast<float>(context / rope.high_freq_factor);
  const auto factor = static_cast<float>(rope.factor);
  const auto low = static_cast<float>(rope.low_freq_factor);
  const auto span = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  for (float& f : inverse) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / f;
    if (wavelength < high_wavelength) continue;
    if (wavelength > low_wavelength) {
      f /= factor;
      continue;
    }
    const float smooth = (static_cast<float>(context) / wavelength - low) / span;
    f = (1.0f - smooth) * f / factor + smooth * f;
  }
}

float ScaleYarn(const RopeConfig& rope, int dim, const std::vector<float>& powers,
                std::vector<float>& inverse) {
  const auto context = static_cast<double>(rope.original_context);
  double low = CorrectionDim(rope.beta_fast, dim, rope.theta, context);
  double high = CorrectionDim(rope.beta_slow, dim, rope.theta, context);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;  // no division by zero
  for (size_t i = 0; i < inverse.size(); ++i) {
    const float ramp =
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float extrapolated = 1.0f - std::clamp(ramp, 0.0f, 1.0f);
    const float interpolation = 1.0f / (static_cast<float>(rope.factor) * powers[i]);
    inverse[i] = interpolation * (1.0f - extrapolated) + inverse[i] * extrapolated;
  }
  if (rope.attention_factor) return static_cast<float>(*rope.attention_factor);
  const double m = rope.mscale.value_or(0), m_all = rope.mscale_all_dim.value_or(0);
  if (m != 0 && m_all != 0) return GetMscale(rope.factor, m) / GetMscale(rope.factor, m_all);
  return GetMscale(rope.factor, 1);
}

}  // namespace

RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope, int head_dim) {
  RopeFrequencies result;
  std::vector<float> powers;
  for (int i = 0; i < head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(head_dim);
    // Rounded once from double: at most the last bit of a good powf
    powers.push_back(static_cast<float>(
        std::pow(static_cast<double>(static_cast<float>(rope.theta)), exponent)));
    result.inverse.push_back(1.0f / powers.back());
  }
  switch (rope.type) {
    case RopeConfig::Type::kDefault: break;
    case RopeConfig::Type::kLinear:
      for (float& f : result.inverse) f /= static_cast<float>(rope.factor);
      break;
    case RopeConfig::Type::kLlama3: ScaleLlama3(rope, result.inverse); break;
    case RopeConfig::Type::kYarn:
      result.attention_factor = ScaleYarn(rope, head_dim, powers, result.inverse);
      break;
  }
  return result;
}

Result<RopeTables> RopeTables::Make(Backend& backend, const RopeConfig& rope, int head_dim,
                                    int positions) {
  const RopeFrequencies frequencies = ComputeRopeFrequencies(rope, head_dim);
  const auto half = static_cast<int64_t>(frequencies.inverse.size());
  RopeTables tables;
  tables.rotary_dim = head_dim;
  for (Tensor* table : {&tables.cos, &tables.sin}) {
    TESSERA_TRY(*table,
                backend.AllocateTensor(DType::kF32, {positions, half}, MemoryUse::kWeights));
  }
  // By blocks of positions, so that the host never holds a second copy of a long table
  constexpr int kBlock = 4096;
  std::vector<float> cosines, sines;
  for (int begin = 0; begin < positions; begin += kBlock) {
    const int count = std::min(kBlock, positions - begin);
    cosines.clear();
    sines.clear();
    for (int p = begin; p < begin + count; ++p) {
      for (const float inverse : frequencies.inverse) {
        const double angle = static_cast<float>(p) * inverse;
        cosines.push_back(static_cast<float>(std::cos(angle)) * frequencies.attention_factor);
        sines.push_back(static_cast<float>(std::sin(angle)) * frequencies.attention_factor);
      }
    }
    backend.CopyToDevice(tables.cos.view().Rows(begin, count), cosines.data());
    backend.CopyToDevice(tables.sin.view().Rows(begin, count), sines.data());
  }
  return tables;
}

}  // namespace tessera
