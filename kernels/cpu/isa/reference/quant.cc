// int8 and int4 in plain loops: the definition of kernels/cpu/quant.h, one product after another.
// Only the choice of codes shares its template with the vector tiers, over lanes that are an array.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/isa/quant_pack.h"
#include "kernels/cpu/kernels.h"

namespace tessera::cpu {
namespace {

// The code of (k, lane) in one group's codes.
template <int kBits>
int CodeAt(const uint8_t* codes, int64_t k, int lane) {
  if constexpr (kBits == 8) return codes[k / 4 * 64 + lane * 4 + k % 4];
  const uint8_t both = codes[k / 8 * 64 + lane * 4 + k % 4];
  return k % 8 < 4 ? both & 15 : both >> 4;
}

float BF16At(const uint8_t* meta, int index) {
  uint16_t bits;
  std::memcpy(&bits, meta + index * 2, 2);
  return BF16ToFloat(bits);
}

// Steps of one row and group, `stride` apart.
template <int kMeta>
float Scaled(float y, int32_t sum, const float* steps, int64_t stride, float scale, float minimum) {
  const float t = steps[kStepScale * stride] * (std::bit_cast<float>(sum) - 1.5f);
  if (kMeta == 0) return y + t;
  y = std::fma(t, scale, y);
  return kMeta == 2 ? std::fma(minimum, steps[kStepScaledSum * stride], y) : y;
}

int32_t StartOf(const float* steps, int64_t stride) {
  return std::bit_cast<int32_t>(steps[kStepStart * stride]);
}

float MetaAt(const uint8_t* meta, int index, bool opened) {
  if (!opened) return BF16At(meta, index);
  float value;
  std::memcpy(&value, meta + index * 4, sizeof value);
  return value;
}

template <int kBits, int kMeta, bool kOpened>
void Tile(const QuantTile& tile) {
  for (int p = 0; p < tile.panels; ++p)
    for (int64_t begin = 0, g = 0; begin < tile.k_count; begin += tile.group, ++g) {
      const int64_t count = std::min<int64_t>(tile.group, tile.k_count - begin);
      const uint8_t* codes = tile.codes + p * tile.codes_panel + g * tile.codes_block;
      const uint8_t* meta = tile.meta + p * tile.meta_panel + g * tile.meta_block;
      for (int r = 0; r < tile.rows; ++r) {
        const float* steps = tile.steps + g * kQuantSteps * tile.rows + r;
        int32_t sums[kLanes];
        std::fill_n(sums, kLanes, StartOf(steps, tile.rows));
        for (int64_t k = 0; k < count; ++k) {
          const int q = tile.q[((begin + k) / 4 * tile.rows + r) * 4 + k % 4];
          for (int lane = 0; lane < kLanes; ++lane) sums[lane] += q * CodeAt<kBits>(codes, k, lane);
        }
        float* acc = tile.acc + r * tile.acc_stride + p * kLanes;
        for (int lane = 0; lane < kLanes; ++lane)
          acc[lane] = Scaled<kMeta>(acc[lane], sums[lane], steps, tile.rows,
                                    kMeta > 0 ? MetaAt(meta, lane, kOpened) : 0,
                                    kMeta > 1 ? MetaAt(meta, kLanes + lane, kOpened) : 0);
      }
    }
}

template <int kMeta>
void Scale(const QuantScale& args) {
  for (int r = 0; r < args.rows; ++r)
    for (int n = 0; n < args.panels * kLanes; ++n) {
      float& acc = args.acc[r * args.acc_stride + n];
      const float* steps = args.steps + r;
      const uint8_t* meta = args.meta + n / kLanes * args.meta_panel;
      acc = Scaled<kMeta>(acc, args.sums[r * 32 + n] + StartOf(steps, args.step_stride), steps,
                          args.step_stride, kMeta > 0 ? BF16At(meta, n % kLanes) : 0,
                          kMeta > 1 ? BF16At(meta, kLanes + n % kLanes) : 0);
    }
}

void Row(const QuantRow& row) {
  for (int64_t begin = 0, g = 0; begin < row.stored_k; begin += row.group, ++g) {
    const int64_t stored_end = std::min(row.stored_k, begin + row.group);
    const int64_t end = std::min(row.k, stored_end);
    float amax = 0;
    bool finite = true;
    for (int64_t k = begin; k < end; ++k) {
      finite = finite && std::isfinite(row.x[k]);
      amax = std::max(amax, std::fabs(row.x[k]));
    }
    const bool zero = !finite || amax < kQuantLeast;
    const float inverse = zero ? 0 : 127.0f / amax;
    int32_t sum = 0;
    for (int64_t k = begin; k < stored_end; ++k) {
      const float steps = zero || k >= row.k ? 0.0f : std::nearbyint(row.x[k] * inverse);
      row.q[k / 4 * row.quad_stride * 4 + k % 4] = static_cast<int8_t>(steps);
      sum += static_cast<int32_t>(steps);
    }
    const float scale =
        !finite ? std::numeric_limits<float>::quiet_NaN()
        : zero  ? 0.0f
                : std::bit_cast<float>(std::bit_cast<uint32_t>(amax / 127.0f) & kScaleBits);
    float* steps = row.steps + g * kQuantSteps * row.step_stride;
    steps[kStepScale * row.step_stride] = scale;
    steps[kStepShift * row.step_stride] = -1.5f * scale;
    steps[kStepScaledSum * row.step_stride] = scale * (kSumUnit * static_cast<float>(sum));
    steps[kStepStart * row.step_stride] = std::bit_cast<float>(kSumStart - row.offset * sum);
  }
}

void Open(const QuantLayout& layout, const uint8_t* block, uint8_t* to, int64_t k_count) {
  const int metas = layout.per_channel ? 0 : layout.minimum ? 2 * kLanes : kLanes;
  for (int i = 0; i < metas; ++i) {
    const float value = BF16At(block, i);
    std::memcpy(to + i * 4, &value, sizeof value);
  }
  block += layout.meta_bytes();
  to += layout.open_meta_bytes();
  for (int64_t k = 0; k < k_count; ++k)
    for (int lane = 0; lane < kLanes; ++lane)
      to[k / 4 * 64 + lane * 4 + k % 4] = static_cast<uint8_t>(
          layout.bits == 8 ? CodeAt<8>(block, k, lane) : CodeAt<4>(block, k, lane));
}

void Finish(const QuantFinish& args) {
  for (int64_t r = 0; r < args.rows; ++r)
    for (int n = 0; n < args.panels * kLanes; ++n) {
      float& acc = args.acc[r * args.acc_stride + n];
      acc *= 1.0f / kSumUnit;
      if (args.channel != nullptr)
        acc *= args.channel[n / kLanes * (args.channel_panel / 4) + n % kLanes];
    }
}

// The integers beside the lanes that are an array, as quant_pack.h wants them.
struct WholeLanes {
  using Float = PlainLanes;
  uint32_t v[kLanes];
  static WholeLanes FromFloat(const PlainLanes& x) {
    WholeLanes out;
    for (int i = 0; i < kLanes; ++i) out.v[i] = static_cast<uint32_t>(x.v[i]);
    return out;
  }
  static WholeLanes Bytes(const WholeLanes& a, const WholeLanes& b, const WholeLanes& c,
                          const WholeLanes& d) {
    WholeLanes out;
    for (int i = 0; i < kLanes; ++i) out.v[i] = a.v[i] | b.v[i] << 8 | c.v[i] << 16 | d.v[i] << 24;
    return out;
  }
  static WholeLanes Halves(const WholeLanes& low, const WholeLanes& high) {
    WholeLanes out;
    for (int i = 0; i < kLanes; ++i) out.v[i] = low.v[i] | high.v[i] << 4;
    return out;
  }
  void Store(uint8_t* p) const { std::memcpy(p, v, sizeof v); }
};

int64_t DotLoop(int64_t rounds, float* sink) {
  int8_t q[64];
  uint8_t codes[64];
  for (int i = 0; i < 64; ++i)
    q[i] = static_cast<int8_t>(i), codes[i] = static_cast<uint8_t>(i * 3);
  int32_t sums[64] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    for (int i = 0; i < 64; ++i) sums[i] += q[i] * codes[i];
    asm volatile("" : : "r"(sums) : "memory");
  }
  for (int32_t sum : sums) *sink += static_cast<float>(sum & 255);
  return rounds * 2 * 64;
}

}  // namespace

QuantKernels ReferenceQuantKernels() {
  return {.rows = 8,
          .panels = [](int) { return 1; },
          .tile = {Tile<8, 0, false>, Tile<8, 1, false>, Tile<4, 1, false>, Tile<4, 2, false>,
                   Tile<8, 0, true>, Tile<8, 1, true>, Tile<8, 2, true>},
          .row = Row,
          .scale = {Scale<0>, Scale<1>, Scale<2>},
          .open = Open,
          .finish = Finish,
          .pack = QuantPackOf<WholeLanes>,
          .dot_loop = DotLoop,
          .amx_tile = nullptr};
}

}  // namespace tessera::cpu
