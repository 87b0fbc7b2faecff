// int8 and int4 weights on the CPU: layout, arithmetic, and the arguments of their micro-kernels.
//
// Weights. K is cut into groups; an output has one scale a group (bf16), or one in all (fp32, int8
// only). A weight is scale * (code - offset): int8 codes 1..255 with offset 128, int4 codes 0..15
// with offset 8, or, with a minimum (bf16), scale * code + minimum.
//
// Operands. Each row of x is cut into the same groups (128 where weights have one scale an output):
//   amax = largest |x|;  q = round to nearest even of x * (127 / amax)
//   s = amax / 127, the two lowest bits of its fraction cleared
//   amax below 2^-100: s = 0, q = 0;  an infinity or NaN in the group: s = NaN, q = 0
//
// Result, groups ascending, with t = s * (2^-23 * sum q (code - offset)), rounded once:
//   y = fma(t, weight scale, y)     or, one scale an output,     y = y + t
//   with a minimum, after that: y = fma(minimum, s * (2^-23 * sum q), y)
// and at the end y * 2^23, with one scale an output times that.
// A sum that starts at the bits of 1.5 is, read as fp32, 1.5 + 2^-23 * sum, for its magnitude is
// below 2^22. So t = fma(that, s, -1.5 s), exact before its rounding, where converting the sum
// would be an instruction more for every few products.
// Sums of integers are exact in any order, and no step above depends on rows, tiles or tier: every
// tier gives the same bits.
//
// Layout. A panel is 16 outputs; its groups follow each other: [16 scales][16 minima][codes].
// Codes of int8: [k / 4][16][4], which is both what VPDPBUSD reads and an AMX tile of 64 k. int4:
// [k / 8][16][4], the low half of a byte is k, the high half k + 4. K is padded to 32.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/quantize.h"

namespace tessera::cpu {

inline constexpr int kQuantAlign = 32;     // K is padded to it
inline constexpr int kChannelGroup = 128;  // of the operand, where weights have no groups

struct QuantLayout {
  int bits = 8;
  int group = kChannelGroup;
  bool per_channel = true;
  bool minimum = false;
  int64_t stored_k = 0;

  int offset() const { return bits == 8 ? 128 : minimum ? 0 : 8; }
  int64_t groups() const { return (stored_k + group - 1) / group; }
  int64_t meta_bytes() const { return per_channel ? 0 : minimum ? 64 : 32; }
  int64_t code_bytes(int64_t k) const { return k * kQuantLanes * bits / 8; }
  int64_t block_bytes() const { return meta_bytes() + code_bytes(group); }
  // Of one panel, with the fp32 scales of its outputs at its end, rounded up to a cache line.
  int64_t scales_at() const { return groups() * meta_bytes() + code_bytes(stored_k); }
  int64_t panel_bytes() const { return (scales_at() + (per_channel ? 64 : 0) + 63) / 64 * 64; }
  // A group opened for many row tiles: [16 scales][16 minima] in fp32, codes as bytes.
  int64_t open_meta_bytes() const { return per_channel ? 0 : minimum ? 128 : 64; }
  int64_t open_block_bytes() const { return open_meta_bytes() + int64_t{group} * kQuantLanes; }
};

// What a tile kernel meets: codes as bytes or halves of bytes, with scales, with minima too; or
// opened groups.
enum QuantKind : uint8_t {
  kBytes,
  kBytesScaled,
  kHalvesScaled,
  kHalvesMinimum,
  kOpen,
  kOpenScaled,
  kOpenMinimum
};
inline constexpr int kQuantKinds = 7;

// What the operand's groups add to the products; each stands for all rows of a tile, in this order.
enum QuantStep : uint8_t {
  kStepScale,      // s
  kStepShift,      // -1.5 s
  kStepScaledSum,  // s * (2^-23 * sum q)
  kStepStart,      // int32: the bits of 1.5, less offset * sum q
};
inline constexpr int kQuantSteps = 4;
inline constexpr int32_t kSumStart = 0x3FC00000;    // the bits of 1.5f
inline constexpr float kSumUnit = 0x1p-23f;         // what 1 in a sum is worth then
inline constexpr uint32_t kScaleBits = 0xFFFFFFFC;  // of s, so that 1.5 s is exact

// acc[r][p * 16 + lane] goes through the groups of the call, as above, without the last step.
// Operands are tiles of rows: q [k / 4][rows][4], and steps [groups][kQuantSteps][rows].
struct QuantTile {
  int rows = 0;         // 1 .. quant_rows
  int panels = 0;       // 1 .. quant_panels(rows)
  int group = 0;        // the last group may be shorter
  int64_t k_count = 0;  // a multiple of 32, beginning at a group
  const int8_t* q = nullptr;
  const float* steps = nullptr;
  const uint8_t* codes = nullptr;  // of the first panel and group
  int64_t codes_panel = 0;         // bytes from panel to panel and from group to group
  int64_t codes_block = 0;
  const uint8_t* meta = nullptr;
  int64_t meta_panel = 0;
  int64_t meta_block = 0;
  // What is prefetched once the last `left` bytes of a panel are under way stands `jump` bytes
  // behind them.
  int64_t left = 0;
  int64_t jump = 0;
  float* acc = nullptr;
  int64_t acc_stride = 0;
};

// One row of x, or a part that begins at a group, as an operand. Quads of q stand `quad_stride`
// quads apart, steps `step_stride` numbers.
struct QuantRow {
  const float* x = nullptr;
  int64_t k = 0, stored_k = 0;
  int group = 0;
  int offset = 0;
  int8_t* q = nullptr;
  int64_t quad_stride = 1;
  float* steps = nullptr;  // [groups][kQuantSteps], strided
  int64_t step_stride = 1;
};

// One group of 32 x 32 sums of products that came from tiles, into acc: the same fmas as QuantTile.
struct QuantScale {
  int rows = 0, panels = 0;       // rows of 16, panels of 16
  const int32_t* sums = nullptr;  // [rows][32], from zero
  const float* steps = nullptr;   // [kQuantSteps][step_stride], `rows` of each
  int64_t step_stride = 0;
  const uint8_t* meta = nullptr;
  int64_t meta_panel = 0;
  float* acc = nullptr;
  int64_t acc_stride = 0;
};

// Products of 16-row tiles for AMX: codes are bytes.
struct AmxQuantTile {
  int row_tiles = 0;  // 1..2
  int panels = 0;     // 1..2
  int64_t k_count = 0;
  int group = 0;
  const int8_t* q = nullptr;  // [row_tiles * 16][q_stride]
  int64_t q_stride = 0;
  const uint8_t* codes = nullptr;
  int64_t codes_panel = 0, codes_block = 0;
  int32_t* sums = nullptr;  // scratch of 32 x 32
  QuantScale scale;         // of the first group; sums is set by the kernel
  int64_t meta_block = 0;   // bytes
  void (*apply)(const QuantScale&) = nullptr;
};

// Codes of one group of 16 outputs. `w`: [k][16] fp32, finite. With one scale an output, `scales`
// are given; else they are chosen here (kernels/quantize.h) and written to `meta` with the minima.
struct QuantPack {
  const float* w = nullptr;
  int64_t k = 0;
  QuantFormat format;
  const float* scales = nullptr;      // [16]
  const float* importance = nullptr;  // [k] or null
  uint8_t* meta = nullptr;
  uint8_t* codes = nullptr;
};

// The last step of the rule, in place. `channel`: the scales of the first panel's outputs, or null.
struct QuantFinish {
  int64_t rows = 0;
  int panels = 0;
  const float* channel = nullptr;
  int64_t channel_panel = 0;  // bytes
  float* acc = nullptr;
  int64_t acc_stride = 0;
};

struct QuantKernels {
  int rows = 1;
  int (*panels)(int rows) = nullptr;
  void (*tile[kQuantKinds])(const QuantTile&) = {};
  void (*row)(const QuantRow&) = nullptr;
  void (*scale[3])(const QuantScale&) = {};  // no scales, scales, minima too
  // One group as the layout has it to an opened one, `k` codes a lane.
  void (*open)(const QuantLayout&, const uint8_t* block, uint8_t* to, int64_t k) = nullptr;
  void (*finish)(const QuantFinish&) = nullptr;
  void (*pack)(const QuantPack&) = nullptr;
  // Ceiling of this tier's integer products on one core: returns the operations done (two a
  // product).
  int64_t (*dot_loop)(int64_t rounds, float* sink) = nullptr;
  void (*amx_tile)(const AmxQuantTile&) = nullptr;  // AMX tiers only
};

}  // namespace tessera::cpu
