// How the work of one picture is cut into steps and units, so that it can be spread over many
// engine steps.
//
// A step is one phase of one layer for one block of rows. Results of a row do not depend on how
// rows are cut (ARCHITECTURE decision 5), so that slices of any size give the same bits. A unit is
// a run of steps of about equal work.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace tessera {

enum class VisionStage : uint8_t {
  kEmbed,      // rows are tiles: patches, class token, position and tile embeddings, layernorm_pre
  kQkv,        // phase one of a layer: norm and Q, K, V
  kAttention,  // phase two: attention, output projection, MLP
  kLastNorm,   // layernorm_post and the post-tile embedding, between the encoders
  kProject,    // rows are tokens of kept tiles: states to cross-attention states
  kCrossKv,    // the same rows: K and V of one cross-attention layer
};

// Rows of `tiles` tiles that a layer computes: the tokens, tile after tile, then the padding rows
// that are not alike. Those of all tiles are alike in the local encoder: they start as zeros and
// see the same keys. The post-tile embedding then tells tiles apart.
inline int64_t VisionRows(const VisionConfig& vision, int tiles, bool global) {
  const bool pads = vision.padded_tokens() > vision.tokens();
  return int64_t{tiles} * vision.tokens() + (pads ? global ? tiles : 1 : 0);
}

struct VisionStep {
  VisionStage stage = VisionStage::kEmbed;
  int layer = 0;  // kQkv, kAttention: local layers, then global ones; kCrossKv: index of the
                  // cross-attention layer
  int64_t row_begin = 0;
  int64_t row_end = 0;
  double flops = 0;
};

class VisionSchedule {
 public:
  // `kept_tiles`: tiles whose states are read in the end. `run_tiles`: tiles that go through the
  // tower, all max_tiles unless padding tiles are left out. `block`: most rows of a step.
  // `unit_flops`: work of a unit.
  VisionSchedule(const VisionConfig& vision, const TextConfig& text, int kept_tiles, int run_tiles,
                 int64_t block, double unit_flops);

  int units() const { return static_cast<int>(unit_ends_.size()); }
  int cross_kv_begin() const { return cross_kv_begin_; }
  int kept_tiles() const { return kept_tiles_; }
  int run_tiles() const { return run_tiles_; }
  double flops() const { return flops_; }
  // Steps of units [begin, end), in order.
  std::span<const VisionStep> Steps(int begin, int end) const;

 private:
  void Add(VisionStage stage, int layer, int64_t rows, double flops_per_row, int64_t block);

  const int kept_tiles_, run_tiles_;
  const double unit_flops_;
  std::vector<VisionStep> steps_;
  std::vector<size_t> unit_ends_;  // index after the last step of a unit
  int cross_kv_begin_ = 0;
  double flops_ = 0;
};

}  // namespace tessera
