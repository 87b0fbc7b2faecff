#include "model/layers.h"

#include <cmath>

namespace tessera {
namespace {

float AttentionScale(int head_dim) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
}

}  // namespace

MlpWeights::MlpWeights(const Weights& weights, int layer)
    : norm(weights.Vector(Group::kText, layer, Slot::kPostNorm)),
      gate_up(weights.Matrix(Group::kText, layer, Slot::kGateUp)),
      gate_up_bias(weights.VectorOrNull(Group::kText, layer, Slot::kGateUpBias)),
      down(weights.Matrix(Group::kText, layer, Slot::kDown)),
      down_bias(weights.VectorOrNull(Group::kText, layer, Slot::kDownBias)) {}

SelfLayerWeights::SelfLayerWeights(const Weights& weights, int layer)
    : norm(weights.Vector(Group::kText, layer, Slot::kInputNorm)),
      qkv(weights.Matrix(Group::kText, layer, Slot::kQkv)),
      qkv_bias(weights.VectorOrNull(Group::kText, layer, Slot::kQkvBias)),
      out(weights.Matrix(Group::kText, layer, Slot::kOut)),
      out_bias(weights.VectorOrNull(Group::kText, layer, Slot::kOutBias)),
      mlp(weights, layer) {}

CrossLayerWeights::CrossLayerWeights(const Weights& weights, int layer)
    : norm(weights.Vector(Group::kText, layer, Slot::kInputNorm)),
      q(weights.Matrix(Group::kText, layer, Slot::kCrossQ)),
      q_norm(weights.Vector(Group::kText, layer, Slot::kQNorm)),
      kv(weights.Matrix(Group::kText, layer, Slot::kCrossKv)),
      k_norm(weights.Vector(Group::kText, layer, Slot::kKNorm)),
      out(weights.Matrix(Group::kText, layer, Slot::kOut)),
      gate(weights.Gate(Group::kText, layer, Slot::kAttentionGate)),
      mlp(weights, layer) {
  mlp.gate = weights.Gate(Group::kText, layer, Slot::kMlpGate);
}

VisionLayerWeights::VisionLayerWeights(const Weights& weights, Group group, int layer)
    : norm(weights.Vector(group, layer, Slot::kInputNorm)),
      norm_bias(weights.Vector(group, layer, Slot::kInputNormBias)),
      qkv(weights.Matrix(group, layer, Slot::kQkv)),
      out(weights.Matrix(group, layer, Slot::kOut)),
      attention_gate(group == Group::kGlobal ? weights.Gate(group, layer, Slot::kAttentionGate)
                                             : 1),
      post_norm(weights.Vector(group, layer, Slot::kPostNorm)),
      post_norm_bias(weights.Vector(group, layer, Slot::kPostNormBias)),
      fc1(weights.Matrix(group, layer, Slot::kFc1)),
      fc1_bias(weights.Vector(group, layer, Slot::kFc1Bias)),
      fc2(weights.Matrix(group, layer, Slot::kFc2)),
      fc2_bias(weights.Vector(group, layer, Slot::kFc2Bias)),
      mlp_gate(group == Group::kGlobal ? weights.Gate(group, layer, Slot::kMlpGate) : 1) {}

void RunSelfLayer(Backend& backend, const SelfLayerWeights& w, const TextConfig& config,
                  const SelfRows& rows, const KvLayerView& kv, const TensorView& hidden,
                  const TextScratch& scratch) {
  const int64_t q_width = int64_t{config.heads} * config.head_dim,
                kv_width = int64_t{config.kv_heads} * config.head_dim;
  const TextScratch s = scratch.First(hidden.dim(0));
  const TensorView q = s.qkv.Columns(0, q_width);
  const TensorView k = s.qkv.Columns(q_width, kv_width),
                   v = s.qkv.Columns(q_width + kv_width, kv_width);

  backend.RmsNorm({.x = hidden, .weight = w.norm, .eps = config.norm_eps, .out = s.normed});
  backend.MatMul({.x = s.normed, .w = w.qkv, .bias = w.qkv_bias, .out = s.qkv});
  backend.RopeWriteKv({.q = q,
                       .k = k,
                       .v = v,
                       .cos_table = rows.cos,
                       .sin_table = rows.sin,
                       .rotary_dim = config.head_dim,
                       .positions = rows.positions,
                       .slots = rows.slots,
                       .kv = kv});
  backend.SelfAttention({.q = q,
                         .kv = kv,
                         .sequences = rows.sequences,
                         .pages = rows.pages,
                         .scale = AttentionScale(config.head_dim),
                         .out = s.mixed});
  backend.MatMul({.x = s.mixed, .w = w.out, .bias = w.out_bias, .residual = hidden, .out = hidden});
  RunMlp(backend, w.mlp, config, hidden, scratch);
}

void RunCrossAttention(Backend& backend, const CrossLayerWeights& w, const TextConfig& config,
                       std::span<const CrossRow> rows, std::span<const int32_t> tile_pages,
                       const KvLayerView& kv, const TensorView& hidden,
                       const TextScratch& scratch) {
  const TextScratch s = scratch.First(hidden.dim(0));
  const TensorView q = s.qkv.Columns(0, int64_t{config.heads} * config.head_dim);

  backend.RmsNorm({.x = hidden, .weight = w.norm, .eps = config.norm_eps, .out = s.normed});
  backend.MatMul({.x = s.normed, .w = w.q, .out = q});
  backend.HeadRmsNorm(q, config.heads, w.q_norm, config.norm_eps);
  backend.CrossAttention({.q = q,
                          .kv = kv,
                          .rows = rows,
                          .tile_pages = tile_pages,
                          .scale = AttentionScale(config.head_dim),
                          .out = s.mixed});
  backend.MatMul({.x = s.mixed, .w = w.out, .gate = w.gate, .residual = hidden, .out = hidden});
}

void RunMlp(Backend& backend, const MlpWeights& w, const TextConfig& config,
            const TensorView& hidden, const TextScratch& scratch) {
  const TextScratch s = scratch.First(hidden.dim(0));
  backend.RmsNorm({.x = hidden, .weight = w.norm, .eps = config.norm_eps, .out = s.normed});
  backend.MatMul({.x = s.normed, .w = w.gate_up, .bias = w.gate_up_bias, .out = s.gate_up});
  const TensorView gated = s.gate_up.Columns(0, config.intermediate);
  backend.GatedActivation({.gate_up = s.gate_up, .activation = config.activation, .out = gated});
  backend.MatMul({.x = gated,
                  .w = w.down,
                  .bias = w.down_bias,
                  .gate = w.gate,
                  .residual = hidden,
                  .out = hidden});
}

void RunCrossKv(Backend& backend, const CrossLayerWeights& w, const TextConfig& config,
                const TensorView& projected, std::span<const int64_t> slots, const KvLayerView& kv,
                const TensorView& kv_rows) {
  const int64_t width = int64_t{config.kv_heads} * config.head_dim;
  const TensorView k = kv_rows.Columns(0, width), v = kv_rows.Columns(width, width);
  backend.MatMul({.x = projected, .w = w.kv, .out = kv_rows});
  backend.HeadRmsNorm(k, config.kv_heads, w.k_norm, config.norm_eps);
  backend.RopeWriteKv({.k = k, .v = v, .slots = slots, .kv = kv});
}

void RunVisionQkv(Backend& backend, const VisionLayerWeights& w, const VisionConfig& config,
                  const TensorView& hidden, const TensorView& qkv, const VisionScratch& scratch) {
  const TensorView normed = scratch.normed.Rows(0, hidden.dim(0));
  backend.LayerNorm(
      {.x = hidden, .weight = w.norm, .bias = w.norm_bias, .eps = config.norm_eps, .out = normed});
  backend.MatMul({.x = normed, .w = w.qkv, .out = qkv});
}

void RunVisionAttention(Backend& backend, const VisionLayerWeights& w, const VisionConfig& config,
                        const TensorView& qkv, std::span<const uint8_t> padding, int64_t row_begin,
                        const TensorView& hidden, const VisionScratch& scratch) {
  const int64_t rows = hidden.dim(0), width = int64_t{config.heads} * config.head_dim;
  const TensorView normed = scratch.normed.Rows(0, rows), mixed = scratch.mixed.Rows(0, rows);
  const TensorView ff = scratch.ff.Rows(0, rows);
  backend.DenseAttention({.q = qkv.Columns(0, width).Rows(row_begin, rows),
                          .k = qkv.Columns(width, width),
                          .v = qkv.Columns(2 * width, width),
                          .head_dim = config.head_dim,
                          .padding = padding,
                          .row_begin = row_begin,
                          .scale = AttentionScale(config.head_dim),
                          .out = mixed});
  backend.MatMul(
      {.x = mixed, .w = w.out, .gate = w.attention_gate, .residual = hidden, .out = hidden});
  backend.LayerNorm({.x = hidden,
                     .weight = w.post_norm,
                     .bias = w.post_norm_bias,
                     .eps = config.norm_eps,
                     .out = normed});
  backend.MatMul(
      {.x = normed, .w = w.fc1, .bias = w.fc1_bias, .activation = config.activation, .out = ff});
  backend.MatMul({.x = ff,
                  .w = w.fc2,
                  .bias = w.fc2_bias,
                  .gate = w.mlp_gate,
                  .residual = hidden,
                  .out = hidden});
}

}  // namespace tessera
