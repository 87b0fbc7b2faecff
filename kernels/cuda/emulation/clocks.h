// Who knows of whose past: vector clocks of a block's warps.
//
// Barriers and sync_warp take whole warps, so one clock per warp is exact: all lanes of a warp pass
// from one tick to the next together. An access is (warp, lane, tick). It happened before the
// present of a thread if it was that thread's own; or was done by a lane of its warp in an earlier
// tick; or by another warp in a tick that a chain of barriers has told its warp of. With full
// barriers alone this is the comparison of two barrier counts; named barriers need the vectors.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace tessera::cuda::emulation {

class Clocks {
 public:
  static constexpr uint32_t kMostWarps = 32;

  // A new block. Ticks rise over a worker's whole life, so that what an earlier block left in a
  // shadow is recognised by its age.
  void Begin(uint32_t warps) {
    base_ = highest_ + 1;
    highest_ = base_;
    warps_ = warps;
    barriers_ = 0;
    for (uint32_t w = 0; w < warps; ++w) {
      tick_[w] = base_;
      for (uint32_t v = 0; v < warps; ++v) known_[w][v] = base_ - 1;
    }
  }

  void SyncWarp(uint32_t warp) { Tick(warp); }

  // The warps of `mask` met.
  void Barrier(uint32_t mask) {
    std::array<uint32_t, kMostWarps> joint{};
    for (uint32_t w = 0; w < warps_; ++w) {
      if ((mask >> w & 1u) == 0) continue;
      for (uint32_t v = 0; v < warps_; ++v) joint[v] = std::max(joint[v], known_[w][v]);
      joint[w] = std::max(joint[w], tick_[w]);
    }
    bool all = true;
    for (uint32_t w = 0; w < warps_; ++w) {
      if ((mask >> w & 1u) == 0) {
        all = false;
        continue;
      }
      std::copy_n(joint.begin(), warps_, known_[w].begin());
      Tick(w);
    }
    if (all) ++barriers_;
  }

  uint32_t base() const { return base_; }
  uint32_t tick(uint32_t warp) const { return tick_[warp]; }
  uint32_t known(uint32_t warp, uint32_t of) const { return known_[warp][of]; }
  uint32_t barriers() const { return barriers_; }  // those of the whole block
  uint32_t warps() const { return warps_; }

  // Did an access of `warp` in `tick`, by `lane` alone or by several, happen before the present of
  // lane `my_lane` of `my_warp`?
  bool Before(uint32_t warp, uint32_t lane, bool several, uint32_t tick, uint32_t my_warp,
              uint32_t my_lane) const {
    if (warp != my_warp) return tick <= known_[my_warp][warp];
    return tick < tick_[warp] || (!several && lane == my_lane);
  }

 private:
  void Tick(uint32_t warp) { highest_ = std::max(highest_, ++tick_[warp]); }

  uint32_t base_ = 1;
  uint32_t highest_ = 0;
  uint32_t warps_ = 0;
  uint32_t barriers_ = 0;
  std::array<uint32_t, kMostWarps> tick_{};
  std::array<std::array<uint32_t, kMostWarps>, kMostWarps> known_{};
};

}  // namespace tessera::cuda::emulation
