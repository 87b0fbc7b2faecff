// The vision tower of mllama (MllamaVisionModel): a local encoder, a gated global one, all tiles of
// a picture in one sequence; then the projector and the K/V of every cross-attention layer.
//
// Every picture runs with max_tiles tiles: padding tiles read real ones and are read by them. A
// tile has P tokens (class token, then patches), padded to a multiple of 8 by rows that are zero
// after layernorm_pre and take part in both encoders. Only pairs of two padding tokens (padding
// rows, and all rows of padding tiles) do not see each other.
//
// Padding rows that are alike are computed once (VisionRows) and their K and V repeated. A sequence
// is the tokens of all tiles, tile after tile, then the padding rows, one of each tile by turns.
//
// `skip_padding_tiles` leaves padding tiles out altogether: less work for pictures of few tiles,
// and other states for the real ones. An approximation that the operator asks for.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "model/config.h"
#include "model/layers.h"
#include "model/model.h"
#include "model/projector.h"
#include "model/vision_schedule.h"
#include "model/weights.h"

namespace tessera {

// What lies between two slices of one picture. S = max_tiles * padded tokens, N those of them that
// are computed at most.
struct VisionSlot {
  Tensor states;  // [N, C_v * (1 + K)]: the state of now, then the listed intermediate ones, whole
                  // states side by side
  Tensor shared;  // Q, K, V of a layer [S, 3 H D]; after the last layer the projected states [kept
                  // * P, C]
  std::vector<uint8_t> padding;  // [S]
  int next_unit = 0;
};

struct VisionWorkspace {
  static Result<VisionWorkspace> Make(Backend& backend, const VisionConfig& vision,
                                      const TextConfig& text, int slots);
  // What Make will allocate.
  static void AddNeed(const VisionConfig& vision, const TextConfig& text, WorkspaceNeed& need);

  std::vector<VisionSlot> slots;
  VisionScratch scratch;  // views of the tensors below
  Tensor normed, mixed, ff;
  Tensor patches;                 // [B, 3 ps ps]
  Tensor kv_rows;                 // [B, 2 G D]
  std::vector<int32_t> iota;      // 0, 1, ..., B - 1
  std::vector<int32_t> rows;      // of the op at hand, capacity for B and S - N
  std::vector<int64_t> kv_slots;  // capacity for B

  size_t bytes() const;
};

class VisionModel {
 public:
  // Both outlive the model.
  VisionModel(const VisionConfig& config, const TextConfig& text, const Weights& weights,
              double unit_flops, bool skip_padding_tiles);

  const VisionSchedule& schedule(int kept_tiles) const;
  void Encode(Backend& backend, const EncodeSlice& slice, const VisionSchedule& schedule,
              const std::vector<CrossLayerWeights>& cross_layers, const KvPools& pools,
              VisionWorkspace& workspace, Probe* probe) const;

  // Rows of one block: an op of the tower never has more.
  static int64_t BlockRows(const VisionConfig& config);
  static void AddScratchLimits(const VisionConfig& config, const TextConfig& text,
                               ScratchLimits& scratch);

 private:
  struct Run;  // the arguments of one Encode

  void Embed(const Run& run, const VisionStep& step) const;
  void EmbedPatches(const Run& run, int64_t tile_begin, int64_t tile_end) const;
  void LastNorm(const Run& run, const VisionStep& step) const;
  void Layer(const Run& run, const VisionStep& step) const;
  void RepeatPadding(const Run& run, int64_t computed) const;
  void KeepStates(const Run& run, int layer, int64_t row_begin, int64_t row_end) const;
  void Project(const Run& run, const VisionStep& step) const;
  void CrossKv(const Run& run, const VisionStep& step) const;
  void TapStates(const Run& run) const;
  void TapProjected(const Run& run) const;

  const VisionConfig* config_;
  const TextConfig* text_;
  std::vector<VisionLayerWeights> layers_;  // local, then global
  std::vector<VisionSchedule> schedules_;   // of 1..max_tiles kept tiles
  Projector projector_;
  const PackedMatrix* patch_;
  const PackedMatrix* class_token_;
  TensorView position_;       // [P, C_v]
  TensorView tile_position_;  // [ids * tiles * P, C_v]
  TensorView pre_tile_;       // [ids * tiles, C_v]
  TensorView post_tile_;      // [ids * tiles, C_v]
  float position_gate_, pre_tile_gate_, post_tile_gate_;
  const float* pre_norm_;
  const float* pre_norm_bias_;
  const float* last_norm_;
  const float* last_norm_bias_;
};

}  // namespace tessera
