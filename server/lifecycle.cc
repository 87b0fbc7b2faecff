#include "server/lifecycle.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>

namespace tessera {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

sigset_t TheSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

SignalWatch::SignalWatch() {
  const sigset_t set = TheSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);  // a log pipe whose reader is gone is an error of write
  thread_ = std::thread([this] { Run(); });
}

SignalWatch::~SignalWatch() {
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
  }
  thread_.join();
}

void SignalWatch::Run() {
  const sigset_t set = TheSignals();
  while (true) {
    const timespec patience{.tv_sec = 0, .tv_nsec = 100'000'000};
    const int signal = sigtimedwait(&set, nullptr, &patience);
    const std::lock_guard lock(mu_);
    if (stopping_) return;
    if (signal <= 0) continue;
    if (!serving_) {
      std::fputs("stopped while starting\n", stderr);
      std::fflush(stderr);
      _exit(0);
    }
    if (++signals_ > 1) _exit(128 + signal);
    changed_.notify_all();
  }
}

void SignalWatch::ServingBegins() {
  const std::lock_guard lock(mu_);
  serving_ = true;
}

bool SignalWatch::WaitFor(milliseconds timeout) {
  std::unique_lock lock(mu_);
  return changed_.wait_for(lock, timeout, [&] { return signals_ > 0; });
}

int Drain(Service& service, EngineHandle& engine, GrpcServer& server, const DrainTimes& times) {
  constexpr milliseconds kTick{5};
  service.AnnounceDrain();
  std::this_thread::sleep_for(times.delay);
  service.StopAccepting();
  const auto end = steady_clock::now() + times.timeout;
  // Those in preparation are accepted, too: the engine takes no new ones only when they have
  // reached it.
  while (service.preparing() > 0 && steady_clock::now() < end) std::this_thread::sleep_for(kTick);
  engine.BeginDrain();
  while ((service.in_flight() > 0 || !engine.Drained()) && steady_clock::now() < end)
    std::this_thread::sleep_for(kTick);
  const int left = service.in_flight();
  engine.Stop();
  // Time for the last statuses to leave; watches of health, which never end by themselves, are cut
  // off.
  server.Shutdown(left > 0 ? milliseconds(1000) : milliseconds(100));
  return left;
}

}  // namespace tessera
