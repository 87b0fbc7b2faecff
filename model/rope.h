// Cosine and sine tables of the rotary position embedding (Su et al. 2021), as transformers
// computes them.
#pragma once

#include <vector>

#include "base/error.h"
#include "kernels/backend.h"
#include "model/config.h"

namespace tessera {

// Inverse frequencies, [head_dim / 2], in fp32 step by step as the reference does
// (modeling_rope_utils.py), and the factor that multiplies cosines and sines: 1 except for yarn.
struct RopeFrequencies {
  std::vector<float> inverse;
  float attention_factor = 1;
};
RopeFrequencies ComputeRopeFrequencies(const RopeConfig& rope, int head_dim);

// Both [positions, head_dim / 2] fp32 on the device: cos(float(position) * inverse), times the
// factor.
struct RopeTables {
  Tensor cos;
  Tensor sin;
  int rotary_dim = 0;

  static Result<RopeTables> Make(Backend& backend, const RopeConfig& rope, int head_dim,
                                 int positions);
};

}  // namespace tessera
