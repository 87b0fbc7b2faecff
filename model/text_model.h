// The text half of every model: embedding, self- and cross-attention layers, head. Llama models
// have no cross layers.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "model/config.h"
#include "model/layers.h"
#include "model/model.h"
#include "model/rope.h"
#include "model/weights.h"

namespace tessera {

// All memory of a step's text rows, made once; nothing is allocated while a step runs.
struct TextWorkspace {
  static Result<TextWorkspace> Make(Backend& backend, const TextConfig& config,
                                    const WorkspaceLimits& limits);
  static void AddNeed(const TextConfig& config, WorkspaceNeed& need);  // what Make will allocate

  int64_t max_rows = 0, max_logits_rows = 0;
  Tensor hidden;     // [R, C]
  Tensor cross;      // [R, C], rows of a cross-attention layer, compacted
  Tensor cross_mlp;  // [R, C], those of them that run its MLP
  Tensor normed;
  // What attention and what an MLP keeps between its ops: never both at a time, in one storage.
  Tensor inner;
  TensorView qkv, mixed, gate_up;
  Tensor head_rows;  // [L, C]
  Tensor logits;     // [L, V] fp32
  // Host side of the cross rows of a step; capacity for R.
  std::vector<int32_t> cross_rows;  // rows of the batch
  std::vector<CrossRow> cross_tiles;
  std::vector<int32_t> mlp_rows;  // indices into cross_rows

  TextScratch scratch() const { return {normed, qkv, mixed, gate_up}; }
  size_t bytes() const;
};

class TextModel {
 public:
  // `config` and `weights` outlive the model.
  static Result<TextModel> Make(Backend& backend, const TextConfig& config, const Weights& weights);

  void Forward(Backend& backend, const Batch& batch, const KvPools& pools, TextWorkspace& workspace,
               Probe* probe) const;

  // In the order of the cross pool's layers.
  const std::vector<CrossLayerWeights>& cross_layers() const { return cross_layers_; }
  const TextConfig& config() const { return *config_; }
  size_t table_bytes() const { return rope_.cos.bytes() + rope_.sin.bytes(); }
  static void AddScratchLimits(const TextConfig& config, const WorkspaceLimits& limits,
                               ScratchLimits& scratch);

 private:
  TextModel(const TextConfig& config, const Weights& weights, RopeTables rope);
  void RunCrossLayer(Backend& backend, const CrossLayerWeights& layer, const Batch& batch,
                     const KvLayerView& kv, TextWorkspace& workspace) const;
  void RunHead(Backend& backend, std::span<const int32_t> rows, TextWorkspace& workspace) const;
  void TapAllLogits(Backend& backend, const Batch& batch, TextWorkspace& workspace,
                    Probe* probe) const;

  const TextConfig* config_;
  RopeTables rope_;
  const PackedMatrix* embedding_;
  const float* final_norm_;
  const PackedMatrix* head_;  // the embedding where tied
  std::vector<SelfLayerWeights> self_layers_;
  std::vector<CrossLayerWeights> cross_layers_;
};

}  // namespace tessera
