// The AMX matmul micro-kernel: up to 2 x 2 accumulator tiles of 16 x 16, operand and weight tiles
// of 16 x 32 bf16.
//
// `Tiles` is the eight tile registers: the processor's (amx/kernels.cc), or a software model of
// them (tests/ops), so that this code is tested on machines without AMX. Members, all static in the
// number of the tile:
//   Configure() / Release()      16 rows of 64 bytes in every tile, as this kernel uses them
//   Load<t>(p, bytes), Store<t>(p, bytes)   rows `bytes` apart
//   Product<c, a, b>()           TDPBF16PS (Intel SDM volume 2): c[m][n] += sum over k of a[m][k]
//   b[k / 2][n][k % 2], in
//                                fp32, subnormals as zero
// One element is one chain of products in ascending blocks of 32 k, whatever rows and panels share
// the call.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tessera::cpu {

template <typename Tiles, int kRowTiles, int kPanels>
void TileProduct(Tiles& tiles, const AmxTile& tile) {
  constexpr int kTileRows = 16, kTileK = 32;
  const int64_t acc_bytes = tile.acc_stride * 4, a_bytes = tile.a_stride * 2;
  float* acc = tile.acc;
  float* acc_below = acc + kTileRows * tile.acc_stride;
  tiles.template Load<0>(acc, acc_bytes);
  if constexpr (kPanels == 2) tiles.template Load<1>(acc + kLanes, acc_bytes);
  if constexpr (kRowTiles == 2) tiles.template Load<2>(acc_below, acc_bytes);
  if constexpr (kRowTiles == 2 && kPanels == 2)
    tiles.template Load<3>(acc_below + kLanes, acc_bytes);
  const uint16_t* w = tile.w;
  for (int64_t k = 0; k < tile.k_count; k += kTileK, w += kTileK * kLanes) {
    tiles.template Load<6>(w, 64);
    tiles.template Load<4>(tile.a + k, a_bytes);
    tiles.template Product<0, 4, 6>();
    if constexpr (kPanels == 2) {
      tiles.template Load<7>(w + tile.panel_stride, 64);
      tiles.template Product<1, 4, 7>();
    }
    if constexpr (kRowTiles == 2) {
      tiles.template Load<5>(tile.a + kTileRows * tile.a_stride + k, a_bytes);
      tiles.template Product<2, 5, 6>();
      if constexpr (kPanels == 2) tiles.template Product<3, 5, 7>();
    }
  }
  tiles.template Store<0>(acc, acc_bytes);
  if constexpr (kPanels == 2) tiles.template Store<1>(acc + kLanes, acc_bytes);
  if constexpr (kRowTiles == 2) tiles.template Store<2>(acc_below, acc_bytes);
  if constexpr (kRowTiles == 2 && kPanels == 2)
    tiles.template Store<3>(acc_below + kLanes, acc_bytes);
}

template <typename Tiles>
void AmxTileBody(const AmxTile& tile) {
  Tiles tiles;
  tiles.Configure();
  if (tile.row_tiles == 1) {
    tile.panels == 1 ? TileProduct<Tiles, 1, 1>(tiles, tile)
                     : TileProduct<Tiles, 1, 2>(tiles, tile);
  } else {
    tile.panels == 1 ? TileProduct<Tiles, 2, 1>(tiles, tile)
                     : TileProduct<Tiles, 2, 2>(tiles, tile);
  }
  tiles.Release();
}

}  // namespace tessera::cpu
