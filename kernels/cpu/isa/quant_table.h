// The function table of a vector tier's int8 and int4 kernels.
#pragma once

#include "kernels/cpu/isa/quant_pack.h"
#include "kernels/cpu/isa/quant_tile.h"

namespace tessera::cpu {

template <typename I>
constexpr QuantKernels QuantKernelsOf() {
  return {
      .rows = QuantRowsOf<I>(),
      .panels = QuantPanelsOf<I>,
      .tile = {QuantTileOf<I, kBytes>, QuantTileOf<I, kBytesScaled>, QuantTileOf<I, kHalvesScaled>,
               QuantTileOf<I, kHalvesMinimum>, QuantTileOf<I, kOpen>, QuantTileOf<I, kOpenScaled>,
               QuantTileOf<I, kOpenMinimum>},
      .row = QuantRowOf<I>,
      .scale = {QuantScaleOf<I, 0>, QuantScaleOf<I, 1>, QuantScaleOf<I, 2>},
      .open = QuantOpenOf<I>,
      .finish = QuantFinishOf<I>,
      .pack = QuantPackOf<I>,
      .dot_loop = DotLoopOf<I>,
      .amx_tile = nullptr};
}

}  // namespace tessera::cpu
