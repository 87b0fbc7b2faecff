// Weights as int8 and int4 codes: which formats there are, and how rows of fp32 become codes,
// scales and minima. Row-major and the same on every device; each backend lays the result out as
// its kernels read it. Pure functions, safe from any thread.
//
// A weight is scale * (code - offset), or scale * code + minimum. Codes of int8 are 1..255 with
// offset 128, of int4 0..15 with offset 8, or 0 with a minimum. Scales and minima of groups are
// bf16 numbers; where all of a row shares one scale it is any fp32 number.
//
// Scales: int8 by the largest magnitude; int4 by search for the least squared error, each column's
// weighed by its importance where that is given.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"
#include "kernels/backend.h"

namespace tessera {

inline constexpr int kQuantLanes = 16;           // rows quantised side by side
inline constexpr float kQuantLeast = 0x1p-100f;  // groups of smaller numbers are zero
inline constexpr float kQuantMost = 1e37f;       // so that no step times a code overflows

struct QuantFormat {
  int bits = 8;   // 8 or 4
  int group = 0;  // columns that share a scale: 32, 64 or 128. 0: all of a row (int8 alone)
  bool minimum = false;

  int offset() const { return bits == 8 ? 128 : minimum ? 0 : 8; }
  // The last group may be shorter.
  int64_t groups(int64_t k) const { return group == 0 ? 1 : (k + group - 1) / group; }
};

// The format that a spec of int8 or int4 asks for, its defaults filled in. Error: a group size that
// there is none of (field "group").
Result<QuantFormat> QuantFormatOf(const PackSpec& spec);

struct QuantizedRows {
  uint8_t* codes = nullptr;  // [rows][k], one code a byte
  float* scales = nullptr;   // [rows][groups]
  float* minima = nullptr;   // [rows][groups]; null where the format has none
};

// Quantises w [rows][k]. `importance`: k numbers, or empty. Returns -1, or the first row that holds
// a number that is not finite or above kQuantMost; what was written for rows from the 16 about that
// one on is then undefined. A backend that pads K hands the padding's zeros in too.
int64_t QuantizeRows(const QuantFormat& format, const float* w, int64_t rows, int64_t k,
                     std::span<const float> importance, const QuantizedRows& to);

}  // namespace tessera
