// ThreadPool: runs the independent items of one op on a fixed set of threads, the caller among
// them.
//
// Thread safety: Run() from one thread at a time. Items are cut by output, so results do not depend
// on which thread runs which item, nor on how many there are. A worker that the system does not
// schedule delays nobody: the caller runs whatever has not been claimed, so an oversubscribed
// machine is slow but never stuck. Between ops workers spin for some 30 us, and only if the pool's
// threads fit the usable cores; then they sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace tessera {

class ThreadPool {
 public:
  // threads >= 1, the caller's own included. `may_spin`: false where others need the cores more.
  ThreadPool(int threads, bool may_spin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Ties worker i to the i-th processor that this process may use; the caller's thread stays free
  // and finds the first one. Returns how many are tied: none where there are fewer processors than
  // threads. For machines that serve nothing else.
  int Pin();

  // body(item, worker) for every item in [0, items), worker in [0, threads()); returns when all are
  // done. Every thread has a stretch of the items, which it takes in ascending order: what it wrote
  // in one op is then mostly what it reads in the next, from its own cache. Who has done with that
  // helps the others. body must not throw and must not call Run.
  template <typename Body>
  void Run(int64_t items, Body&& body) {
    if (items <= 0) return;
    if (items == 1 || workers_.empty()) {
      for (int64_t item = 0; item < items; ++item) body(item, 0);
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    RunErased(
        items,
        [](void* context, int64_t item, int worker) {
          (*static_cast<Plain*>(context))(item, worker);
        },
        const_cast<std::remove_const_t<Plain>*>(&body));
  }

 private:
  using Function = void (*)(void* context, int64_t item, int worker);

  void RunErased(int64_t items, Function function, void* context);
  void WorkerLoop(int worker);
  void RunItems(int worker);

  // Constant after construction.
  const bool may_spin_;
  std::vector<std::thread> workers_;

  // Changed under mu_ while no worker is inside a job; read by workers inside one.
  Function function_ = nullptr;
  void* context_ = nullptr;

  // Guarded by mu_.
  std::mutex mu_;
  std::condition_variable wake_;  // workers wait for a job
  std::condition_variable done_;  // the caller waits for the last worker
  bool open_ = false;             // a job may be entered
  bool stop_ = false;
  int sleeping_ = 0;
  bool caller_sleeps_ = false;

  // The stretch of one thread. `end` changes like function_.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};  // unclaimed
    int64_t end = 0;
  };
  const std::unique_ptr<Share[]> shares_;  // one a thread

  alignas(64) std::atomic<uint64_t> job_{0};  // number of the latest job; spun on
  alignas(64) std::atomic<int> inside_{0};    // workers inside the job
};

}  // namespace tessera
