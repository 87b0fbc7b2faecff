#include "kernels/cuda/emulation/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace tessera::cuda::emulation {
namespace {
constexpr std::align_val_t kArenaAlignment{1024};

// The first set bit of `mask` at or after position `rotation`, going round.
uint32_t First(uint32_t mask, uint32_t rotation) {
  const uint32_t turned = std::rotr(mask, static_cast<int>(rotation));
  return (static_cast<uint32_t>(std::countr_zero(turned)) + rotation) % kLanes;
}
}  // namespace

const char* Name(Meeting meeting) {
  switch (meeting) {
    case Meeting::kNone: return "nothing";
    case Meeting::kSyncWarp: return "sync_warp";
    case Meeting::kShuffle: return "a shuffle";
    case Meeting::kBallot: return "ballot";
    case Meeting::kLdmatrix: return "ldmatrix";
    case Meeting::kMma: return "mma";
  }
  return "?";
}

Block::Block(uint32_t worker)
    : worker_(worker),
      checks_(std::make_unique<Checks>()),
      arena_(static_cast<uint8_t*>(::operator new(kArenaBytes, kArenaAlignment))) {}
Block::~Block() { ::operator delete(arena_, kArenaAlignment); }

uint64_t Block::Random() {  // xorshift64*
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return random_ * 0x2545f4914f6cdd1dull;
}

void Block::Prepare(LaunchState& state, uint32_t index) {
  const KernelLaunch& launch = *state.launch;
  state_ = &state;
  index_ = index;
  position_ = {index % launch.grid.x, index / launch.grid.x % launch.grid.y,
               index / launch.grid.x / launch.grid.y};
  warps_in_use_ = launch.threads / kLanes;
  ready_warps_ = warps_in_use_ == kMaxWarps ? kAllLanes : (1u << warps_in_use_) - 1;
  done_ = current_warp_ = barrier_arrived_ = 0;
  failed_ = false;
  random_ =
      state.options.seed == 0
          ? 0
          : (state.options.seed * 0x9e3779b97f4a7c15ull + index + 1) * 0xbf58476d1ce4e5b9ull | 1;
  stacks_.Provide(fibers_, launch.threads);
  threads_.resize(std::max<size_t>(threads_.size(), launch.threads));
  for (uint32_t w = 0; w < warps_in_use_; ++w) {
    Warp& warp = warps_[w];
    warp.index = w;
    warp.ready = kAllLanes;
    warp.done = warp.arrived = warp.at_barrier = 0;
    warp.meeting = Meeting::kNone;
    warp.rotation = random_ == 0 ? 0 : static_cast<uint32_t>(Random() >> 59);
  }
  for (uint32_t i = 0; i < launch.threads; ++i) {
    Thread& thread = threads_[i];
    thread.fiber = fibers_[i].get();
    thread.block = this;
    thread.warp = &warps_[i / kLanes];
    thread.index = i;
    thread.lane = i % kLanes;
    thread.copy_group = 0;
    thread.copies.clear();
    thread.fiber->Reset(&FiberMain);
  }
  named_.fill({});
  statics_.clear();
  const auto dynamic = static_cast<uint32_t>(launch.smem_bytes);
  static_end_ = (dynamic + 127) / 128 * 128 + 128;  // a gap, so that one past the end is found
  std::memset(arena_, 0xff, dynamic);
  recent_.fill(nullptr);
  checked_ = state.options.checked;
  if (!checked_) return;
  checks_->clocks.Begin(warps_in_use_);
  checks_->shared.Begin(dynamic, checks_->clocks);
  checks_->actor.Begin(static_cast<uint32_t>(state.first_run + index),
                       static_cast<uint32_t>(state.first_run), worker_);
  for (uint32_t w = 0; w < warps_in_use_; ++w) checks_->logs[w].Drop();
}

void Block::FlushLog(const Warp& warp) { checks_->logs[warp.index].Flush(checks_->sites); }

Counters* Block::CountersAt(Site site, const char* word) {
  return checked_ ? &checks_->sites[checks_->sites.Number(site, word)].counters : nullptr;
}

void Block::Run(LaunchState& state, uint32_t index) {
  Prepare(state, index);
  Thread* first = NextReady();
  current_thread = first;
  Fiber::Switch(main_, *first->fiber);
  current_thread = nullptr;
  if (!failed_ && done_ != state.launch->threads) ExplainStop();
}

void Block::FiberMain() {
  Thread& me = *current_thread;
  Fiber::Entered(*me.fiber);
  const KernelLaunch& launch = me.block->launch();
  launch.run(reinterpret_cast<const void*>(launch.kernel), launch.params.data());
  me.block->Finish(me);
  __builtin_unreachable();
}

void Block::Finish(Thread& me) {
  if (!me.copies.empty()) {
    Fail(me, DefectKind::kUnwaitedCopy, me.copies.front().site,
         [&] { return std::string("the thread ends before it waits for this copy"); });
  }
  me.warp->done |= 1u << me.lane;
  ++done_;
  if (checked_ && me.warp->done == kAllLanes) FlushLog(*me.warp);
  Wait(me);
}

Thread* Block::NextReady() {
  Warp* warp = &warps_[current_warp_];
  if (warp->ready == 0) {
    ready_warps_ &= ~(1u << current_warp_);
    if (ready_warps_ == 0) return nullptr;
    current_warp_ =
        First(ready_warps_, random_ == 0 ? current_warp_ : static_cast<uint32_t>(Random() >> 59));
    warp = &warps_[current_warp_];
  }
  const uint32_t lane = First(warp->ready, warp->rotation);
  warp->ready &= ~(1u << lane);
  return &threads_[warp->index * kLanes + lane];
}

void Block::Wait(Thread& me) {
  Thread* next = NextReady();
  if (next == &me) return;
  current_thread = next;
  Fiber::Switch(*me.fiber, next == nullptr ? main_ : *next->fiber);
}

bool Block::Meet(Thread& me, Meeting meeting, Site site, Operands operands) {
  Warp& warp = *me.warp;
  if (warp.arrived == 0) {
    warp.meeting = meeting;
    warp.site = site;
  } else if (warp.meeting != meeting || warp.site != site) {
    Fail(me, DefectKind::kDivergence, site, [&] {
      return fmt::format("{} here, but other lanes of the warp are at {} at {}:{}", Name(meeting),
                         Name(warp.meeting), warp.site.Path(), warp.site.line);
    });
  }
  warp.operands[me.lane] = operands;
  warp.arrived |= 1u << me.lane;
  if (warp.arrived != kAllLanes) {
    Wait(me);
    return false;
  }
  if (checked_) {
    FlushLog(warp);
    Counters& counters = *CountersAt(site, Name(meeting));
    ++counters.instructions;
    if (meeting == Meeting::kSyncWarp) checks_->clocks.SyncWarp(warp.index);
    if (meeting != Meeting::kLdmatrix && meeting != Meeting::kMma) ++counters.warp_syncs;
  }
  return true;
}

void Block::Release(Thread& me) {
  Warp& warp = *me.warp;
  warp.arrived = 0;
  warp.meeting = Meeting::kNone;
  warp.ready = kAllLanes & ~(1u << me.lane);
  if (random_ == 0) return;
  const uint64_t random = Random();
  warp.rotation = static_cast<uint32_t>(random >> 59);
  if ((random & 7) == 0) {  // now and then another warp overtakes
    warp.ready = kAllLanes;
    ready_warps_ |= 1u << warp.index;
    current_warp_ = First(ready_warps_, static_cast<uint32_t>(random >> 3) % kLanes);
    Wait(me);
  }
}

void Block::SyncThreads(Thread& me, Site site) {
  if (barrier_arrived_ == 0) {
    barrier_site_ = site;
  } else if (barrier_site_ != site) {
    Fail(me, DefectKind::kDivergence, site, [&] {
      return fmt::format(
          "sync_threads here, but other threads of the block are at the one at {}:{}",
          barrier_site_.Path(), barrier_site_.line);
    });
  }
  me.waits_at = site;
  me.warp->at_barrier |= 1u << me.lane;
  if (checked_ && me.warp->at_barrier == kAllLanes) FlushLog(*me.warp);
  if (++barrier_arrived_ < launch().threads) return Wait(me);
  if (checked_) {
    checks_->clocks.Barrier(kAllLanes);
    ++CountersAt(site, "sync_threads")->barriers;
  }
  OpenBarrier(me);
}

void Block::OpenBarrier(Thread& last) {
  barrier_arrived_ = 0;
  for (uint32_t w = 0; w < warps_in_use_; ++w) {
    warps_[w].at_barrier = 0;
    warps_[w].ready = kAllLanes;
    if (random_ != 0) warps_[w].rotation = static_cast<uint32_t>(Random() >> 59);
  }
  ready_warps_ = warps_in_use_ == kMaxWarps ? kAllLanes : (1u << warps_in_use_) - 1;
  if (random_ != 0) {
    current_warp_ = static_cast<uint32_t>(Random() >> 32) % warps_in_use_;
    return Wait(last);
  }
  last.warp->ready &= ~(1u << last.lane);
}

void Block::NamedBarrier(Thread& me, uint32_t id, uint32_t threads, Site site) {
  if (id < 1 || id > 15 || threads == 0 || threads % kLanes != 0 || threads > launch().threads) {
    Fail(me, DefectKind::kBadArgument, site, [&] {
      return fmt::format(
          "named_barrier({}, {}): id is 1 to 15, threads a multiple of 32 within the block", id,
          threads);
    });
  }
  Named& barrier = named_[id];
  if (barrier.arrived == 0) {
    barrier.threads = threads;
    barrier.site = site;
  } else if (barrier.threads != threads || barrier.lanes[me.warp->index] == kAllLanes) {
    Fail(me, DefectKind::kDivergence, site, [&] {
      return fmt::format("named barrier {} of {} threads, but {} came for {} at {}:{}", id, threads,
                         barrier.arrived, barrier.threads, barrier.site.Path(), barrier.site.line);
    });
  }
  me.waits_at = site;
  me.warp->at_barrier |= 1u << me.lane;
  barrier.lanes[me.warp->index] |= 1u << me.lane;
  if (checked_ && barrier.lanes[me.warp->index] == kAllLanes) FlushLog(*me.warp);
  if (++barrier.arrived < threads) return Wait(me);
  uint32_t met = 0;
  for (uint32_t w = 0; w < warps_in_use_; ++w) {
    if (barrier.lanes[w] == 0) continue;
    if (barrier.lanes[w] != kAllLanes) {
      Fail(me, DefectKind::kDivergence, site,
           [&] { return fmt::format("named barrier {}: only some lanes of warp {} came", id, w); });
    }
    warps_[w].at_barrier = 0;
    warps_[w].ready = kAllLanes;
    ready_warps_ |= 1u << w;
    met |= 1u << w;
  }
  if (checked_) {
    checks_->clocks.Barrier(met);
    ++CountersAt(site, "named_barrier")->barriers;
  }
  me.warp->ready &= ~(1u << me.lane);
  barrier = {};
}

std::string Block::Where(uint32_t thread) const {
  const Warp& warp = warps_[thread / kLanes];
  const uint32_t bit = 1u << (thread % kLanes);
  if ((warp.done & bit) != 0) return fmt::format("thread {} has ended", thread);
  if ((warp.at_barrier & bit) != 0) {
    return fmt::format("thread {} waits at the barrier at {}:{}", thread,
                       threads_[thread].waits_at.Path(), threads_[thread].waits_at.line);
  }
  if ((warp.arrived & bit) != 0) {
    return fmt::format("thread {} waits for its warp in {} at {}:{}", thread, Name(warp.meeting),
                       warp.site.Path(), warp.site.line);
  }
  return fmt::format("thread {} has not run", thread);
}

// Names one thread of each state that differs from the first waiting thread's.
void Block::ExplainStop() {
  const uint32_t threads = launch().threads;
  uint32_t waiting = 0;
  while ((warps_[waiting / kLanes].done >> (waiting % kLanes) & 1u) != 0) ++waiting;
  Thread& first = threads_[waiting];
  const Warp& warp = *first.warp;
  const bool in_warp = (warp.arrived >> first.lane & 1u) != 0;
  const Site site = in_warp ? warp.site : first.waits_at;
  std::string what = Where(waiting);
  for (uint32_t i = 0; i < threads; ++i) {
    const Warp& other = *threads_[i].warp;
    const uint32_t bit = 1u << threads_[i].lane;
    const bool ended = (other.done & bit) != 0;
    const bool meets = (other.arrived & bit) != 0;
    const Site place = meets ? other.site : threads_[i].waits_at;
    if (!ended && meets == in_warp && place == site) continue;
    what += "; " + Where(i);
    break;
  }
  const bool at_named = std::ranges::any_of(named_, [&](const Named& barrier) {
    return (barrier.lanes[warp.index] >> first.lane & 1u) != 0;
  });
  const std::lock_guard lock(state_->mutex);
  failed_ = true;
  if (state_->failed.exchange(true)) return;
  state_->defect = {at_named ? DefectKind::kDeadlock : DefectKind::kDivergence,
                    state_->name,
                    site,
                    position_,
                    waiting,
                    what};
}

void Block::Record(const Thread& me, DefectKind kind, Site site, std::string what) {
  const std::lock_guard lock(state_->mutex);
  failed_ = true;
  if (state_->failed.exchange(true)) return;
  state_->defect = {kind, state_->name, site, position_, me.index, std::move(what)};
}

void Block::Abandon(Thread& me) {
  // An exception could not cross to the main context. This fiber is never resumed.
  current_thread = nullptr;
  Fiber::Switch(*me.fiber, main_);
  __builtin_unreachable();
}

}  // namespace tessera::cuda::emulation
