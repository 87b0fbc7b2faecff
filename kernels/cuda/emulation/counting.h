// Groups what single lanes do into warp instructions and counts what those cost.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/cuda/emulation/sites.h"

namespace tessera::cuda::emulation {

// One warp instruction that reads or writes memory.
struct WarpAccess {
  enum class Space : uint8_t { kGlobal, kShared };

  uint32_t site = 0;
  uint32_t mask = 0;  // active lanes
  uint32_t bytes = 0;
  Space space = Space::kGlobal;
  bool store = false;
  bool atomic = false;
  bool copy = false;
  std::array<uint64_t, 32> address;
};

// Adds the cost of one access to the counters of its site.
//   Global: distinct bytes asked for, and distinct 32-byte sectors that hold them, over the whole
//   warp. Shared: passes of 32 banks of 4 bytes. Accesses of up to 4 bytes are one group of 32
//   lanes, of 8 bytes two of 16, of 16 bytes four of 8; a group needs as many passes as distinct
//   words of its fullest bank, lanes that touch the same word being served together. Atomics of one
//   word are served one after another. Ideal is the active lanes' bytes over 128, rounded up.
void Count(const WarpAccess& access, Counters& counters);

// Passes for one ldmatrix row set: eight rows of 16 bytes.
uint32_t MatrixPasses(const std::array<uint64_t, 8>& rows);

// Lanes of an emulated warp do not run side by side. Until the warp meets again (a barrier,
// sync_warp, shuffle, matrix instruction, its end), the n-th access of every lane at one call site
// is taken to be one instruction: what lockstep gives where lanes take the same turns of a loop.
class WarpLog {
 public:
  void Add(uint32_t lane, uint32_t site, uint64_t address, uint32_t bytes, WarpAccess::Space space,
           bool store, bool atomic, bool copy);
  // The warp met: counts what is open.
  void Flush(SiteTable& sites);
  // Forgets what is open.
  void Drop();

 private:
  struct Open {
    uint32_t site;
    std::array<uint32_t, 32> passed{};  // by lane: how often it was here
    std::vector<uint32_t> accesses;     // by passage
  };

  Open& OpenAt(uint32_t site);

  std::vector<Open> open_;
  size_t open_count_ = 0;
  std::vector<WarpAccess> accesses_;
  size_t access_count_ = 0;
  std::vector<uint32_t> slot_of_site_;  // slot + 1; 0: none
};

}  // namespace tessera::cuda::emulation
