// A clock that moves only when a test says so, and wakes whoever waits on it.
#pragma once

#include <algorithm>
#include <vector>

#include "server/engine/clock.h"

namespace tessera::testing {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  TimePoint Now() const override {
    std::lock_guard lock(mu_);
    return now_;
  }

  void WaitUntil(std::condition_variable& wake, std::unique_lock<std::mutex>& lock,
                 TimePoint until) const override {
    const Waiter waiter{&wake, lock.mutex()};
    {
      std::lock_guard guard(mu_);
      if (now_ >= until) return;
      waiters_.push_back(waiter);
    }
    // Advance() takes lock.mutex() before it notifies, so that the notification cannot fall between
    // here and the wait.
    wake.wait(lock);
    std::lock_guard guard(mu_);
    waiters_.erase(std::find(waiters_.begin(), waiters_.end(), waiter));
  }

  // Not to be called with a mutex held that a waiter uses.
  void Advance(std::chrono::nanoseconds by) {
    std::vector<Waiter> waiters;
    {
      std::lock_guard lock(mu_);
      now_ += by;
      waiters = waiters_;
    }
    for (const Waiter& waiter : waiters) {
      std::lock_guard lock(*waiter.mutex);
      waiter.wake->notify_all();
    }
  }

 private:
  struct Waiter {
    std::condition_variable* wake;
    std::mutex* mutex;
    bool operator==(const Waiter&) const = default;
  };
  mutable std::mutex mu_;
  TimePoint now_{std::chrono::hours(1)};  // guarded by mu_
  mutable std::vector<Waiter> waiters_;   // guarded by mu_
};

}  // namespace tessera::testing
