// The function table of a vector tier's int8 and int4 kernels.
#pragma once

#include "kernels/cpu/isa/quant_pack.h"
#include "kernels/cpu/isa/quant_tile.h"

namespace tessera::cpu {

template <typename I>
constexpr QuantKernels QuantKernelsOf() {
  return {.rows = QuantRowsOf<I>(),
          .panels = QuantPanelsOf<I>,
          .tile = {QuantTileOf<I, 8, 0>, QuantTileOf<I, 8, 1>, QuantTileOf<I, 8, 2>,
                   QuantTileOf<I, 4, 1>, QuantTileOf<I, 4, 2>},
          .row = QuantRowOf<I>,
          .scale = {QuantScaleOf<I, 0>, QuantScaleOf<I, 1>, QuantScaleOf<I, 2>},
          .unpack = QuantUnpackOf<I>,
          .pack = QuantPackOf<I>,
          .dot_loop = DotLoopOf<I>,
          .amx_tile = nullptr};
}

}  // namespace tessera::cpu
