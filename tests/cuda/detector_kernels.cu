#include "tests/cuda/detector_kernels.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

// "shows: X" marks the line that the report on defect X has to name.

namespace tessera::cuda {

TESSERA_DEVICE bool Has(const PlantParams& p, Plant plant) {
  return p.plant == static_cast<int32_t>(plant);
}

constexpr uint32_t kThreads = 128;

// Shared memory passed between warps, twice over the same words.
TESSERA_KERNEL void ExchangeKernel(PlantParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  const uint32_t other = kThreads - 1 - thread_x();
  sts(base + thread_x() * 4, 0u);
  sync_threads();
  sts(base + thread_x() * 4, ldg(p.in + thread_x()));
  if (!Has(p, Plant::kMissingBarrier)) sync_threads();
  const uint32_t v = lds<uint32_t>(base + other * 4);  // shows: kMissingBarrier
  if (!Has(p, Plant::kMissingBarrierBefore)) sync_threads();
  sts(base + thread_x() * 4, v);  // shows: kMissingBarrierBefore
  sync_threads();
  stg(p.out + block_x() * kThreads + thread_x(), lds<uint32_t>(base + thread_x() * 4));
}

TESSERA_KERNEL void WarpExchangeKernel(PlantParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  sts(base + thread_x() * 4, 0u);
  sync_warp();
  sts(base + thread_x() * 4, ldg(p.in + thread_x()));
  if (!Has(p, Plant::kMissingWarpSync)) sync_warp();
  const uint32_t v = lds<uint32_t>(base + (thread_x() ^ 1) * 4);  // shows: kMissingWarpSync
  stg(p.out + block_x() * kThreads + thread_x(), v);
}

// Warp 0 writes, warps 1 to 3 read, one barrier of all of them or of two.
TESSERA_KERNEL void NamedKernel(PlantParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  if (warp_id() == 0) sts(base + lane_id() * 4, ldg(p.in + lane_id()));
  if (!Has(p, Plant::kNamedBarrierTooSmall)) {
    named_barrier(3, kThreads);
  } else if (warp_id() < 2) {
    named_barrier(3, 64);
  }
  stg(p.out + block_x() * kThreads + thread_x(), lds<uint32_t>(base + lane_id() * 4));  // shows: kNamedBarrierTooSmall
}

// Two buffers, three tiles: the pipeline of every tiled kernel.
TESSERA_KERNEL void PipelineKernel(PlantParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  const auto copy = [&](uint32_t tile) {
    cp_async4(base + (tile % 2 * kThreads + thread_x()) * 4, p.in + tile * 64 + thread_x(), true);  // shows: kCopyOverReaders
    cp_async_commit();
  };
  copy(0);
  uint32_t sum = 0;
  for (uint32_t tile = 0; tile < 3; ++tile) {
    if (tile + 1 < 3) {
      copy(tile + 1);
    } else {
      cp_async_commit();
    }
    if (Has(p, Plant::kWaitTooEarly)) {
      cp_async_wait<2>();
    } else if (!Has(p, Plant::kMissingWait)) {
      cp_async_wait<1>();
    }
    if (!Has(p, Plant::kWaitWithoutBarrier)) sync_threads();
    sum += lds<uint32_t>(base + (tile % 2 * kThreads + (thread_x() ^ 64)) * 4);  // shows: kMissingWait kWaitTooEarly kWaitWithoutBarrier
    if (!Has(p, Plant::kCopyOverReaders)) sync_threads();
  }
  stg(p.out + block_x() * kThreads + thread_x(), sum);
  if (Has(p, Plant::kCopyLeftBehind)) { cp_async4(base, p.in, thread_x() == 0); }  // shows: kCopyLeftBehind
}

TESSERA_KERNEL void ReduceKernel(PlantParams p) {
  SHARED_ARRAY(uint32_t, partial, 4);
  uint32_t v = ldg(p.in + thread_x());
  if (Has(p, Plant::kEarlyReturn) && thread_x() == 77) return;
  if (Has(p, Plant::kDivergentShuffle) && lane_id() >= 16) { sync_warp(); }  // shows: kDivergentShuffle
  for (uint32_t m = 16; m > 0; m /= 2) { v += shfl_xor(v, m); }  // shows: kEarlyReturn
  const uint32_t writers = Has(p, Plant::kUninitialised) ? 3 : 4;
  const uint32_t slot = warp_id() + (Has(p, Plant::kArrayBounds) ? 1 : 0);
  if (lane_id() == 0 && warp_id() < writers) { partial[slot] = v; }  // shows: kArrayBounds
  if (Has(p, Plant::kDivergentBarrier) && lane_id() < 16) {
    sync_threads();
  } else {
    sync_threads();  // shows: kDivergentBarrier
  }
  uint32_t sum = 0;
  for (uint32_t w = 0; w < 4; ++w) { sum += partial[w]; }  // shows: kUninitialised
  stg(p.out + block_x() * kThreads + thread_x(), sum);
  if (Has(p, Plant::kBarrierDeadlock) && warp_id() == 2) { named_barrier(1, 64); }  // shows: kBarrierDeadlock
}

TESSERA_KERNEL void BoundsKernel(PlantParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  const uint32_t last = thread_x() == kThreads - 1 ? 1 : 0;
  sts(base + (thread_x() + last * (Has(p, Plant::kSharedBounds) ? 1 : 0)) * 4, 1u);  // shows: kSharedBounds
  uint32_t v = ldg(p.in + 128 + thread_x() + last * (Has(p, Plant::kGlobalReadBounds) ? 1 : 0));  // shows: kGlobalReadBounds
  sync_threads();
  if (thread_x() % 4 == 0) {
    const uint32_t shift = Has(p, Plant::kMisalignedGlobal) && thread_x() == 8 ? 1 : 0;
    v += ldg(reinterpret_cast<const uint4*>(p.in + thread_x() + shift)).x;  // shows: kMisalignedGlobal
    const uint32_t odd = Has(p, Plant::kMisalignedShared) && thread_x() == 8 ? 4 : 0;
    sts(base + thread_x() * 4 + odd, uint2{v, v});  // shows: kMisalignedShared
  }
  stg(p.out + 128 + thread_x() + last * (Has(p, Plant::kGlobalWriteBounds) ? 1 : 0), v);  // shows: kGlobalWriteBounds
}

// Four blocks; the last to arrive adds what all left in scratch.
TESSERA_KERNEL void LastBlockKernel(PlantParams p) {
  SHARED_ARRAY(uint32_t, last, 1);
  if (thread_x() == 5) stg(p.scratch + block_x(), block_x() + 1);
  if (Has(p, Plant::kGlobalRaceBlocks)) { stg(p.scratch, 1u); }  // shows: kGlobalRaceBlocks
  sync_threads();
  if (thread_x() == 0) {
    if (Has(p, Plant::kGlobalReadOfOther)) {
      stg(p.out + block_x(), ldg(p.scratch + (block_x() + 1) % 4));  // shows: kGlobalReadOfOther
    }
    if (!Has(p, Plant::kMissingRelease)) thread_fence();
    last[0] = atomic_add(p.counter, 1u) == grid_x() - 1 ? 1u : 0u;
    if (!Has(p, Plant::kMissingAcquire)) thread_fence();
  }
  sync_threads();
  if (last[0] == 0) return;
  if (thread_x() < 4) { stg(p.out + 16 + thread_x(), ldg(p.scratch + thread_x())); }  // shows: kMissingRelease kMissingAcquire
}

TESSERA_KERNEL void GlobalExchangeKernel(PlantParams p) {
  stg(p.out + thread_x(), ldg(p.in + thread_x()));
  if (!Has(p, Plant::kMissingGlobalBarrier)) sync_threads();
  const uint32_t v = ldg(p.out + (kThreads - 1 - thread_x()));  // shows: kMissingGlobalBarrier
  stg(p.out + 128 + thread_x(), v);
}

namespace {
struct Case {
  void (*kernel)(PlantParams);
  unsigned blocks;
  size_t smem;
};
}  // namespace

static Case CaseOf(Plant plant) {
  switch (plant) {
    case Plant::kNothing:
    case Plant::kMissingBarrier: return {&ExchangeKernel, 2, kThreads * 4};
    case Plant::kMissingBarrierBefore: return {&ExchangeKernel, 2, kThreads * 4};
    case Plant::kMissingWarpSync: return {&WarpExchangeKernel, 2, kThreads * 4};
    case Plant::kNamedBarrierTooSmall: return {&NamedKernel, 2, kThreads * 4};
    case Plant::kMissingWait:
    case Plant::kWaitTooEarly:
    case Plant::kWaitWithoutBarrier: return {&PipelineKernel, 2, kThreads * 8};
    case Plant::kCopyLeftBehind: return {&PipelineKernel, 2, kThreads * 8};
    case Plant::kCopyOverReaders: return {&PipelineKernel, 2, kThreads * 8};
    case Plant::kUninitialised: return {&ReduceKernel, 2, 0};
    case Plant::kDivergentBarrier: return {&ReduceKernel, 2, 0};
    case Plant::kEarlyReturn: return {&ReduceKernel, 2, 0};
    case Plant::kDivergentShuffle: return {&ReduceKernel, 2, 0};
    case Plant::kArrayBounds: return {&ReduceKernel, 2, 0};
    case Plant::kBarrierDeadlock: return {&ReduceKernel, 2, 0};
    case Plant::kSharedBounds: return {&BoundsKernel, 1, kThreads * 4};
    case Plant::kGlobalReadBounds: return {&BoundsKernel, 1, kThreads * 4};
    case Plant::kMisalignedGlobal: return {&BoundsKernel, 1, kThreads * 4};
    case Plant::kMisalignedShared: return {&BoundsKernel, 1, kThreads * 4};
    case Plant::kGlobalWriteBounds: return {&BoundsKernel, 1, kThreads * 4};
    case Plant::kGlobalRaceBlocks: return {&LastBlockKernel, 4, 0};
    case Plant::kGlobalReadOfOther: return {&LastBlockKernel, 4, 0};
    case Plant::kMissingRelease:
    case Plant::kMissingAcquire: return {&LastBlockKernel, 4, 0};
    case Plant::kMissingGlobalBarrier: return {&GlobalExchangeKernel, 1, 0};
  }
  return {};
}

LaunchStatus RunPlant(Plant defect, bool plant, PlantParams params) {
  const Case c = CaseOf(defect);
  params.plant = plant ? static_cast<int32_t>(defect) : 0;
  return launch(c.kernel, Grid{c.blocks}, kThreads, c.smem, nullptr, params);
}

}  // namespace tessera::cuda
