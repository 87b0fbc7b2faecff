// Time of what runs on a stream, by CUDA events.
#pragma once

#include <functional>

#include "kernels/cuda/stream.h"

namespace tessera::bench {

// Runs `before` and `run` alternately and times `run` alone: the median of `repeats` runs in
// microseconds, after two that do not count. Below 0: it failed, *status says how.
double MedianMicroseconds(const std::function<cuda::LaunchStatus(cuda::Stream)>& before,
                          const std::function<cuda::LaunchStatus(cuda::Stream)>& run, int repeats,
                          cuda::Stream stream, cuda::LaunchStatus* status);

}  // namespace tessera::bench
