// What a full warp does together.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cuda/emulation/site.h"

namespace tessera::cuda::emulation {

void SyncWarp(Site site);
// `bits` of lane `from` (below 32).
uint64_t ShuffleBits(uint64_t bits, uint32_t from, Site site);
uint32_t Ballot(bool predicate, Site site);
// kCount 8x8 matrices of 16-bit elements; layout in ptx_math.cuh.
template <int kCount>
void Ldmatrix(uint32_t* r, uint32_t address, bool transposed, Site site);
void Mma16x8x16(float* d, const uint32_t* a, const uint32_t* b, bool half, Site site);
[[noreturn]] void FailIndex(int64_t index, size_t count, Site site);

template <typename T>
T Shuffle(T value, uint32_t from, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 32 or 64 bits");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = ShuffleBits(bits, from, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace tessera::cuda::emulation
