// Small kernels, each right in one version and wrong in another.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera::cuda {

// What is wrong. kNothing runs the same kernel without the defect.
enum class Plant : int32_t {
  kNothing,
  kMissingBarrier,        // shared memory: write, then read by another warp
  kMissingWarpSync,       // the same within a warp
  kMissingBarrierBefore,  // read by all, then written again
  kNamedBarrierTooSmall,  // half the readers are not waited for
  kMissingWait,           // cp.async read without a wait
  kWaitTooEarly,          // the wait leaves one group too many open
  kWaitWithoutBarrier,    // only the copying thread waited
  kCopyLeftBehind,        // no wait before the end
  kCopyOverReaders,       // a new copy while others still read the buffer
  kUninitialised,         // shared memory that nobody wrote
  kDivergentBarrier,      // half a warp goes to another barrier
  kEarlyReturn,           // one thread returns before the barrier
  kDivergentShuffle,      // half a warp skips the shuffle
  kSharedBounds,          // one past the end of dynamic shared memory
  kArrayBounds,           // one past the end of a SHARED_ARRAY
  kGlobalReadBounds,      // one past an allocation
  kGlobalWriteBounds,
  kMisalignedGlobal,
  kMisalignedShared,
  kGlobalRaceBlocks,      // two blocks write one word
  kGlobalReadOfOther,     // a block reads what another wrote, unpublished
  kMissingRelease,        // the fence before the atomic is missing
  kMissingAcquire,        // the fence after the atomic is missing
  kMissingGlobalBarrier,  // global memory within a block
  kBarrierDeadlock,       // a warp waits at a named barrier that nobody else comes to
};
inline constexpr int kPlants = static_cast<int>(Plant::kBarrierDeadlock) + 1;

struct PlantParams {
  const uint32_t* in = nullptr;  // 256 words
  uint32_t* out = nullptr;       // 256 words
  uint32_t* counter = nullptr;   // one, 0
  uint32_t* scratch = nullptr;   // 4
  int32_t plant = 0;
};

// Runs the kernel that can have the defect; with `plant` false, the right version of it.
LaunchStatus RunPlant(Plant defect, bool plant, PlantParams params);

}  // namespace tessera::cuda
