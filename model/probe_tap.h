// Hands tensors to a Probe: on the host, contiguous, fp32.
#pragma once

#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "model/probe.h"

namespace tessera {

inline bool Wants(const Probe* probe, std::string_view name) {
  return probe != nullptr && probe->Wants(name);
}

// The view's rows (axis 0, possibly strided) as fp32 on the host. Allocates: for probes only.
std::vector<float> ToHost(Backend& backend, const TensorView& view);

// Does nothing unless the probe wants the name.
void Tap(Backend& backend, Probe* probe, std::string_view name, const TensorView& view);

}  // namespace tessera
