// Copies tensors out of a running model, for tessera-verify and for explanations. Not a test path:
// the model runs the same code with and without one.
#pragma once

#include <string_view>

#include "kernels/tensor.h"

namespace tessera {

class Probe {
 public:
  virtual ~Probe() = default;
  // Asked before a tensor is copied; names: vision_hidden, projected, logits, cross_states,
  // layer.N.hidden, ...
  virtual bool Wants(std::string_view name) const = 0;
  // `host` is contiguous fp32 on the host, valid during the call. Called on the engine's thread.
  virtual void Take(std::string_view name, const TensorView& host) = 0;
};

}  // namespace tessera
