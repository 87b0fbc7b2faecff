// From vision states to cross-attention states: one linear layer over [final state, intermediate
// states].
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/backend.h"
#include "model/weights.h"

namespace tessera {

// The reference stacks the K intermediate states on a last axis and flattens it, so that feature d
// of the k-th listed layer is column C + d * K + k. Tessera keeps whole states one after another, C
// + k * C + d: they are written by layers that finish at different times. The two functions go from
// the reference's order to ours (weights) and back (probes).
std::vector<std::byte> RegroupStateColumns(const SourceMatrix& weights, int64_t hidden);
std::vector<float> InterleaveStates(const std::vector<float>& states, int64_t rows, int64_t hidden,
                                    int64_t layers);

struct Projector {
  const PackedMatrix* weight;
  const float* bias;

  explicit Projector(const Weights& weights);
  void Run(Backend& backend, const TensorView& states, const TensorView& out) const;
};

}  // namespace tessera
