// What this device does at most, measured: the denominators of `make bench-gpu`.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera::bench {

struct CopyPeakParams {
  const uint8_t* from = nullptr;
  uint8_t* to = nullptr;
  int64_t bytes = 0;  // a multiple of 16
};
// Reads and writes `bytes` each, 16 bytes a thread at a time.
cuda::LaunchStatus LaunchCopyPeak(const CopyPeakParams& params, int blocks, cuda::Stream stream);

struct MmaPeakParams {
  float* out = nullptr;  // one a thread: the products may not be optimised away
  int32_t turns = 0;
};
inline constexpr int kMmaPeakThreads = 256;
// mma.sync m16n8k16 of bf16 out of registers, eight independent sums a warp.
cuda::LaunchStatus LaunchMmaPeak(const MmaPeakParams& params, int blocks, cuda::Stream stream);
// 2 m n k for each product of that launch.
double MmaPeakFlops(const MmaPeakParams& params, int blocks);

}  // namespace tessera::bench
