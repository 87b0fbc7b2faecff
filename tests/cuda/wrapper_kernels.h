// One tiny kernel per word of device.cuh.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/cuda/stream.h"

namespace tessera::cuda {

struct WrapperParams {
  const uint8_t* in = nullptr;
  uint8_t* out = nullptr;
  uint32_t count = 0;  // of elements, where a kernel takes any number
};

// The words that have a kernel here.
std::vector<std::string_view> WrapperNames();

LaunchStatus RunWrapper(std::string_view name, const WrapperParams& params, Grid grid,
                        unsigned threads, Stream stream);

}  // namespace tessera::cuda
