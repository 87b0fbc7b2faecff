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

// Scales (0) or minima (1) of a panel's group.
template <typename V, bool kOpened>
TESSERA_INLINE V MetaOf(const uint8_t* meta, int which) {
  if constexpr (kOpened) return V::Load(reinterpret_cast<const float*>(meta) + which * kLanes);
  return V::LoadBF16(reinterpret_cast<const uint16_t*>(meta) + which * kLanes);
}

// One row's part of a group: what its sums of each panel become.
template <typename V>
struct RowSteps {
  V scale, shift, scaled_sum;
  TESSERA_INLINE RowSteps(const float* steps, int64_t stride)
      : scale(V::Set1(steps[kStepScale * stride])),
        shift(V::Set1(steps[kStepShift * stride])),
        scaled_sum(V::Set1(steps[kStepScaledSum * stride])) {}
};

template <typename I, int kMeta, typename V = typename I::Float>
TESSERA_INLINE V Scaled(V y, I sums, const RowSteps<V>& row, V weight_scale, V minimum) {
  const V t = V::Fma(sums.AsFloat(), row.scale, row.shift);
  if constexpr (kMeta == 0) return y + t;
  y = V::Fma(t, weight_scale, y);
  if constexpr (kMeta == 2) y = V::Fma(minimum, row.scaled_sum, y);
  return y;
}

// `kMeta`: 0 no scales, 1 scales, 2 minima too.
template <typename I, QuantKind kKind>
struct QuantKindOf {
  static constexpr bool kHalves = kKind == kHalvesScaled || kKind == kHalvesMinimum;
  static constexpr bool kOpened = kKind >= kOpen;
  static constexpr int kMeta = kKind == kBytes || kKind == kOpen                  ? 0
                               : kKind == kHalvesMinimum || kKind == kOpenMinimum ? 2
                                                                                  : 1;
  static constexpr int kStep = kHalves ? 8 : 4;  // k of a line
};

// Products of one line of each panel with all rows.
template <typename I, QuantKind kKind, int kRows, int kPanels>
TESSERA_INLINE void QuantLine(I (&sums)[kRows][kPanels], const uint8_t* line, int64_t panel_bytes,
                              const int8_t* q) {
  using V = typename I::Float;
  if constexpr (QuantKindOf<I, kKind>::kHalves) {
    // One half of all lines at a time: both beside the sums would not fit the registers.
    I raw[kPanels];
    Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
      raw[p] = I::Load(line + p * panel_bytes);
    });
    Unroll<V, 2>([&](auto half) __attribute__((always_inline)) {
      I codes[kPanels];
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        codes[p] = half == 0 ? raw[p].LowHalves() : raw[p].HighHalves();
      });
      Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
        const I operand = I::Broadcast(q + (half * kRows + r) * 4);
        Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
          sums[r][p] = I::DotSmall(sums[r][p], codes[p], operand);
        });
      });
    });
  } else {
    typename I::Line lines[kPanels];
    Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
      lines[p] = I::Split(I::Load(line + p * panel_bytes));
    });
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      const auto operand = I::Operand(q + r * 4);
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        sums[r][p] = I::Dot(sums[r][p], lines[p], operand);
      });
    });
  }
}

template <typename I, QuantKind kKind, int kRows, int kPanels>
TESSERA_INLINE void QuantBody(const QuantTile& tile, int first_panel) {
  using V = typename I::Float;
  using Kind = QuantKindOf<I, kKind>;
  constexpr int kMeta = Kind::kMeta, kStep = Kind::kStep;
  // The hardware prefetcher alone stops at each 4 KiB page.
  constexpr int64_t kAhead = 2048;
  // Few accumulators stay in registers from group to group.
  constexpr bool kKeep = I::kRegisters >= 32 && kRows * kPanels <= 8;
  const uint8_t* codes = tile.codes + first_panel * tile.codes_panel;
  const uint8_t* meta = tile.meta + first_panel * tile.meta_panel;
  const int64_t panel_bytes = tile.codes_panel;
  float* out = tile.acc + first_panel * kLanes;
  const int8_t* q = tile.q;
  const float* steps = tile.steps;
  int64_t left = tile.left;
  V y[kRows][kPanels];
  const auto each = [](auto&& body) __attribute__((always_inline)) {
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) { body(r, p); });
    });
  };
  const auto place = [&](auto r, auto p) __attribute__((always_inline)) {
    return out + r * tile.acc_stride + p * kLanes;
  };
  if constexpr (kKeep)
    each([&](auto r, auto p) __attribute__((always_inline)) { y[r][p] = V::Load(place(r, p)); });
  for (int64_t k = 0; k < tile.k_count; k += tile.group) {
    const int64_t count = tile.k_count - k < tile.group ? tile.k_count - k : tile.group;
    I sums[kRows][kPanels];
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      const I first = I::Broadcast(steps + kStepStart * kRows + r);
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) { sums[r][p] = first; });
    });
    const int64_t ahead = left > kAhead ? kAhead : kAhead + tile.jump;
    const uint8_t* line = codes;
    for (int64_t j = 0; j < count; j += kStep, line += 64, q += kRows * kStep) {
      if constexpr (!Kind::kOpened)
        Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
          __builtin_prefetch(line + p * panel_bytes + ahead);
        });
      QuantLine<I, kKind>(sums, line, panel_bytes, q);
    }
    V scales[kPanels], minima[kPanels];
    Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
      const uint8_t* at = meta + p * tile.meta_panel;
      scales[p] = kMeta > 0 ? MetaOf<V, Kind::kOpened>(at, 0) : V::Zero();
      minima[p] = kMeta > 1 ? MetaOf<V, Kind::kOpened>(at, 1) : V::Zero();
    });
    Unroll<V, kRows>([&](auto r) __attribute__((always_inline)) {
      const RowSteps<V> row(steps + r, kRows);
      Unroll<V, kPanels>([&](auto p) __attribute__((always_inline)) {
        const V before = kKeep ? y[r][p] : V::Load(place(r, p));
        const V after = Scaled<I, kMeta>(before, sums[r][p], row, scales[p], minima[p]);
        if constexpr (kKeep) {
          y[r][p] = after;
        } else {
          after.Store(place(r, p));
        }
      });
    });
    codes += tile.codes_block;
    left -= tile.codes_block;
    meta += tile.meta_block;
    steps += kQuantSteps * kRows;
  }
  if constexpr (kKeep)
    each([&](auto r, auto p) __attribute__((always_inline)) { y[r][p].Store(place(r, p)); });
}

template <typename I, QuantKind kKind, int kRows>
void QuantRowsBody(const QuantTile& tile) {
  constexpr int kPanels = QuantPanelsOf<I>(kRows);
  if (tile.panels == kPanels) return QuantBody<I, kKind, kRows, kPanels>(tile, 0);
  for (int p = 0; p < tile.panels; ++p) QuantBody<I, kKind, kRows, 1>(tile, p);
}

template <typename I, QuantKind kKind>
void QuantTileOf(const QuantTile& tile) {
  switch (tile.rows) {
    case 1: return QuantRowsBody<I, kKind, 1>(tile);
    case 2: return QuantRowsBody<I, kKind, 2>(tile);
    case 3: return QuantRowsBody<I, kKind, 3>(tile);
    case 4: return QuantRowsBody<I, kKind, 4>(tile);
  }
  if constexpr (QuantRowsOf<I>() >= 8) {
    switch (tile.rows) {
      case 5: return QuantRowsBody<I, kKind, 5>(tile);
      case 6: return QuantRowsBody<I, kKind, 6>(tile);
      case 7: return QuantRowsBody<I, kKind, 7>(tile);
      case 8: return QuantRowsBody<I, kKind, 8>(tile);
    }
  }
  __builtin_trap();
}

template <typename I, int kMeta>
void QuantScaleOf(const QuantScale& args) {
  using V = typename I::Float;
  const auto* start = reinterpret_cast<const int32_t*>(args.steps + kStepStart * args.step_stride);
  for (int p = 0; p < args.panels; ++p) {
    const uint8_t* meta = args.meta + p * args.meta_panel;
    const V scale = kMeta > 0 ? MetaOf<V, false>(meta, 0) : V::Zero(),
            minimum = kMeta > 1 ? MetaOf<V, false>(meta, 1) : V::Zero();
    for (int r = 0; r < args.rows; ++r) {
      float* to = args.acc + r * args.acc_stride + p * kLanes;
      const I sums = I::Load(args.sums + r * 32 + p * kLanes) + I::Broadcast(start + r);
      const RowSteps<V> row(args.steps + r, args.step_stride);
      Scaled<I, kMeta>(V::Load(to), sums, row, scale, minimum).Store(to);
    }
  }
}

template <typename I>
void QuantRowOf(const QuantRow& row) {
  using V = typename I::Float;
  int8_t* q = row.q;
  float* steps = row.steps;
  for (int64_t begin = 0; begin < row.stored_k; begin += row.group) {
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
    const float scale =
        !finite ? __builtin_nanf("")
        : zero
            ? 0.0f
            : __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, amax / 127.0f) & kScaleBits);
    const V inverse = V::Set1(zero ? 0.0f : 127.0f / amax);
    I sum = I::Zero();
    for (int64_t i = begin; i < end; i += kLanes) {
      const I whole = zero ? I::Zero() : I::FromFloat(load(i) * inverse);
      sum = sum + whole;
      whole.StoreQuads(q, row.quad_stride * 4);
      q += row.quad_stride * kLanes;
    }
    const int32_t total = sum.Sum();
    const auto put = [&](QuantStep step, float value) { steps[step * row.step_stride] = value; };
    put(kStepScale, scale);
    put(kStepShift, -1.5f * scale);
    put(kStepScaledSum, scale * (kSumUnit * static_cast<float>(total)));
    put(kStepStart, __builtin_bit_cast(float, kSumStart - row.offset * total));
    steps += kQuantSteps * row.step_stride;
  }
}

template <typename I>
void QuantOpenOf(const QuantLayout& layout, const uint8_t* block, uint8_t* to, int64_t k) {
  using V = typename I::Float;
  auto* meta = reinterpret_cast<float*>(to);
  if (!layout.per_channel) MetaOf<V, false>(block, 0).Store(meta);
  if (layout.minimum) MetaOf<V, false>(block, 1).Store(meta + kLanes);
  block += layout.meta_bytes();
  to += layout.open_meta_bytes();
  if (layout.bits == 8) {
    for (int64_t j = 0; j < k; j += 4, block += 64, to += 64) I::Load(block).Store(to);
    return;
  }
  for (int64_t j = 0; j < k; j += 8, block += 64, to += 128) {
    const I raw = I::Load(block);
    raw.LowHalves().Store(to);
    raw.HighHalves().Store(to + 64);
  }
}

template <typename I>
void QuantFinishOf(const QuantFinish& args) {
  using V = typename I::Float;
  const V unit = V::Set1(1.0f / kSumUnit);
  for (int p = 0; p < args.panels; ++p) {
    const V channel = args.channel == nullptr ? V::Set1(1.0f)
                                              : V::Load(args.channel + p * args.channel_panel / 4);
    for (int64_t r = 0; r < args.rows; ++r) {
      float* at = args.acc + r * args.acc_stride + p * kLanes;
      (V::Load(at) * unit * channel).Store(at);
    }
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
