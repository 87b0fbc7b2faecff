#include "kernels/cuda/emulation/global_shadow.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/check.h"

namespace tessera::cuda::emulation {

void Publications::Clear() {
  const std::lock_guard lock(mutex_);
  releases_.clear();
}

std::vector<Release> Publications::Exchange(uintptr_t address, const Release* mine) {
  std::vector<Release>& releases = releases_[address];
  std::vector<Release> earlier = releases;
  if (mine != nullptr) {
    const auto same = std::ranges::find_if(releases, [&](const Release& r) {
      return r.run == mine->run && r.warp == mine->warp && r.lane == mine->lane;
    });
    if (same == releases.end()) {
      releases.push_back(*mine);
    } else {
      *same = *mine;
    }
  }
  return earlier;
}

void GlobalActor::Fence(uint32_t warp, uint32_t lane, const Clocks& clocks) {
  Release release{run_, warp, lane, {}};
  for (uint32_t v = 0; v < clocks.warps(); ++v) {
    const uint32_t known = v == warp ? clocks.tick(warp) - 1 : clocks.known(warp, v);
    release.ticks[v] = known + 1 - clocks.base();  // ticks below this number; base itself is 1
  }
  const uint32_t thread = warp * 32 + lane;
  fences_[thread] = release;
  const auto pending = pending_.find(thread);
  if (pending == pending_.end()) return;
  for (const Release& other : pending->second) {
    if (other.run != run_) acquired_.push_back({other, warp, lane, clocks.tick(warp)});
  }
  pending_.erase(pending);
}

void GlobalActor::Atomic(uintptr_t address, uint32_t warp, uint32_t lane,
                         Publications& publications) {
  const uint32_t thread = warp * 32 + lane;
  const auto fence = fences_.find(thread);
  std::vector<Release> seen =
      publications.Exchange(address, fence == fences_.end() ? nullptr : &fence->second);
  std::vector<Release>& pending = pending_[thread];
  pending.insert(pending.end(), seen.begin(), seen.end());
}

bool GlobalActor::Acquired(uint32_t run, uint32_t warp, uint32_t lane, bool several, uint32_t tick,
                           uint32_t my_warp, uint32_t my_lane, const Clocks& clocks) const {
  return std::ranges::any_of(acquired_, [&](const Acquisition& a) {
    if (a.release.run != run) return false;
    // Of the fencing thread itself everything up to the fence; this tick's later accesses are let
    // pass.
    const bool released =
        tick < a.release.ticks[warp] || (!several && warp == a.release.warp &&
                                         lane == a.release.lane && tick == a.release.ticks[warp]);
    return released && clocks.Before(a.warp, a.lane, false, a.tick, my_warp, my_lane);
  });
}

GlobalShadow::GlobalShadow(size_t bytes)
    : words_((bytes + 3) / 4),
      cells_(static_cast<Word*>(std::calloc(std::max<size_t>(words_, 1), sizeof(Word)))) {
  TESSERA_CHECK(cells_ != nullptr, "no memory for the shadow of {} bytes", bytes);
}

GlobalShadow::~GlobalShadow() { std::free(cells_); }

bool GlobalShadow::Before(const Cell& cell, uint32_t warp, uint32_t lane, const GlobalActor& actor,
                          const Clocks& clocks) {
  if (cell.run < actor.first_run() || cell.tick == kTicks) return true;  // an earlier launch
  if (cell.blocks != 0) return false;
  if (cell.run != actor.run()) {
    return cell.warps == 0 && actor.Acquired(cell.run, cell.warp, cell.lane, cell.lanes != 0,
                                             cell.tick, warp, lane, clocks);
  }
  if (cell.warps != 0) return cell.tick < clocks.barriers();
  return clocks.Before(cell.warp, cell.lane, cell.lanes != 0, cell.tick + clocks.base(), warp,
                       lane);
}

GlobalShadow::Finding GlobalShadow::Found(const Cell& cell, uint16_t site, bool wrote,
                                          const GlobalActor& actor) {
  Finding finding;
  finding.race = true;
  finding.other_wrote = wrote;
  finding.other_block = cell.blocks != 0 || cell.run != actor.run();
  finding.other_run = static_cast<uint32_t>(cell.run);
  finding.other_thread = static_cast<uint32_t>(cell.warp * 32 + cell.lane);
  finding.other_worker = site >> 12;
  finding.other_site = site & 0xfff;
  return finding;
}

GlobalShadow::Finding GlobalShadow::Check(size_t offset, uint32_t bytes, Access access,
                                          uint32_t warp, uint32_t lane, uint32_t site,
                                          const GlobalActor& actor, const Clocks& clocks) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const auto site_code = static_cast<uint16_t>((actor.worker() & 0xf) << 12 | (site & 0xfff));
  Cell mine;
  mine.run = actor.run();
  mine.warp = warp;
  mine.lane = lane;
  mine.atomic = access == Access::kAtomic;
  mine.mask = bytes == 1 ? 1u << offset % 2 : 3u;
  mine.tick = std::min(clocks.tick(warp) - clocks.base(), kTicks);
  const size_t end = (offset + bytes + 1) / 2;
  // The half before, as it was found and as it was left: mostly the next one has the same past.
  uint64_t past_write = 0, past_read = 0, left_read = 0;
  bool known = false;
  for (size_t h = offset / 2; h < end; ++h) {
    Word& word = cells_[h / 2];
    const size_t half = h % 2;
    const uint64_t write_bits = word.write[half].load(kRelaxed);
    const uint64_t read_bits = word.read[half].load(kRelaxed);
    if (!known || write_bits != past_write || read_bits != past_read) {
      const auto write = std::bit_cast<Cell>(write_bits);
      if (write.run >= actor.first_run() && (write.mask & mine.mask) != 0 &&
          !(write.atomic != 0 && access == Access::kAtomic) &&
          !Before(write, warp, lane, actor, clocks)) {
        return Found(write, word.write_site[half].load(kRelaxed), true, actor);
      }
      const auto read = std::bit_cast<Cell>(read_bits);
      const bool unordered =
          read.run >= actor.first_run() && !Before(read, warp, lane, actor, clocks);
      if (access != Access::kLoad) {
        if (unordered && (read.mask & mine.mask) != 0)
          return Found(read, word.read_site[half].load(kRelaxed), false, actor);
      } else {
        Cell next = mine;
        if (unordered) {  // one cell stands for both reads
          next.mask |= read.mask;
          if (read.blocks != 0 || read.run != mine.run) {
            next.blocks = 1;
          } else if (read.warps != 0 || read.warp != warp) {
            next.warps = 1;
            next.tick = std::min(clocks.barriers(), kTicks);
          } else {
            next.lanes = 1;
          }
        }
        left_read = std::bit_cast<uint64_t>(next);
      }
      past_write = write_bits;
      past_read = read_bits;
      known = true;
    }
    if (access != Access::kLoad) {
      word.write[half].store(std::bit_cast<uint64_t>(mine), kRelaxed);
      word.write_site[half].store(site_code, kRelaxed);
    } else {
      word.read[half].store(left_read, kRelaxed);
      word.read_site[half].store(site_code, kRelaxed);
    }
  }
  return {};
}

}  // namespace tessera::cuda::emulation
