// Races on global memory within one launch.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/emulation/clocks.h"
#include "kernels/cuda/emulation/shared_shadow.h"

namespace tessera::cuda::emulation {

// What a block had done when one of its threads fenced: ticks by warp, and that thread's own last
// one.
struct Release {
  uint32_t run = 0;
  uint32_t warp = 0;
  uint32_t lane = 0;
  std::array<uint32_t, Clocks::kMostWarps> ticks{};  // since the block's base; 0: nothing
};

// Publishing between the blocks of one launch, as the PTX memory model has it: a fence and then an
// atomic release; an atomic on the same address and then a fence acquire.
class Publications {
 public:
  void Clear();
  // Held around Exchange() and the change of the value itself
  std::mutex& mutex() { return mutex_; }
  // One atomic: returns what earlier atomics on `address` released, and adds `mine` if there is
  // one.
  std::vector<Release> Exchange(uintptr_t address, const Release* mine);

 private:
  std::mutex mutex_;
  std::map<uintptr_t, std::vector<Release>> releases_;
};

// One block's side of it, and who it is in the shadows.
class GlobalActor {
 public:
  void Begin(uint32_t run, uint32_t first_run, uint32_t worker) {
    run_ = run;
    first_run_ = first_run;
    worker_ = worker;
    fences_.clear();
    pending_.clear();
    acquired_.clear();
  }
  uint32_t run() const { return run_; }
  uint32_t first_run() const { return first_run_; }
  uint32_t worker() const { return worker_; }

  void Fence(uint32_t warp, uint32_t lane, const Clocks& clocks);
  void Atomic(uintptr_t address, uint32_t warp, uint32_t lane, Publications& publications);
  // Was the access of another block published to this thread?
  bool Acquired(uint32_t run, uint32_t warp, uint32_t lane, bool several, uint32_t tick,
                uint32_t my_warp, uint32_t my_lane, const Clocks& clocks) const;

 private:
  struct Acquisition {
    Release release;
    uint32_t warp, lane, tick;  // of our fence
  };
  uint32_t run_ = 0;
  uint32_t first_run_ = 0;
  uint32_t worker_ = 0;
  std::map<uint32_t, Release> fences_;  // by thread: its latest
  std::map<uint32_t, std::vector<Release>>
      pending_;  // by thread: seen by an atomic, not fenced yet
  std::vector<Acquisition> acquired_;
};

// The last write and the last read of every half word of 2 bytes of one allocation: neighbours may
// each work on their own 16-bit element. (Single bytes of one half are not told apart once several
// threads have read them.) Threads of several workers use it at once; a lost update can hide a race
// but not invent one.
class GlobalShadow {
 public:
  explicit GlobalShadow(size_t bytes);
  ~GlobalShadow();
  GlobalShadow(const GlobalShadow&) = delete;
  GlobalShadow& operator=(const GlobalShadow&) = delete;

  struct Finding {
    bool race = false;
    bool other_wrote = false;
    bool other_block = false;
    uint32_t other_run = 0;
    uint32_t other_thread = 0;
    uint32_t other_worker = 0;
    uint32_t other_site = 0;
  };

  // `offset` bytes into the allocation.
  Finding Check(size_t offset, uint32_t bytes, Access access, uint32_t warp, uint32_t lane,
                uint32_t site, const GlobalActor& actor, const Clocks& clocks);

 private:
  struct Cell {
    uint64_t run : 32 = 0;
    uint64_t warp : 5 = 0;
    uint64_t lane : 5 = 0;
    uint64_t lanes : 1 = 0;   // several lanes of the warp
    uint64_t warps : 1 = 0;   // several warps of the block: `tick` counts the block's barriers
    uint64_t blocks : 1 = 0;  // several blocks
    uint64_t atomic : 1 = 0;
    uint64_t mask : 2 = 0;   // bytes of the half
    uint64_t tick : 16 = 0;  // since the block's base; the last value is "too many to tell"
  };
  static_assert(sizeof(Cell) == 8);
  static constexpr uint32_t kTicks = (1u << 16) - 1;
  struct Word {  // by half
    std::atomic<uint64_t> write[2];
    std::atomic<uint64_t> read[2];
    std::atomic<uint16_t> write_site[2];  // worker and site, 4 and 12 bits
    std::atomic<uint16_t> read_site[2];
  };

  static bool Before(const Cell& cell, uint32_t warp, uint32_t lane, const GlobalActor& actor,
                     const Clocks& clocks);
  static Finding Found(const Cell& cell, uint16_t site, bool wrote, const GlobalActor& actor);

  size_t words_;
  Word* cells_;  // untouched pages cost nothing
};

}  // namespace tessera::cuda::emulation
