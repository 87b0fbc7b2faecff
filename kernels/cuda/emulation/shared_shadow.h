// Races on shared memory, copies that nobody waited for, reads of what nobody wrote.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/emulation/clocks.h"

namespace tessera::cuda::emulation {

enum class Access : uint8_t {
  kLoad,
  kStore,
  kAtomic,  // unordered with other atomics, a write to all others
  kCopy,    // the write of a cp.async, begun now and done at its wait
};

// Remembers for every 4-byte word of a block's shared memory the last write, and for every warp its
// last read; of each the thread, the tick and which of the four bytes. Two writes to different
// bytes of a word by different threads are no race, but only the later is remembered.
class SharedShadow {
 public:
  enum class Verdict : uint8_t { kFine, kRace, kPending, kUninitialised };
  struct Finding {
    Verdict verdict = Verdict::kFine;
    bool other_wrote = false;  // the earlier access, where there is one
    uint32_t other_thread = 0;
    uint32_t other_site = 0;
    uint32_t address = 0;  // of the word
  };

  // A new block: nothing of its `bytes` was written.
  void Begin(uint32_t bytes, const Clocks& clocks);
  // A SHARED_ARRAY was declared: the block now has `bytes`.
  void Grow(uint32_t bytes);

  Finding Check(uint32_t address, uint32_t bytes, Access access, uint32_t warp, uint32_t lane,
                uint32_t site, const Clocks& clocks);
  // ldmatrix: the warp reads a row of 16 bytes.
  Finding CheckRow(uint32_t address, uint32_t warp, uint32_t lane, uint32_t site,
                   const Clocks& clocks);
  // The bytes of a kCopy are there, by the thread's wait.
  void Complete(uint32_t address, uint32_t bytes, uint32_t warp, uint32_t lane, uint32_t site,
                const Clocks& clocks);

 private:
  struct Cell {
    uint32_t tick = 0;
    uint32_t mask : 4 = 0;
    uint32_t lane : 5 = 0;
    uint32_t several : 1 = 0;  // by several lanes of the warp
    uint32_t warp : 5 = 0;
    uint32_t atomic : 1 = 0;
    uint32_t pending : 1 = 0;
    uint32_t site : 15 = 0;
  };
  static_assert(sizeof(Cell) == 8);

  template <bool kWrites>
  Finding CheckWord(uint32_t word, uint32_t mask, Access access, bool several, uint32_t warp,
                    uint32_t lane, uint32_t site, const Clocks& clocks);
  Finding Found(Verdict verdict, const Cell& cell, bool wrote, uint32_t word) const;

  uint32_t warps_ = 1;
  uint32_t words_ = 0;
  std::vector<Cell> writes_;    // by word
  std::vector<Cell> reads_;     // by word and warp
  std::vector<uint8_t> known_;  // by word: bytes that somebody wrote
};

}  // namespace tessera::cuda::emulation
