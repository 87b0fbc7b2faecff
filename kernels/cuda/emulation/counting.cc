#include "kernels/cuda/emulation/counting.h"

#include <algorithm>
#include <bit>

namespace tessera::cuda::emulation {
namespace {

constexpr uint32_t kBanks = 32;

// Distinct words by bank.
class Banks {
 public:
  void Add(uint32_t word) {
    const uint32_t bank = word % kBanks;
    for (uint32_t i = 0; i < count_[bank]; ++i) {
      if (words_[bank][i] == word) return;
    }
    words_[bank][count_[bank]++] = word;
    fullest_ = std::max<uint32_t>(fullest_, count_[bank]);
  }
  // Whether or not the word is there already.
  void AddAgain(uint32_t word) { fullest_ = std::max<uint32_t>(fullest_, ++count_[word % kBanks]); }
  uint32_t fullest() const { return fullest_; }

 private:
  std::array<uint8_t, kBanks> count_{};
  std::array<std::array<uint32_t, 32>, kBanks> words_;
  uint32_t fullest_ = 0;
};

void CountShared(const WarpAccess& access, Counters& counters) {
  const uint32_t lanes = static_cast<uint32_t>(std::popcount(access.mask));
  const uint32_t group = access.bytes <= 4 ? 32 : 128 / access.bytes;
  for (uint32_t first = 0; first < 32; first += group) {
    Banks banks;
    for (uint32_t lane = first; lane < first + group; ++lane) {
      if ((access.mask >> lane & 1u) == 0) continue;
      const auto begin = static_cast<uint32_t>(access.address[lane]) / 4;
      if (access.atomic) {
        banks.AddAgain(begin);
        continue;
      }
      for (uint32_t w = 0; w < (access.bytes + 3) / 4; ++w) banks.Add(begin + w);
    }
    counters.wavefronts += banks.fullest();
  }
  counters.ideal_wavefronts += (lanes * access.bytes + 127) / 128;
  counters.shared_bytes += uint64_t{lanes} * access.bytes;
  if (access.atomic) counters.atomics += lanes;
}

void CountGlobal(const WarpAccess& access, Counters& counters) {
  if (access.atomic) {
    counters.atomics += static_cast<uint64_t>(std::popcount(access.mask));
    return;
  }
  std::array<uint64_t, 32> sectors;
  std::array<uint32_t, 32> bytes;  // of each sector, one bit per byte
  uint32_t count = 0;
  uint64_t highest = 0;
  for (uint32_t mask = access.mask; mask != 0; mask &= mask - 1) {
    const uint64_t address = access.address[static_cast<uint32_t>(std::countr_zero(mask))];
    const uint64_t sector = address / 32;
    const uint32_t bits = ((1u << access.bytes) - 1) << (address % 32);
    uint32_t at = count;
    if (count > 0 && sector <= highest) {
      for (at = count; at > 0 && sectors[at - 1] != sector; --at) {
      }
      at = at == 0 ? count : at - 1;
    }
    if (at == count) {
      sectors[count] = sector;
      bytes[count++] = 0;
      highest = std::max(highest, sector);
    }
    bytes[at] |= bits;
  }
  uint64_t distinct = 0;
  for (uint32_t i = 0; i < count; ++i) distinct += static_cast<uint64_t>(std::popcount(bytes[i]));
  (access.store ? counters.store_bytes : counters.load_bytes) += distinct;
  (access.store ? counters.store_sectors : counters.load_sectors) += count;
  if (access.copy) counters.copy_bytes += distinct;
}

}  // namespace

void Count(const WarpAccess& access, Counters& counters) {
  ++counters.instructions;
  if (access.space == WarpAccess::Space::kShared) {
    CountShared(access, counters);
  } else {
    CountGlobal(access, counters);
  }
}

uint32_t MatrixPasses(const std::array<uint64_t, 8>& rows) {
  Banks banks;
  for (const uint64_t row : rows) {
    for (uint32_t w = 0; w < 4; ++w) banks.Add(static_cast<uint32_t>(row / 4) + w);
  }
  return banks.fullest();
}

WarpLog::Open& WarpLog::OpenAt(uint32_t site) {
  if (site >= slot_of_site_.size()) slot_of_site_.resize(site + 1, 0);
  uint32_t& slot = slot_of_site_[site];
  if (slot == 0) {
    if (open_count_ == open_.size()) open_.emplace_back();
    Open& open = open_[open_count_++];
    open.site = site;
    open.passed.fill(0);
    open.accesses.clear();
    slot = static_cast<uint32_t>(open_count_);
  }
  return open_[slot - 1];
}

void WarpLog::Add(uint32_t lane, uint32_t site, uint64_t address, uint32_t bytes,
                  WarpAccess::Space space, bool store, bool atomic, bool copy) {
  Open& open = OpenAt(site);
  const uint32_t passage = open.passed[lane]++;
  if (passage >= open.accesses.size()) {
    if (access_count_ == accesses_.size()) accesses_.emplace_back();
    WarpAccess& fresh = accesses_[access_count_];
    fresh.site = site;
    fresh.mask = 0;
    fresh.bytes = bytes;
    fresh.space = space;
    fresh.store = store;
    fresh.atomic = atomic;
    fresh.copy = copy;
    open.accesses.push_back(static_cast<uint32_t>(access_count_++));
  }
  WarpAccess& access = accesses_[open.accesses[passage]];
  access.mask |= 1u << lane;
  access.address[lane] = address;
}

void WarpLog::Flush(SiteTable& sites) {
  for (size_t i = 0; i < access_count_; ++i) Count(accesses_[i], sites[accesses_[i].site].counters);
  Drop();
}

void WarpLog::Drop() {
  for (size_t i = 0; i < open_count_; ++i) slot_of_site_[open_[i].site] = 0;
  open_count_ = access_count_ = 0;
}

}  // namespace tessera::cuda::emulation
