// The immutable inputs of one step of a model, ragged: flat rows and offsets, no padding. Built
// once, then const.
//
// Models see rows, positions and pages; they never see a sequence or a request.
// server/engine/batch.cc builds it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"

namespace tessera {

// One picture as the model takes it: uint8 after resizing, so that it stays small while its request
// waits.
struct MediaPixels {
  std::vector<uint8_t> tiles;  // [used_tiles, 3, height, width]
  int used_tiles = 0;
  int height = 0, width = 0;  // of a tile
  int tiles_high = 0, tiles_wide = 0;
  int aspect_ratio_id = 0;  // 1-based, mllama; 0 otherwise
  // Exact float32 pixel value of every uint8 level and channel, after rescaling and normalisation.
  std::array<std::array<float, 256>, 3> lut{};
};

// What a row does in cross-attention layers.
struct CrossRowInput {
  int32_t row = 0;          // index into Batch::tokens
  int32_t tiles_begin = 0;  // visible tiles: Batch::cross_tile_pages[tiles_begin, tiles_end)
  int32_t tiles_end = 0;
  // false: the attention output is added, the layer's MLP is left out (rows that see no picture,
  // unseen_rows = attend).
  bool mlp = true;
};

struct Batch {
  std::vector<int32_t> tokens;     // [R]
  std::vector<int32_t> positions;  // [R], 0-based in their sequence
  std::vector<int64_t>
      self_slots;  // [R], where the row's own K/V go: page * kKvBlockTokens + offset
  std::vector<SequenceRows>
      sequences;  // rows of a sequence are adjacent, in ascending order of row_begin
  std::vector<int32_t> self_pages;  // block tables, flat (SequenceRows::page_begin)
  // Rows that take part in cross-attention layers, ascending by row; all others pass those layers
  // unchanged (no picture in their request, or unseen_rows = zero and no picture seen yet).
  std::vector<CrossRowInput> cross_rows;
  std::vector<int32_t> cross_tile_pages;  // flat, one cross page per tile
  std::vector<int32_t> logits_rows;       // [L], rows whose logits are wanted, ascending
  std::vector<PageCopy> page_copies;      // self pages copied before anything else

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

// A part of the work of encoding one picture. Work is counted in units of about equal FLOPs
// (Model::PlanEncode), done strictly in order from 0; the slot keeps what lies between two slices.
struct EncodeSlice {
  int32_t slot = 0;  // encode workspace, [0, encode slots)
  const MediaPixels* pixels = nullptr;
  int32_t unit_begin = 0;
  int32_t unit_end = 0;
  // One cross page per kept tile (used tiles; with unseen_rows = attend all max_tiles, the padding
  // tiles after the used ones), written by the last units.
  std::span<const int32_t> cross_pages;
};

}  // namespace tessera
