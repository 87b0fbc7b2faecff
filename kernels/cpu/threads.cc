#include "kernels/cpu/threads.h"

#include <sched.h>

#include <chrono>

namespace tessera {
namespace {

constexpr auto kSpin = std::chrono::microseconds(30);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until done() or the time is up; looks at the clock every 32 rounds.
template <typename Done>
bool SpinUntil(Done&& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

ThreadPool::ThreadPool(int threads, bool may_spin)
    : may_spin_(may_spin), shares_(std::make_unique<Share[]>(static_cast<size_t>(threads))) {
  for (int worker = 1; worker < threads; ++worker)
    workers_.emplace_back([this, worker] { WorkerLoop(worker); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mu_);
    stop_ = true;
    job_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

int ThreadPool::Pin() {
  cpu_set_t usable;  // the first 1024 processors: enough for what one pool runs on
  CPU_ZERO(&usable);
  if (sched_getaffinity(0, sizeof usable, &usable) != 0 || CPU_COUNT(&usable) < threads()) return 0;
  int cpu = -1, tied = 0;
  const auto next = [&] {
    do ++cpu;
    while (!CPU_ISSET(cpu, &usable));
  };
  next();  // the caller's
  for (std::thread& worker : workers_) {
    next();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    tied += pthread_setaffinity_np(worker.native_handle(), sizeof one, &one) == 0 ? 1 : 0;
  }
  return tied;
}

void ThreadPool::RunItems(int worker) {
  const int count = threads();
  for (int i = 0; i < count; ++i) {
    Share& share = shares_[static_cast<size_t>((worker + i) % count)];
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t item = share.next.fetch_add(1, std::memory_order_relaxed);
      if (item >= share.end) break;
      function_(context_, item, worker);
    }
  }
}

void ThreadPool::RunErased(int64_t items, Function function, void* context) {
  bool wake;
  {
    const std::lock_guard lock(mu_);
    function_ = function;
    context_ = context;
    const int count = threads();
    for (int i = 0; i < count; ++i) {
      Share& share = shares_[static_cast<size_t>(i)];
      share.next.store(items * i / count, std::memory_order_relaxed);
      share.end = items * (i + 1) / count;
    }
    open_ = true;
    job_.fetch_add(1, std::memory_order_release);
    wake = sleeping_ > 0;
  }
  if (wake) wake_.notify_all();
  RunItems(0);
  {
    // From here on nobody enters; those inside are finishing their last item.
    const std::lock_guard lock(mu_);
    open_ = false;
  }
  const auto all_out = [&] { return inside_.load(std::memory_order_acquire) == 0; };
  if (all_out() || (may_spin_ && SpinUntil(all_out))) return;
  std::unique_lock lock(mu_);
  caller_sleeps_ = true;
  done_.wait(lock, all_out);
  caller_sleeps_ = false;
}

void ThreadPool::WorkerLoop(int worker) {
  uint64_t seen = 0;
  for (;;) {
    const auto news = [&] { return job_.load(std::memory_order_acquire) != seen; };
    if (may_spin_) SpinUntil(news);
    {
      std::unique_lock lock(mu_);
      ++sleeping_;
      wake_.wait(lock, [&] { return stop_ || news(); });
      --sleeping_;
      if (stop_) return;
      seen = job_.load(std::memory_order_relaxed);
      if (!open_) continue;  // came too late: the caller did it all
      inside_.fetch_add(1, std::memory_order_relaxed);
    }
    RunItems(worker);
    if (inside_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      const std::lock_guard lock(mu_);
      if (caller_sleeps_) done_.notify_one();
    }
  }
}

}  // namespace tessera
