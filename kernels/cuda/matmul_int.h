// Products and table look-ups with int8 and int4 weights beside activations of bf16 or fp16: how
// the weights lie in device memory, and the launchers.
//
// A weight is that of kernels/quantize.h. Codes become numbers in registers, never in memory:
// - one scale a row (int8): code - 128 is exact in bf16 and fp16; sums are scaled in fp32, last;
// - scales of groups: (code - 128) * scale, or of int4 fma(128 + code, scale, shift) with shift =
//   fma(-(128 + offset), scale, minimum), exact where there is no minimum; rounded once, from fp32
//   to the activations' type.
// The product is mma with fp32 sums. K is cut into kIntParts parts of whole steps of 64; a part is
// one chain of mma over ascending k, and parts are added in ascending order. Nothing of this
// depends on the rows: the kernel for up to 16 rows and the one for more give a row the same bits.
//
// Layout. The fragments of mma.m16n8k16, so that a lane finds its own beside each other: a strip is
// 8 outputs, a unit the codes of a strip in one step, and lane 4 g + t has those of output g:
//   int8  512 bytes, [lane][4 slices of 16 k][k = 2t, 2t+1, 2t+8, 2t+9], a byte a code
//   int4  256 bytes, [lane][2 pairs of slices] words; nibbles 0, 4, 1, 5 are those four k of the
//         first slice, 2, 6, 3, 7 of the second, so that one shift and one mask give two codes in
//         the halves of a word
//   units  [strips][steps], K padded to 64
//   groups [quads of strips][rows of words][32 outputs] words of two bf16: scale and minimum of
//         group r, or, without minima, the scales of groups 2 r and 2 r + 1
//   rows   [strips * 8] fp32, where a row has one scale
// A step of a strip is whole 32-byte sectors: 512 or 256 bytes of codes, and 32 of scales, which
// last for half a step (int4 with minima in groups of 32) to 4 steps. So short a row of words is
// what the parts of K need: one that lasts longer would be read by several parts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/rows.h"

namespace tessera::cuda {

inline constexpr int32_t kIntStep = 64;  // k
inline constexpr int32_t kIntStrip = 8;  // outputs
inline constexpr int32_t kIntQuad = 32;  // outputs of four strips, whose words are 128 bytes
inline constexpr int32_t kIntParts = 8;  // of K
inline constexpr int64_t kIntFew = 16;   // rows that the kernel for few takes

struct IntLayout {
  int32_t n = 0, k = 0;
  int32_t bits = 8;
  int32_t group = 0;  // 32, 64, 128; 0: one scale a row, int8 alone
  int32_t minimum = 0;

  constexpr int32_t steps() const { return (k + kIntStep - 1) / kIntStep; }
  constexpr int32_t part_steps() const { return (steps() + kIntParts - 1) / kIntParts; }
  constexpr int32_t strips() const { return (n + kIntStrip - 1) / kIntStrip; }
  constexpr int32_t unit_bytes() const { return bits * kIntStep; }
  constexpr int32_t quads() const { return (n + kIntQuad - 1) / kIntQuad; }
  constexpr int32_t word_groups() const { return minimum != 0 ? 1 : 2; }  // of a row of words
  // For all of the steps, of which the last may reach beyond K.
  constexpr int32_t word_rows() const {
    const int32_t columns = group * word_groups();
    return group == 0 ? 0 : (steps() * kIntStep + columns - 1) / columns;
  }
  // From the start of the allocation, each a multiple of 128 bytes.
  constexpr int64_t words_at() const { return int64_t{strips()} * steps() * unit_bytes(); }
  constexpr int64_t scales_at() const {
    return words_at() + int64_t{quads()} * word_rows() * kIntQuad * 4;
  }
  constexpr int64_t bytes() const {
    return scales_at() + (group == 0 ? int64_t{strips()} * kIntStrip * 4 : 0);
  }
  // Host packing: where a code, a scale or a minimum stands, in nibbles, words' halves and floats.
  constexpr int64_t code_at(int32_t row, int32_t column) const {
    const int32_t slice = column % kIntStep / 16, in_slice = column % 16;
    const int32_t lane = row % kIntStrip * 4 + in_slice % 8 / 2;
    const int32_t four = in_slice / 8 * 2 + in_slice % 2;  // which of the lane's k
    const int64_t unit = int64_t{row / kIntStrip} * steps() + column / kIntStep;
    if (bits == 8) return unit * 512 + lane * 16 + slice * 4 + four;
    const int32_t nibble = slice % 2 * 2 + four / 2 + four % 2 * 4;
    return (unit * 256 + lane * 8 + slice / 2 * 4) * 2 + nibble;
  }
  constexpr int64_t scale_at(int32_t row, int32_t in_group) const {
    const int64_t words = int64_t{row / kIntQuad} * word_rows() + in_group / word_groups();
    return (words * kIntQuad + row % kIntQuad) * 2 + in_group % word_groups();
  }
};

// `op` as in LaunchMatMulFixed, but its w and k_stored, which are not used.
struct MatMulIntParams {
  MatMulParams op;
  IntLayout layout;
  const void* weights = nullptr;  // 128-byte aligned
};
LaunchStatus LaunchMatMulInt(RowType type, RowType out_type, const MatMulIntParams& params,
                             Stream stream);

// out[i, c] = the weight (ids[i], c), rounded to the type of out.
struct EmbeddingIntParams {
  IntLayout layout;
  const void* weights = nullptr;
  const int32_t* ids = nullptr;
  const int32_t* drawn = nullptr;  // what the ids below 0 stand for (IdOfDraw)
  void* out = nullptr;
  int64_t out_stride = 0;
  int64_t count = 0;
};
LaunchStatus LaunchEmbeddingInt(RowType out_type, const EmbeddingIntParams& params, Stream stream);

}  // namespace tessera::cuda
