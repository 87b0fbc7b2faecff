// A bounded pool of threads for work that must not run on the threads of gRPC or the engine.
//
// Jobs run in order of submission. A job never waits for another job: what is made of several parts
// continues in the last part that ends (preparer.cc), so the pool cannot come to a stop.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tessera {

// Thread-safe. A job must not throw.
class JobPool {
 public:
  // `queue`: how many jobs may wait for TrySubmit to take one more.
  JobPool(int threads, size_t queue);
  // Runs what was submitted, then joins.
  ~JobPool();

  // False: the queue is full, and nothing happened.
  bool TrySubmit(std::function<void()> job);
  // For parts of a job that was taken: always accepted.
  void Submit(std::function<void()> job);

  int threads() const { return static_cast<int>(threads_.size()); }

 private:
  void Run();

  const size_t capacity_;
  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;  // guarded by mu_
  bool stopping_ = false;                   // guarded by mu_
  std::vector<std::thread> threads_;
};

}  // namespace tessera
