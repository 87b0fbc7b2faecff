// How a call of attention is cut into work items. Pure functions of their arguments: tested on
// their own, and the same list gives the same bits. A row's result does not depend on how it was
// cut.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/ops.h"

namespace tessera::cuda {

// A launch's share of a plan's items. Items of a launch that leave partial results have their
// places and counters to themselves; the next launch uses the memory again.
struct AttentionLaunch {
  int tile_vectors = 0;  // 0: prefill; else decode with tiles of this height
  int32_t item_begin = 0;
  int32_t item_count = 0;
  int32_t partial_vectors = 0;  // of one K/V head
  int32_t counters = 0;         // of one K/V head
};

struct AttentionPlan {
  std::vector<AttentionItem> items;
  std::vector<AttentionLaunch> launches;
};

struct PlanLimits {
  int group = 1;
  int prefill_vectors = 128;    // height of a prefill tile
  int max_partial_vectors = 0;  // of one K/V head, in one launch
};

// Sequences of at most 32 vectors are decoded, their keys spread over blocks; others are prefilled,
// the tiles with most keys first.
AttentionPlan PlanSelfAttention(std::span<const SequenceRows> sequences, const PlanLimits& limits);
// Neighbouring rows of one range are one run. tile_blocks: key blocks of a tile.
AttentionPlan PlanCrossAttention(std::span<const CrossRow> rows, int tile_blocks,
                                 const PlanLimits& limits);
AttentionPlan PlanDenseAttention(int64_t rows, int64_t keys, const PlanLimits& limits);

}  // namespace tessera::cuda
