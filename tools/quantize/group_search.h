// Codes of one group of weights in the terms of compressed-tensors: w ~ scale * (code - zero),
// codes and zero 0..15, zero 8 where the format is symmetric. Pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/dtype.h"

namespace tessera::quantize {

struct GroupCodes {
  float scale = 0;  // a number of the scales' dtype; 0 where all weights are
  int zero = 8;
  double error = 0;  // importance * squared error, summed
};

// Searches the scale (clipping included) and the zero point for the least weighed squared error;
// for the codes that a try gives, the scale of least squares. `importance`: as many numbers, or
// empty. `codes` gets one code a weight. All weights are finite. `scale_dtype`: bf16, fp16 or fp32.
GroupCodes SearchGroup(std::span<const float> w, std::span<const float> importance, bool symmetric,
                       DType scale_dtype, std::span<uint8_t> codes);

}  // namespace tessera::quantize
