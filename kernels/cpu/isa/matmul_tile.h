// The matmul micro-kernel of the vector tiers: kRows x kPanels accumulators in registers, weights
// streamed, operand rows broadcast.
//
// One row is bound by memory, so several panels give independent chains (an FMA takes 4 cycles) and
// long streams; many rows are bound by FMAs, so the panels per row shrink until the accumulators
// fill the register file.
#pragma once

#include "kernels/cpu/isa/simd.h"

namespace tessera::cpu {

// Panels that a tile of `rows` rows takes side by side: accumulators, weights and one broadcast fit
// the registers.
template <typename V>
constexpr int PanelsOf(int rows) {
  if (V::kRegisters >= 32) return rows == 1 ? 4 : rows == 2 ? 6 : rows <= 4 ? 6 : rows <= 6 ? 4 : 3;
  return rows == 1 ? 4 : rows == 2 ? 2 : 1;
}
template <typename V>
constexpr int RowsOf() {
  return V::kRegisters >= 32 ? 8 : 6;
}

template <typename V, typename Format, int kRows, int kPanels>
TESSERA_INLINE void TileBody(const MatMulTile& tile, int first_panel) {
  using Type = typename Format::Type;
  // A weight line is prefetched this many steps of k ahead. The hardware prefetcher alone stops at
  // each 4 KiB page. Many rows of fp32 are mostly widened panels, which are near.
  constexpr int64_t kAhead = 48;
  constexpr bool kFromMemory = kRows <= 2 || sizeof(Type) < sizeof(float);
  const Type* w = static_cast<const Type*>(tile.w) + first_panel * tile.panel_stride;
  const int64_t stride = tile.panel_stride;
  float* out = tile.acc + first_panel * kLanes;
  V acc[kRows][kPanels];
  Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
    Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
      acc[r][p] = V::Load(out + r * tile.acc_stride + p * kLanes);
    });
  });
  const float* a[kRows];
  Unroll<V, kRows>([&](auto r)
                       __attribute__((always_inline)) { a[r] = tile.a + r * tile.a_stride; });
  for (int64_t k = 0; k < tile.k_count; ++k, w += kLanes) {
    V line[kPanels];
    Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
      line[p] = Format::Load(w + p * stride);
      if constexpr (kFromMemory) __builtin_prefetch(w + p * stride + kAhead * kLanes);
    });
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      const V x = V::Set1(a[r][k]);
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        acc[r][p] = V::Fma(x, line[p], acc[r][p]);
      });
    });
  }
  Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
    Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
      acc[r][p].Store(out + r * tile.acc_stride + p * kLanes);
    });
  });
}

template <typename V, typename Format, int kRows>
void TileOfRows(const MatMulTile& tile) {
  if (tile.panels == PanelsOf<V>(kRows))
    return TileBody<V, Format, kRows, PanelsOf<V>(kRows)>(tile, 0);
  for (int p = 0; p < tile.panels; ++p) TileBody<V, Format, kRows, 1>(tile, p);
}

template <typename V, template <typename> typename Format>
void TileOf(const MatMulTile& tile) {
  switch (tile.rows) {
    case 1: return TileOfRows<V, Format<V>, 1>(tile);
    case 2: return TileOfRows<V, Format<V>, 2>(tile);
    case 3: return TileOfRows<V, Format<V>, 3>(tile);
    case 4: return TileOfRows<V, Format<V>, 4>(tile);
    case 5: return TileOfRows<V, Format<V>, 5>(tile);
    case 6: return TileOfRows<V, Format<V>, 6>(tile);
    case 7:
      if constexpr (RowsOf<V>() >= 7) return TileOfRows<V, Format<V>, 7>(tile);
      break;
    case 8:
      if constexpr (RowsOf<V>() >= 8) return TileOfRows<V, Format<V>, 8>(tile);
      break;
  }
  __builtin_trap();
}

template <typename V, template <typename> typename Format>
void WidenOf(const void* from, float* to, int64_t count) {
  const auto* w = static_cast<const typename Format<V>::Type*>(from);
  for (int64_t i = 0; i < count; i += kLanes) Format<V>::Load(w + i).Store(to + i);
}

}  // namespace tessera::cpu
