// Signals and the way down.
//
// The first SIGTERM or SIGINT asks for a drain, the second ends the process at once. Signals are
// blocked in all threads and taken by one thread of their own, so no handler runs in the middle of
// anything.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "server/wire/grpc_server.h"
#include "server/wire/service.h"

namespace tessera {

// Construct it before any other thread. Thread-safe.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();

  // Before serving, a signal ends the process: there is nothing to drain.
  void ServingBegins();
  // True once a signal came; waits at most so long.
  bool WaitFor(std::chrono::milliseconds timeout);

 private:
  void Run();

  std::mutex mu_;
  std::condition_variable changed_;
  bool serving_ = false;   // guarded by mu_
  int signals_ = 0;        // guarded by mu_
  bool stopping_ = false;  // guarded by mu_
  std::thread thread_;
};

struct DrainTimes {
  std::chrono::milliseconds delay{0};  // goes on accepting, NOT_SERVING
  std::chrono::milliseconds timeout{30'000};
};

// NOT_SERVING at once, no new work after the delay, everything accepted runs on until the timeout;
// what is left then gets one UNAVAILABLE. Returns how many were left.
int Drain(Service& service, EngineHandle& engine, GrpcServer& server, const DrainTimes& times);

}  // namespace tessera
