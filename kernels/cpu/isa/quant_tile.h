// The micro-kernels of int8 and int4 weights in the vector tiers (arithmetic: kernels/cpu/quant.h).
//
// `I` is the tier's vector of 16 int32 lanes or 64 bytes (ints_avx2.h, ints_avx512.h), I::Float its
// vector of 16 fp32 lanes. Weights are the unsigned side of the products: no sum over weights is
// needed, the operand's own sum stands for the offset. A lane of a line holds 4 k of one output.
#pragma once

#include "kernels/cpu/isa/simd.h"
#include "kernels/cpu/quant.h"

namespace tessera::cpu {

template <typename I>
constexpr int QuantRowsOf() {
  return I::kRegisters >= 32 ? 8 : 4;
}
// Accumulators, weight lines and one operand fit the registers; a row alone takes several panels to
// have several streams of memory under way.
template <typename I>
constexpr int QuantPanelsOf(int rows) {
  if (I::kRegisters < 32) return rows <= 1 ? 4 : rows == 2 ? 2 : 1;
  if (rows <= 4) return 4;
  if (I::kLineRegisters == 1) return rows <= 6 ? 4 : 3;
  return rows <= 6 ? 3 : 2;
}

// One group's sums of row r and panel p, scaled into y. `meta`: the panel's scales and minima.
template <typename I, int kMeta>
TESSERA_INLINE typename I::Float Scaled(typename I::Float y, I sums, float scale, float scaled_sum,
                                        const uint8_t* meta) {
  using V = typename I::Float;
  const auto* bf16 = reinterpret_cast<const uint16_t*>(meta);
  if constexpr (kMeta == 0) return V::Fma(sums.ToFloat(), V::Set1(scale), y);
  y = V::Fma(sums.ToFloat(), V::LoadBF16(bf16) * V::Set1(scale), y);
  if constexpr (kMeta == 2) y = V::Fma(V::LoadBF16(bf16 + kLanes), V::Set1(scaled_sum), y);
  return y;
}

template <typename I, int kBits, int kMeta, int kRows, int kPanels>
TESSERA_INLINE void QuantBody(const QuantTile& tile, int first_panel) {
  using V = typename I::Float;
  constexpr bool kHalves = kBits == 4;
  constexpr int kStep = kHalves ? 8 : 4;  // k of a line
  // The hardware prefetcher alone stops at each 4 KiB page.
  constexpr int64_t kAhead = 2048;
  // Few accumulators stay in registers from group to group.
  constexpr bool kKeep = I::kRegisters >= 32 && kRows * kPanels <= 8;
  const uint8_t* codes = tile.codes + first_panel * tile.codes_panel;
  const uint8_t* meta = tile.meta + first_panel * tile.meta_panel;
  const int64_t panel_bytes = tile.codes_panel;
  float* out = tile.acc + first_panel * kLanes;
  const int8_t* q = tile.q;
  const int32_t* start = tile.start;
  const float *scale = tile.scale, *scaled_sum = tile.scaled_sum;
  V y[kRows][kPanels];
  const auto load = [&]() __attribute__((always_inline)) {
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        y[r][p] = V::Load(out + r * tile.acc_stride + p * kLanes);
      });
    });
  };
  const auto store = [&]() __attribute__((always_inline)) {
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        y[r][p].Store(out + r * tile.acc_stride + p * kLanes);
      });
    });
  };
  if constexpr (kKeep) load();
  for (int64_t k = 0; k < tile.k_count; k += tile.group) {
    const int64_t count = tile.k_count - k < tile.group ? tile.k_count - k : tile.group;
    I sums[kRows][kPanels];
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      const I first = I::Broadcast(start + r);
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) { sums[r][p] = first; });
    });
    const uint8_t* line = codes;
    for (int64_t j = 0; j < count; j += kStep, line += 64, q += kRows * kStep) {
      I raw[kPanels];
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        raw[p] = I::Load(line + p * panel_bytes);
        if constexpr (kRows <= 4) __builtin_prefetch(line + p * panel_bytes + kAhead);
      });
      if constexpr (kHalves) {
        I low[kPanels], high[kPanels];
        Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
          low[p] = raw[p].LowHalves();
          high[p] = raw[p].HighHalves();
        });
        Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
          const I first = I::Broadcast(q + r * 4), second = I::Broadcast(q + (kRows + r) * 4);
          Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
            sums[r][p] = I::DotSmall(I::DotSmall(sums[r][p], low[p], first), high[p], second);
          });
        });
      } else {
        typename I::Line lines[kPanels];
        Unroll<V, kPanels>([&](auto p)
                               __attribute__((always_inline)) { lines[p] = I::Split(raw[p]); });
        Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
          const auto operand = I::Operand(q + r * 4);
          Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
            sums[r][p] = I::Dot(sums[r][p], lines[p], operand);
          });
        });
      }
    }
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        float* to = out + r * tile.acc_stride + p * kLanes;
        const V before = kKeep ? y[r][p] : V::Load(to);
        const V after = Scaled<I, kMeta>(before, sums[r][p], scale[r], scaled_sum[r],
                                         meta + p * tile.meta_panel);
        if constexpr (kKeep) {
          y[r][p] = after;
        } else {
          after.Store(to);
        }
      });
    });
    codes += tile.codes_block;
    meta += tile.meta_block;
    start += kRows;
    scale += kRows;
    scaled_sum += kRows;
  }
  if constexpr (kKeep) store();
}

template <typename I, int kBits, int kMeta, int kRows>
void QuantRowsBody(const QuantTile& tile) {
  constexpr int kPanels = QuantPanelsOf<I>(kRows);
  if (tile.panels == kPanels) return QuantBody<I, kBits, kMeta, kRows, kPanels>(tile, 0);
  for (int p = 0; p < tile.panels; ++p) QuantBody<I, kBits, kMeta, kRows, 1>(tile, p);
}

template <typename I, int kBits, int kMeta>
void QuantTileOf(const QuantTile& tile) {
  switch (tile.rows) {
    case 1: return QuantRowsBody<I, kBits, kMeta, 1>(tile);
    case 2: return QuantRowsBody<I, kBits, kMeta, 2>(tile);
    case 3: return QuantRowsBody<I, kBits, kMeta, 3>(tile);
    case 4: return QuantRowsBody<I, kBits, kMeta, 4>(tile);
  }
  if constexpr (QuantRowsOf<I>() >= 8) {
    switch (tile.rows) {
      case 5: return QuantRowsBody<I, kBits, kMeta, 5>(tile);
      case 6: return QuantRowsBody<I, kBits, kMeta, 6>(tile);
      case 7: return QuantRowsBody<I, kBits, kMeta, 7>(tile);
      case 8: return QuantRowsBody<I, kBits, kMeta, 8>(tile);
    }
  }
  __builtin_trap();
}

template <typename I, int kMeta>
void QuantScaleOf(const QuantScale& args) {
  using V = typename I::Float;
  for (int r = 0; r < args.rows; ++r) {
    const I start = I::Broadcast(args.start + r);
    for (int p = 0; p < args.panels; ++p) {
      float* to = args.acc + r * args.acc_stride + p * kLanes;
      const I sums = I::Load(args.sums + r * 32 + p * kLanes) + start;
      Scaled<I, kMeta>(V::Load(to), sums, args.scale[r], args.scaled_sum[r],
                       args.meta + p * args.meta_panel)
          .Store(to);
    }
  }
}

template <typename I>
void QuantRowOf(const QuantRow& row) {
  using V = typename I::Float;
  int8_t* q = row.q;
  for (int64_t begin = 0, g = 0; begin < row.stored_k; begin += row.group, ++g) {
    const int64_t end = begin + row.group < row.stored_k ? begin + row.group : row.stored_k;
    const auto load = [&](int64_t i) {
      return i + kLanes <= row.k ? V::Load(row.x + i)
             : i < row.k         ? V::LoadPart(row.x + i, static_cast<int>(row.k - i))
                                 : V::Zero();
    };
    // Bits of magnitudes order as integers, NaN last.
    I most = I::Zero();
    for (int64_t i = begin; i < end; i += kLanes) most = I::Max(most, I::Bits(V::Abs(load(i))));
    const float amax = __builtin_bit_cast(float, most.MaxLane());
    const bool finite = amax <= 3.40282347e38f, zero = !finite || amax < kQuantLeast;
    const float scale = !finite ? __builtin_nanf("") : zero ? 0.0f : amax / 127.0f;
    const V inverse = V::Set1(zero ? 0.0f : 127.0f / amax);
    I sum = I::Zero();
    for (int64_t i = begin; i < end; i += kLanes) {
      const I whole = zero ? I::Zero() : I::FromFloat(load(i) * inverse);
      sum = sum + whole;
      whole.StoreQuads(q, row.quad_stride * 4);
      q += row.quad_stride * kLanes;
    }
    const int32_t total = sum.Sum();
    row.scale[g * row.group_stride] = scale;
    row.scaled_sum[g * row.group_stride] = scale * static_cast<float>(total);
    row.start[g * row.group_stride] = -row.offset * total;
  }
}

template <typename I>
void QuantUnpackOf(const uint8_t* from, uint8_t* to, int64_t k) {
  for (int64_t j = 0; j < k; j += 8, from += 64, to += 128) {
    const I raw = I::Load(from);
    raw.LowHalves().Store(to);
    raw.HighHalves().Store(to + 64);
  }
}

// Enough chains to hide a product's latency.
template <typename I>
int64_t DotLoopOf(int64_t rounds, float* sink) {
  using V = typename I::Float;
  constexpr int kChains = I::kRegisters >= 32 ? 16 : 4;
  alignas(64) uint8_t bytes[64];
  for (int i = 0; i < 64; ++i) bytes[i] = static_cast<uint8_t>(i * 3);
  const auto line = I::Split(I::Load(bytes));
  const auto operand = I::Operand(reinterpret_cast<const int8_t*>(bytes + 1));
  I sums[kChains];
  Unroll<V, kChains>([&](auto i) __attribute__((always_inline)) {
    const int32_t first = static_cast<int>(i);
    sums[i] = I::Broadcast(&first);
  });
  for (int64_t round = 0; round < rounds; ++round) {
    Unroll<V, kChains>([&](auto i) __attribute__((always_inline)) {
      sums[i] = I::Dot(sums[i], line, operand);
    });
    // Or the compiler turns rounds of the same product into a multiplication.
    Unroll<V, kChains>([&](auto i) __attribute__((always_inline)) { sums[i].Opaque(); });
  }
  I sum = I::Zero();
  Unroll<V, kChains>([&](auto i) __attribute__((always_inline)) { sum = sum + sums[i]; });
  *sink += static_cast<float>(sum.Sum());
  return rounds * 2 * kChains * 64;
}

}  // namespace tessera::cpu
