// The function table of a vector tier.
#pragma once

#include "kernels/cpu/isa/attend.h"
#include "kernels/cpu/isa/matmul_tile.h"
#include "kernels/cpu/isa/rows.h"

namespace tessera::cpu {

template <typename V>
constexpr Kernels VectorKernels(std::string_view tier) {
  return {.tier = tier,
          .matmul_rows = RowsOf<V>(),
          .matmul_panels = PanelsOf<V>,
          .matmul_tile = {TileOf<V, F32>, TileOf<V, F16>, TileOf<V, BF16>},
          .widen = {WidenOf<V, F32>, WidenOf<V, F16>, WidenOf<V, BF16>},
          .amx_tile = nullptr,
          .epilogue = EpilogueBody<V>,
          .gated_activation = GatedActivationBody<V>,
          .rms_norm = RmsNormBody<V>,
          .layer_norm = LayerNormBody<V>,
          .attend_queries = V::kRegisters >= 32 ? 8 : 4,
          .attend = {AttendOf<V, F32>, AttendOf<V, F16>, AttendOf<V, BF16>}};
}

}  // namespace tessera::cpu
