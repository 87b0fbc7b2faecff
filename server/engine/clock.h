// The engine's view of time, injectable so that tests of deadlines and stalled readers need no
// sleep.
#pragma once

#include <condition_variable>
#include <mutex>

#include "server/engine/request.h"

namespace tessera {

class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic. Any thread.
  virtual TimePoint Now() const = 0;
  // Releases `lock` until `wake` is notified or Now() >= until; may return early. `lock` holds the
  // mutex that guards whatever is waited for.
  virtual void WaitUntil(std::condition_variable& wake, std::unique_lock<std::mutex>& lock,
                         TimePoint until) const = 0;
};

class SystemClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
  void WaitUntil(std::condition_variable& wake, std::unique_lock<std::mutex>& lock,
                 TimePoint until) const override {
    wake.wait_until(lock, until);
  }
};

}  // namespace tessera
