#include "tools/bench_gpu/peaks.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::bench {

using namespace tessera::cuda;  // the words of device.cuh

inline constexpr unsigned kCopyThreads = 256;
inline constexpr int kMmaSums = 8;

TESSERA_KERNEL TESSERA_BOUNDS(kCopyThreads, 4) void CopyPeakKernel(CopyPeakParams p) {
  const int64_t step = int64_t{grid_x()} * kCopyThreads * 16;
  for (int64_t i = (int64_t{block_x()} * kCopyThreads + thread_x()) * 16; i < p.bytes; i += step)
    stg(reinterpret_cast<uint4*>(p.to + i), ldg_stream(reinterpret_cast<const uint4*>(p.from + i)));
}

TESSERA_KERNEL TESSERA_BOUNDS(kMmaPeakThreads, 2) void MmaPeakKernel(MmaPeakParams p) {
  const uint32_t small = pack2<bf16_t>(1e-3f, -1e-3f) + lane_id();
  const uint32_t a[4] = {small, small, small, small}, b[2] = {small, small};
  float sums[kMmaSums][4] = {};
  for (int turn = 0; turn < p.turns; ++turn) {
#pragma unroll
    for (auto& sum : sums) mma_16x8x16<bf16_t>(sum, a, b);
  }
  float all = 0.0f;
#pragma unroll
  for (const auto& sum : sums) all += sum[0] + sum[1] + sum[2] + sum[3];
  stg(p.out + block_x() * kMmaPeakThreads + thread_x(), all);
}

LaunchStatus LaunchCopyPeak(const CopyPeakParams& params, int blocks, Stream stream) {
  return launch(&CopyPeakKernel, Grid{static_cast<unsigned>(blocks)}, kCopyThreads, 0, stream,
                params);
}

LaunchStatus LaunchMmaPeak(const MmaPeakParams& params, int blocks, Stream stream) {
  return launch(&MmaPeakKernel, Grid{static_cast<unsigned>(blocks)}, kMmaPeakThreads, 0, stream,
                params);
}

double MmaPeakFlops(const MmaPeakParams& params, int blocks) {
  return 2.0 * 16 * 8 * 16 * kMmaSums * params.turns * (kMmaPeakThreads / 32) * blocks;
}

}  // namespace tessera::bench
