#include "kernels/cuda/emulation/warp_ops.h"

#include <fmt/format.h>

#include "kernels/cuda/emulation/block.h"

namespace tessera::cuda::emulation {

void SyncWarp(Site site) {
  Thread& me = *current_thread;
  if (me.block->Meet(me, Meeting::kSyncWarp, site)) me.block->Release(me);
}

uint64_t ShuffleBits(uint64_t bits, uint32_t from, Site site) {
  Thread& me = *current_thread;
  if (me.block->Meet(me, Meeting::kShuffle, site, {&bits, &from})) {
    std::array<uint64_t, kLanes> values;
    const auto& operands = me.warp->operands;
    for (uint32_t l = 0; l < kLanes; ++l) values[l] = *static_cast<uint64_t*>(operands[l][0]);
    for (uint32_t l = 0; l < kLanes; ++l) {
      *static_cast<uint64_t*>(operands[l][0]) = values[*static_cast<uint32_t*>(operands[l][1])];
    }
    me.block->Release(me);
  }
  return bits;
}

uint32_t Ballot(bool predicate, Site site) {
  Thread& me = *current_thread;
  uint32_t vote = predicate ? 1u : 0u;
  if (me.block->Meet(me, Meeting::kBallot, site, {&vote})) {
    uint32_t all = 0;
    for (uint32_t l = 0; l < kLanes; ++l) {
      all |= *static_cast<uint32_t*>(me.warp->operands[l][0]) << l;
    }
    for (uint32_t l = 0; l < kLanes; ++l) *static_cast<uint32_t*>(me.warp->operands[l][0]) = all;
    me.block->Release(me);
  }
  return vote;
}

template <int kCount>
void Ldmatrix(uint32_t* r, uint32_t address, bool transposed, Site site) {
  Thread& me = *current_thread;
  // The address is checked by the lane that gives it; lanes that give none are not looked at.
  void* row = nullptr;
  if (me.lane < 8 * kCount) {
    row = me.block->SharedRow(me, address, site);
  }
  if (!me.block->Meet(me, Meeting::kLdmatrix, site, {r, row})) return;
  const auto& operands = me.warp->operands;
  for (uint32_t j = 0; j < kCount; ++j) {
    uint16_t matrix[8][8];
    for (uint32_t i = 0; i < 8; ++i) std::memcpy(matrix[i], operands[j * 8 + i][1], 16);
    for (uint32_t l = 0; l < kLanes; ++l) {
      const uint32_t major = l / 4;
      const uint32_t minor = l % 4 * 2;
      const uint32_t lo = transposed ? matrix[minor][major] : matrix[major][minor];
      const uint32_t hi = transposed ? matrix[minor + 1][major] : matrix[major][minor + 1];
      static_cast<uint32_t*>(operands[l][0])[j] = lo | hi << 16;
    }
  }
  if (Counters* counters = me.block->CountersAt(site, Name(Meeting::kLdmatrix))) {
    for (uint32_t j = 0; j < kCount; ++j) {
      std::array<uint64_t, 8> rows;
      for (uint32_t i = 0; i < 8; ++i) rows[i] = me.block->OffsetOf(operands[j * 8 + i][1]);
      counters->wavefronts += MatrixPasses(rows);
    }
    counters->ideal_wavefronts += kCount;
    counters->shared_bytes += 128 * kCount;
  }
  me.block->Release(me);
}
template void Ldmatrix<4>(uint32_t* r, uint32_t address, bool transposed, Site site);
template void Ldmatrix<2>(uint32_t* r, uint32_t address, bool transposed, Site site);

void FailIndex(int64_t index, size_t count, Site site) {
  Thread& me = *current_thread;
  me.block->Fail(me, DefectKind::kBounds, site, [&] {
    return fmt::format("index {} of a SHARED_ARRAY of {} elements", index, count);
  });
}

}  // namespace tessera::cuda::emulation
