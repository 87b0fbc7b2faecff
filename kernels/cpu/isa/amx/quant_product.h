// The AMX micro-kernel of int8 and int4 weights: up to 2 x 2 tiles of 16 x 16 int32 sums, operand
// tiles of 16 x 64 signed bytes, weight tiles of 64 x 16 unsigned bytes. `Tiles`: as in
// tile_product.h, and
//   Configure(bytes, rows)  tiles of operands have rows of `bytes`, those of weights `rows` rows
//   Zero<t>()
//   ByteProduct<c, a, b>()  TDPBSUD (Intel SDM volume 2): c[m][n] += sum over k of
//                           signed a[m][k] * unsigned b[k / 4][n][k % 4]
// A group's sums leave the tiles once and are scaled as every other tier scales them.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tessera::cpu {

template <typename Tiles, int kRowTiles, int kPanels>
void QuantGroup(Tiles& tiles, const AmxQuantTile& tile, const int8_t* q, const uint8_t* codes,
                int64_t count, int64_t step) {
  tiles.template Zero<0>();
  if constexpr (kPanels == 2) tiles.template Zero<1>();
  if constexpr (kRowTiles == 2) tiles.template Zero<2>();
  if constexpr (kRowTiles == 2 && kPanels == 2) tiles.template Zero<3>();
  for (int64_t k = 0; k < count; k += step, codes += step * kLanes) {
    tiles.template Load<6>(codes, 64);
    tiles.template Load<4>(q + k, tile.q_stride);
    tiles.template ByteProduct<0, 4, 6>();
    if constexpr (kPanels == 2) {
      tiles.template Load<7>(codes + tile.codes_panel, 64);
      tiles.template ByteProduct<1, 4, 7>();
    }
    if constexpr (kRowTiles == 2) {
      tiles.template Load<5>(q + 16 * tile.q_stride + k, tile.q_stride);
      tiles.template ByteProduct<2, 5, 6>();
      if constexpr (kPanels == 2) tiles.template ByteProduct<3, 5, 7>();
    }
  }
  constexpr int64_t kSumsBytes = 32 * 4;
  int32_t* below = tile.sums + 16 * 32;
  tiles.template Store<0>(tile.sums, kSumsBytes);
  if constexpr (kPanels == 2) tiles.template Store<1>(tile.sums + kLanes, kSumsBytes);
  if constexpr (kRowTiles == 2) tiles.template Store<2>(below, kSumsBytes);
  if constexpr (kRowTiles == 2 && kPanels == 2) tiles.template Store<3>(below + kLanes, kSumsBytes);
}

template <typename Tiles>
void AmxQuantBody(const AmxQuantTile& tile) {
  Tiles tiles;
  QuantScale scale = tile.scale;
  scale.rows = tile.row_tiles * 16;
  scale.panels = tile.panels;
  scale.sums = tile.sums;
  const uint8_t* codes = tile.codes;
  int64_t configured = 0;
  for (int64_t begin = 0; begin < tile.k_count; begin += tile.group) {
    const int64_t count = tile.k_count - begin < tile.group ? tile.k_count - begin : tile.group;
    const int64_t step = count % 64 == 0 ? 64 : 32;
    if (step != configured) {
      tiles.Configure(static_cast<int>(step), static_cast<int>(step / 4));
      configured = step;
    }
    const int8_t* q = tile.q + begin;
    if (tile.row_tiles == 1) {
      tile.panels == 1 ? QuantGroup<Tiles, 1, 1>(tiles, tile, q, codes, count, step)
                       : QuantGroup<Tiles, 1, 2>(tiles, tile, q, codes, count, step);
    } else {
      tile.panels == 1 ? QuantGroup<Tiles, 2, 1>(tiles, tile, q, codes, count, step)
                       : QuantGroup<Tiles, 2, 2>(tiles, tile, q, codes, count, step);
    }
    tile.apply(scale);
    codes += tile.codes_block;
    scale.steps += kQuantSteps * scale.step_stride;
    scale.meta += tile.meta_block;
  }
  tiles.Release();
}

}  // namespace tessera::cpu
