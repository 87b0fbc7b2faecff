// The thread that turns the engine's events into messages, so that the engine only rings a bell.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace tessera {

// Something that has events to read.
class Pumped {
 public:
  virtual ~Pumped() = default;
  // On the pump's thread; must neither wait nor throw.
  virtual void Pump() = 0;
};

class EventPump {
 public:
  EventPump() : thread_([this] { Run(); }) {}
  // Pumps what is waiting, then joins.
  ~EventPump() {
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  // Pump() will be called after this. Never waits for it.
  void Ring(std::shared_ptr<Pumped> pumped) {
    {
      const std::lock_guard lock(mu_);
      waiting_.push_back(std::move(pumped));
    }
    wake_.notify_one();
  }

 private:
  void Run() {
    std::unique_lock lock(mu_);
    while (true) {
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      std::shared_ptr<Pumped> next = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      next->Pump();
      next.reset();
      lock.lock();
    }
  }

  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Pumped>> waiting_;  // guarded by mu_
  bool stopping_ = false;                        // guarded by mu_
  std::thread thread_;                           // last: it uses the others
};

}  // namespace tessera
