// Activations in fp32, as the gated activation, the epilogue and our matmul apply them.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rows.h"

namespace tessera::cuda {

// 1 / (1 + e^-x) in two special functions. e^-x may be infinite: the reciprocal is 0 then.
TESSERA_DEVICE float Sigmoid(float x) {
  constexpr float kLog2E = 1.44269504f;
  return fast_rcp(1.0f + fast_exp2(-kLog2E * x));
}

// NaN stays NaN in all of them.
template <RowActivation kActivation>
TESSERA_DEVICE float Activate(float x) {
  if constexpr (kActivation == RowActivation::kSilu) {
    return x * Sigmoid(x);
  } else if constexpr (kActivation == RowActivation::kGelu) {
    constexpr float kSqrtHalf = 0.70710678f;
    return 0.5f * x * (1.0f + erf_f(x * kSqrtHalf));
  } else if constexpr (kActivation == RowActivation::kGeluTanh) {
    // (1 + tanh u) / 2 is the sigmoid of 2 u; no digits cancel for negative u
    constexpr float kTwoSqrtTwoOverPi = 1.59576912f;
    return x * Sigmoid(kTwoSqrtTwoOverPi * fma_rn(0.044715f * x * x, x, x));
  } else if constexpr (kActivation == RowActivation::kQuickGelu) {
    return x * Sigmoid(1.702f * x);
  } else if constexpr (kActivation == RowActivation::kRelu) {
    return x < 0.0f ? 0.0f : x;
  } else {
    return x;
  }
}

// The same, chosen at run time: one branch that every thread takes alike.
TESSERA_DEVICE float Activate(RowActivation activation, float x) {
  switch (activation) {
    case RowActivation::kSilu: return Activate<RowActivation::kSilu>(x);
    case RowActivation::kGelu: return Activate<RowActivation::kGelu>(x);
    case RowActivation::kGeluTanh: return Activate<RowActivation::kGeluTanh>(x);
    case RowActivation::kQuickGelu: return Activate<RowActivation::kQuickGelu>(x);
    case RowActivation::kRelu: return Activate<RowActivation::kRelu>(x);
    default: return x;
  }
}

}  // namespace tessera::cuda
