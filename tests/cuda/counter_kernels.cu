#include "tests/cuda/counter_kernels.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::cuda {

struct GlobalPattern {
  const uint32_t* in;
  uint32_t* out;
  int32_t pattern;
};

TESSERA_KERNEL void GlobalPatternKernel(GlobalPattern p) {
  const auto pattern = static_cast<Pattern>(p.pattern);
  const uint32_t lane = lane_id();
  uint32_t v = 0;
  if (pattern == Pattern::kCoalesced4) v = ldg(p.in + lane);
  if (pattern == Pattern::kCoalesced16) v = ldg(reinterpret_cast<const uint4*>(p.in) + lane).x;
  if (pattern == Pattern::kStrided32) v = ldg(p.in + lane * 8);
  if (pattern == Pattern::kMisplaced) v = ldg(p.in + lane + 1);
  if (pattern == Pattern::kBroadcast) v = ldg(p.in);
  if (pattern == Pattern::kHalfWarp && lane < 16) v = ldg(p.in + lane);
  if (pattern == Pattern::kLoop)
    for (uint32_t i = 0; i < 4; ++i) v += ldg(p.in + i * 32 + lane);
  stg(p.out + lane, v);
}

struct SharedPattern {
  uint32_t* out;
  uint32_t stride;
};

TESSERA_KERNEL void SharedPatternKernel(SharedPattern p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  for (uint32_t i = 0; i < 64; ++i) sts(base + (i * 32 + lane_id()) * 4, 0u);
  sync_threads();
  sts(base + lane_id() * p.stride * 4, lane_id());
  sync_warp();
  uint32_t sum = lds<uint4>(base + lane_id() * p.stride * 16).x;
  uint32_t r[4], b[2] = {0, 0};
  float d[4] = {};
  ldmatrix_x4(r, base + lane_id() * p.stride * 16);
  mma_16x8x16<bf16_t>(d, r, b);
  atomic_add(p.out, sum + r[0]);
  sync_warp();
  atomic_add_shared(base, 1u);
}

LaunchStatus RunGlobalPattern(Pattern pattern, const uint32_t* in, uint32_t* out) {
  return launch(&GlobalPatternKernel, Grid{1}, 32, 0, nullptr,
                GlobalPattern{in, out, static_cast<int32_t>(pattern)});
}

LaunchStatus RunSharedPattern(uint32_t stride, uint32_t* out) {
  return launch(&SharedPatternKernel, Grid{2}, 32, 8192, nullptr, SharedPattern{out, stride});
}

}  // namespace tessera::cuda
