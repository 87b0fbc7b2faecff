// A thread that runs one step after another, in the order in which they were given.
//
// Thread safety: Run from one thread; it does not wait. The future has the result, or the exception
// that the step threw. The destructor runs what was given and then ends the thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "server/engine/runner.h"

namespace tessera {

class StepThread {
 public:
  StepThread() : thread_([this] { Loop(); }) {}
  ~StepThread() {
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  StepThread(const StepThread&) = delete;
  StepThread& operator=(const StepThread&) = delete;

  std::future<StepResult> Run(std::function<StepResult()> step) {
    std::packaged_task<StepResult()> task(std::move(step));
    std::future<StepResult> result = task.get_future();
    {
      const std::lock_guard lock(mu_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
    return result;
  }

 private:
  void Loop() {
    for (;;) {
      std::packaged_task<StepResult()> task;
      {
        std::unique_lock lock(mu_);
        changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<StepResult()>> tasks_;  // guarded by mu_
  bool stopping_ = false;                               // guarded by mu_
  std::thread thread_;                                  // last: it uses all of the above
};

}  // namespace tessera
