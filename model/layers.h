// Layers of transformers as sequences of ops, over rows. A layer's weights are plain pointers into
// Weights.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend.h"
#include "kernels/kv_view.h"
#include "model/config.h"
#include "model/weights.h"

namespace tessera {

// Memory of one text layer, overwritten by the next. R rows.
struct TextScratch {
  TensorView normed;   // [R, C]
  TensorView qkv;      // [R, (H + 2G) D]
  TensorView mixed;    // [R, H D], output of attention
  TensorView gate_up;  // [R, 2F], after the activation its product in the first F columns

  TextScratch First(int64_t rows) const {
    return {normed.Rows(0, rows), qkv.Rows(0, rows), mixed.Rows(0, rows), gate_up.Rows(0, rows)};
  }
};

// SwiGLU feed-forward block with its norm (LlamaMLP, MllamaTextMLP).
struct MlpWeights {
  const float* norm = nullptr;
  const PackedMatrix* gate_up = nullptr;
  const float* gate_up_bias = nullptr;
  const PackedMatrix* down = nullptr;
  const float* down_bias = nullptr;
  float gate = 1;  // of the gated residual, 1 in self-attention layers

  MlpWeights() = default;
  MlpWeights(const Weights& weights, int layer);
};

// LlamaDecoderLayer, MllamaSelfAttentionDecoderLayer.
struct SelfLayerWeights {
  const float* norm = nullptr;
  const PackedMatrix* qkv = nullptr;
  const float* qkv_bias = nullptr;
  const PackedMatrix* out = nullptr;
  const float* out_bias = nullptr;
  MlpWeights mlp;

  SelfLayerWeights(const Weights& weights, int layer);
};

// MllamaCrossAttentionDecoderLayer.
struct CrossLayerWeights {
  const float* norm = nullptr;
  const PackedMatrix* q = nullptr;
  const float* q_norm = nullptr;
  const PackedMatrix* kv = nullptr;
  const float* k_norm = nullptr;
  const PackedMatrix* out = nullptr;
  float gate = 1;
  MlpWeights mlp;

  CrossLayerWeights(const Weights& weights, int layer);
};

// What self-attention needs to know of a step's rows.
struct SelfRows {
  std::span<const int32_t> positions;
  std::span<const int64_t> slots;
  std::span<const SequenceRows> sequences;
  std::span<const int32_t> pages;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// hidden[R, C] += attention(norm(hidden)); hidden += mlp(norm(hidden)). Writes the rows' K/V.
void RunSelfLayer(Backend& backend, const SelfLayerWeights& weights, const TextConfig& config,
                  const SelfRows& rows, const KvLayerView& kv, const TensorView& hidden,
                  const TextScratch& scratch);

// The attention half of a cross-attention layer over [I, C] rows.
void RunCrossAttention(Backend& backend, const CrossLayerWeights& weights, const TextConfig& config,
                       std::span<const CrossRow> rows, std::span<const int32_t> tile_pages,
                       const KvLayerView& kv, const TensorView& hidden, const TextScratch& scratch);

void RunMlp(Backend& backend, const MlpWeights& weights, const TextConfig& config,
            const TensorView& hidden, const TextScratch& scratch);

// K and V of picture rows for one cross-attention layer: projected[I, C] -> slots. `kv_rows`: [I, 2
// G D].
void RunCrossKv(Backend& backend, const CrossLayerWeights& weights, const TextConfig& config,
                const TensorView& projected, std::span<const int64_t> slots, const KvLayerView& kv,
                const TensorView& kv_rows);

// MllamaVisionEncoderLayer; the gates are 1 in the local encoder.
struct VisionLayerWeights {
  const float* norm = nullptr;
  const float* norm_bias = nullptr;
  const PackedMatrix* qkv = nullptr;
  const PackedMatrix* out = nullptr;
  float attention_gate = 1;
  const float* post_norm = nullptr;
  const float* post_norm_bias = nullptr;
  const PackedMatrix* fc1 = nullptr;
  const float* fc1_bias = nullptr;
  const PackedMatrix* fc2 = nullptr;
  const float* fc2_bias = nullptr;
  float mlp_gate = 1;

  VisionLayerWeights(const Weights& weights, Group group, int layer);
};

// Memory of one block of B vision rows.
struct VisionScratch {
  TensorView normed;  // [B, C_v]
  TensorView mixed;   // [B, H D]
  TensorView ff;      // [B, F_v]
};

// First phase of a vision layer: qkv[block] = W norm(hidden[block]). Attention of any block needs
// those of all rows.
void RunVisionQkv(Backend& backend, const VisionLayerWeights& weights, const VisionConfig& config,
                  const TensorView& hidden_block, const TensorView& qkv_block,
                  const VisionScratch& scratch);

// Second phase: hidden[block] += attention, then += mlp. `qkv`: all S rows; `padding`: [S].
void RunVisionAttention(Backend& backend, const VisionLayerWeights& weights,
                        const VisionConfig& config, const TensorView& qkv,
                        std::span<const uint8_t> padding, int64_t row_begin,
                        const TensorView& hidden_block, const VisionScratch& scratch);

}  // namespace tessera
