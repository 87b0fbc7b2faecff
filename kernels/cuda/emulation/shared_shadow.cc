#include "kernels/cuda/emulation/shared_shadow.h"

namespace tessera::cuda::emulation {

void SharedShadow::Begin(uint32_t bytes, const Clocks& clocks) {
  warps_ = clocks.warps();
  words_ = 0;
  known_.clear();
  Grow(bytes);
}

void SharedShadow::Grow(uint32_t bytes) {
  words_ = (bytes + 3) / 4;
  known_.resize(words_, 0);
  // Cells are never cleared: their ticks tell whether they are this block's.
  if (writes_.size() < words_) writes_.resize(words_);
  if (reads_.size() < size_t{words_} * warps_) reads_.resize(size_t{words_} * warps_);
}

SharedShadow::Finding SharedShadow::Found(Verdict verdict, const Cell& cell, bool wrote,
                                          uint32_t word) const {
  return {verdict, wrote, cell.warp * 32u + cell.lane, cell.site, word * 4};
}

template <bool kWrites>
SharedShadow::Finding SharedShadow::CheckWord(uint32_t word, uint32_t mask, Access access,
                                              bool several, uint32_t warp, uint32_t lane,
                                              uint32_t site, const Clocks& clocks) {
  Cell& write = writes_[word];
  if (write.tick >= clocks.base()) {
    if (write.pending != 0 && (write.mask & mask) != 0) {
      return Found(Verdict::kPending, write, true, word);
    }
    const bool both_atomic = write.atomic != 0 && access == Access::kAtomic;
    if ((write.mask & mask) != 0 && !both_atomic &&
        !clocks.Before(write.warp, write.lane, write.several != 0, write.tick, warp, lane)) {
      return Found(Verdict::kRace, write, true, word);
    }
  }
  Cell* reads = &reads_[size_t{word} * warps_];
  if constexpr (kWrites) {
    for (uint32_t v = 0; v < warps_; ++v) {
      const Cell& read = reads[v];
      if (read.tick >= clocks.base() && (read.mask & mask) != 0 &&
          !clocks.Before(v, read.lane, read.several != 0, read.tick, warp, lane)) {
        return Found(Verdict::kRace, read, false, word);
      }
    }
    known_[word] |= static_cast<uint8_t>(mask);
    write = {clocks.tick(warp),       mask, lane, several, warp, access == Access::kAtomic,
             access == Access::kCopy, site};
  } else {
    if ((known_[word] & mask) != mask) return {Verdict::kUninitialised, false, 0, 0, word * 4};
    Cell& read = reads[warp];
    if (read.tick == clocks.tick(warp)) {
      read.several |= several || read.lane != lane;
      read.mask |= mask;
      read.site = site;
    } else {
      read = {clocks.tick(warp), mask, lane, several, warp, 0, 0, site};
    }
  }
  return {};
}

SharedShadow::Finding SharedShadow::Check(uint32_t address, uint32_t bytes, Access access,
                                          uint32_t warp, uint32_t lane, uint32_t site,
                                          const Clocks& clocks) {
  const uint32_t mask = bytes >= 4 ? 0xfu : ((1u << bytes) - 1) << (address % 4);
  const uint32_t last = (address + bytes - 1) / 4;
  for (uint32_t word = address / 4; word <= last; ++word) {
    const Finding finding =
        access == Access::kLoad
            ? CheckWord<false>(word, mask, access, false, warp, lane, site, clocks)
            : CheckWord<true>(word, mask, access, false, warp, lane, site, clocks);
    if (finding.verdict != Verdict::kFine) [[unlikely]]
      return finding;
  }
  return {};
}

SharedShadow::Finding SharedShadow::CheckRow(uint32_t address, uint32_t warp, uint32_t lane,
                                             uint32_t site, const Clocks& clocks) {
  for (uint32_t word = address / 4; word < address / 4 + 4; ++word) {
    const Finding finding =
        CheckWord<false>(word, 0xfu, Access::kLoad, true, warp, lane, site, clocks);
    if (finding.verdict != Verdict::kFine) [[unlikely]]
      return finding;
  }
  return {};
}

void SharedShadow::Complete(uint32_t address, uint32_t bytes, uint32_t warp, uint32_t lane,
                            uint32_t site, const Clocks& clocks) {
  for (uint32_t word = address / 4; word < (address + bytes) / 4; ++word) {
    writes_[word] = {clocks.tick(warp), 0xfu, lane, 0, warp, 0, 0, site};
  }
}

}  // namespace tessera::cuda::emulation
