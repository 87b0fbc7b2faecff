// The reference tier: plain loops, one element after another, for any processor. What it computes
// is the definition; the other tiers are tested against the same float64 bodies as this one.
#include "kernels/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/sampling.h"

namespace tessera::cpu {

QuantKernels ReferenceQuantKernels();  // quant.cc

namespace {

struct LoadF32 {
  using Type = float;
  static float Load(float value) { return value; }
};
struct LoadF16 {
  using Type = uint16_t;
  static float Load(uint16_t bits) { return F16ToFloat(bits); }
};
struct LoadBF16 {
  using Type = uint16_t;
  static float Load(uint16_t bits) { return BF16ToFloat(bits); }
};

template <typename Format>
void Tile(const MatMulTile& tile) {
  for (int p = 0; p < tile.panels; ++p) {
    const auto* w = static_cast<const typename Format::Type*>(tile.w) + p * tile.panel_stride;
    for (int64_t k = 0; k < tile.k_count; ++k) {
      float row_of_w[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) row_of_w[lane] = Format::Load(w[k * kLanes + lane]);
      for (int r = 0; r < tile.rows; ++r) {
        float* acc = tile.acc + r * tile.acc_stride + p * kLanes;
        const float a = tile.a[r * tile.a_stride + k];
        for (int lane = 0; lane < kLanes; ++lane) acc[lane] += a * row_of_w[lane];
      }
    }
  }
}

template <typename Format>
void Widen(const void* from, float* to, int64_t count) {
  const auto* w = static_cast<const typename Format::Type*>(from);
  for (int64_t i = 0; i < count; ++i) to[i] = Format::Load(w[i]);
}

void Transpose(const float* from, int64_t stride, int64_t columns, float* to) {
  for (int64_t column = 0; column < columns; ++column)
    for (int lane = 0; lane < kLanes; ++lane)
      to[column * kLanes + lane] = from[lane * stride + column];
}

float Act(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone: return x;
    case Activation::kSilu: return x / (1.0f + std::exp(-x));
    case Activation::kGelu: return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
    case Activation::kQuickGelu: return x / (1.0f + std::exp(-1.702f * x));
    case Activation::kRelu: return x > 0 ? x : (x != x ? x : 0.0f);
  }
  return x;
}

void Epilogue(const EpilogueRows& rows) {
  for (int64_t r = 0; r < rows.rows; ++r)
    for (int64_t i = 0; i < rows.n; ++i) {
      float y = rows.acc[r * rows.acc_stride + i];
      if (rows.bias != nullptr) y += rows.bias[i];
      y = Act(rows.activation, y);
      if (rows.gate != 1.0f) y *= rows.gate;
      if (rows.residual != nullptr) y += rows.residual[r * rows.residual_stride + i];
      rows.out[r * rows.out_stride + i] = y;
    }
}

void GatedActivation(Activation activation, const float* gate, const float* up, float* out,
                     int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = Act(activation, gate[i]) * up[i];
}

void RmsNorm(const float* x, const float* weight, float eps, float* out, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const auto scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(n) + eps));
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void LayerNorm(const float* x, const float* weight, const float* bias, float eps, float* out,
               int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    const auto normal = static_cast<float>((x[i] - mean) * scale);
    out[i] = normal * weight[i] + (bias != nullptr ? bias[i] : 0.0f);
  }
}

// K/V alone: the scales of a block's 16 tokens stand in front of its numbers.
struct LoadI8 {
  using Type = int8_t;
  static float Load(int8_t number) { return number; }
};
template <typename Format>
const typename Format::Type* Numbers(const void* block) {
  const auto* from = static_cast<const typename Format::Type*>(block);
  return sizeof(*from) == 1 ? from + kLanes * sizeof(float) : from;
}
template <typename Format>
float ScaleOf(const void* block, int token) {
  return sizeof(typename Format::Type) == 1 ? static_cast<const float*>(block)[token] : 1.0f;
}

template <typename Format>
void Attend(const AttendBlock& block) {
  using Type = typename Format::Type;
  const int keys = block.key_blocks * kLanes;
  for (int i = 0; i < block.queries; ++i) {
    const uint64_t visible = block.visible[i];
    if (visible == 0) continue;
    const auto sees = [&](int j) { return ((visible >> j) & 1) != 0; };
    const float* q = block.q + i * block.padded_dim;
    float* out = block.out + i * block.padded_dim;
    float p[64];
    float max = block.max[i];
    for (int j = 0; j < keys; ++j) {
      if (!sees(j)) continue;
      const Type* k = Numbers<Format>(block.k[j / kLanes]) + j % kLanes;
      float dot = 0;
      for (int d = 0; d < block.head_dim; ++d) dot += q[d] * Format::Load(k[d * kLanes]);
      p[j] = dot * ScaleOf<Format>(block.k[j / kLanes], j % kLanes) * block.scale;
      max = std::max(max, p[j]);
    }
    const float c = std::exp(block.max[i] - max);
    float sum = 0;
    for (int d = 0; d < block.head_dim; ++d) out[d] *= c;
    for (int j = 0; j < keys; ++j) {
      if (!sees(j)) continue;
      const Type* v = Numbers<Format>(block.v[j / kLanes]) + (j % kLanes) * block.head_dim;
      p[j] = std::exp(p[j] - max);
      sum += p[j];
      const float weight = p[j] * ScaleOf<Format>(block.v[j / kLanes], j % kLanes);
      for (int d = 0; d < block.head_dim; ++d) out[d] += weight * Format::Load(v[d]);
    }
    block.sum[i] = block.sum[i] * c + sum;
    block.max[i] = max;
  }
}

// What plain loops can do at best: the compiler's own vectors, multiply and add apart.
int64_t FmaLoop(int64_t rounds, float* sink) {
  float acc[8 * kLanes];
  for (int i = 0; i < 8 * kLanes; ++i) acc[i] = static_cast<float>(i);
  const float a = 0.999f, b = 1e-3f;
  for (int64_t round = 0; round < rounds; ++round)
    for (float& x : acc) x = x * a + b;
  for (float x : acc) *sink += x;
  return rounds * 2 * 8 * kLanes;
}

void ReadLoop(const void* from, int64_t bytes, float* sink) {
  const auto* p = static_cast<const float*>(from);
  float sums[4 * kLanes] = {};
  for (int64_t i = 0; i + 4 * kLanes <= bytes / 4; i += 4 * kLanes)
    for (int lane = 0; lane < 4 * kLanes; ++lane) sums[lane] += p[i + lane];
  for (float x : sums) *sink += x;
}

}  // namespace

const Kernels* ReferenceKernels() {
  static const Kernels kernels = {
      .tier = "reference",
      .matmul_rows = 8,
      .matmul_panels = [](int) { return 1; },
      .matmul_tile = {Tile<LoadF32>, Tile<LoadF16>, Tile<LoadBF16>},
      .widen = {Widen<LoadF32>, Widen<LoadF16>, Widen<LoadBF16>},
      .amx_tile = nullptr,
      .epilogue = Epilogue,
      .quant = ReferenceQuantKernels(),
      .gated_activation = GatedActivation,
      .rms_norm = RmsNorm,
      .layer_norm = LayerNorm,
      .fma_loop = FmaLoop,
      .read_loop = ReadLoop,
      .sample_weight_sum = PlainSampleWeightSum,
      .transpose = Transpose,
      .attend_queries = 4,
      .attend = {Attend<LoadF32>, Attend<LoadF16>, Attend<LoadBF16>, Attend<LoadI8>},
  };
  return &kernels;
}

}  // namespace tessera::cpu
