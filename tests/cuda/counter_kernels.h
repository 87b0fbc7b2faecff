// Access patterns whose cost is known by hand.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera::cuda {

enum class Pattern : int32_t {
  kCoalesced4,   // lane i: word i
  kCoalesced16,  // lane i: 16 bytes at 16 i
  kStrided32,    // lane i: word 8 i: a sector each
  kMisplaced,    // lane i: word i + 1: one sector more
  kBroadcast,    // all lanes: word 0
  kHalfWarp,     // lanes 0 to 15: word i
  kLoop,         // four turns of a loop, coalesced
};
LaunchStatus RunGlobalPattern(Pattern pattern, const uint32_t* in, uint32_t* out);

// Shared memory: 32-bit stores of lane i to word i * stride, then 16-byte loads of lane i at 16 * i
// * stride / 4 words, then ldmatrix rows at 16 * stride bytes, an mma, and a barrier.
LaunchStatus RunSharedPattern(uint32_t stride, uint32_t* out);

}  // namespace tessera::cuda
