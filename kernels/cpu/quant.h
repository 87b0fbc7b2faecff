// int8 and int4 weights on the CPU: layout, arithmetic, and the arguments of their micro-kernels.
//
// Weights. K is cut into groups; an output has one scale a group (bf16), or one in all (fp32, int8
// only). A weight is scale * (code - offset): int8 codes 1..255 with offset 128, int4 codes 0..15
// with offset 8, or, with a minimum (bf16), scale * code + minimum.
//
// Operands. Each row of x is cut into the same groups (128 where weights have one scale an output):
//   amax = largest |x|;  s = amax / 127;  q = round to nearest even of x * (127 / amax)
//   amax below 2^-100: s = 0, q = 0;  an infinity or NaN in the group: s = NaN, q = 0
//
// Result, groups ascending, float() exact because a group's sum of products is below 2^24:
//   y = fma(float(sum q (code - offset)), weight scale * s, y)         or, one scale an output,
//   y = fma(float(sum q (code - 128)), s, y), at the end y * weight scale
//   with a minimum, after that: y = fma(minimum, s * float(sum q), y)
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
};

// What a tile kernel meets: codes as bytes or halves of bytes, with scales, with minima too.
enum QuantKind : uint8_t { kBytes, kBytesScaled, kBytesMinimum, kHalvesScaled, kHalvesMinimum };
inline constexpr int kQuantKinds = 5;

// acc[r][p * 16 + lane] goes through the groups of the call, as above. Operands are tiles of rows:
// q [k / 4][rows][4], and per group [groups][rows] of s, of s * float(sum q), of -offset * sum q.
struct QuantTile {
  int rows = 0;         // 1 .. quant_rows
  int panels = 0;       // 1 .. quant_panels(rows)
  int group = 0;        // the last group may be shorter
  int64_t k_count = 0;  // a multiple of 32, beginning at a group
  const int8_t* q = nullptr;
  const float* scale = nullptr;
  const float* scaled_sum = nullptr;
  const int32_t* start = nullptr;
  const uint8_t* codes = nullptr;  // of the first panel and group
  int64_t codes_panel = 0;         // bytes from panel to panel and from group to group
  int64_t codes_block = 0;
  const uint8_t* meta = nullptr;
  int64_t meta_panel = 0;
  int64_t meta_block = 0;
  float* acc = nullptr;
  int64_t acc_stride = 0;
};

// One row of x as an operand. Quads of q stand `quad_stride` quads apart, groups `group_stride`
// elements.
struct QuantRow {
  const float* x = nullptr;
  int64_t k = 0, stored_k = 0;
  int group = 0;
  int offset = 0;
  int8_t* q = nullptr;
  int64_t quad_stride = 1;
  float* scale = nullptr;
  float* scaled_sum = nullptr;
  int32_t* start = nullptr;
  int64_t group_stride = 1;
};

// One group of 32 x 32 sums of products that came from tiles, into acc: the same fmas as QuantTile.
struct QuantScale {
  int rows = 0, panels = 0;       // rows of 16, panels of 16
  const int32_t* sums = nullptr;  // [rows][32], without `start`
  const float* scale = nullptr;   // [rows], and so on
  const float* scaled_sum = nullptr;
  const int32_t* start = nullptr;
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
  int64_t scale_group = 0;  // elements from group to group of scale, sum, start
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

struct QuantKernels {
  int rows = 1;
  int (*panels)(int rows) = nullptr;
  void (*tile[kQuantKinds])(const QuantTile&) = {};
  void (*row)(const QuantRow&) = nullptr;
  void (*scale[3])(const QuantScale&) = {};  // kBytes .. kBytesMinimum
  // Codes of one group from halves to bytes, `k` of them a lane.
  void (*unpack)(const uint8_t* from, uint8_t* to, int64_t k) = nullptr;
  void (*pack)(const QuantPack&) = nullptr;
  // Ceiling of this tier's integer products on one core: returns the operations done (two a
  // product).
  int64_t (*dot_loop)(int64_t rounds, float* sink) = nullptr;
  void (*amx_tile)(const AmxQuantTile&) = nullptr;  // AMX tiers only
};

}  // namespace tessera::cpu
