// The emulated GPU: takes launches of device.cuh's kernels and runs them thread for thread on the
// CPU.
//
// Execution model. Every CUDA thread is a fiber. A block runs on one OS thread; blocks of a launch
// are spread over `workers` OS threads. A fiber runs until it has to meet others (a barrier, a
// shuffle, a matrix instruction); the last to arrive does the common work and the rest become
// runnable. Which lane, warp and block goes first is in order, or drawn from a seed.
//
// The first defect found ends the launch with a status and is kept for TakeReport().
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "kernels/cuda/emulation/memory.h"
#include "kernels/cuda/emulation/report.h"
#include "kernels/cuda/emulation/site.h"
#include "kernels/cuda/stream.h"

namespace tessera::cuda::emulation {

// A kernel with its arguments, as a stream or a graph node keeps it. Copyable.
struct KernelLaunch {
  void (*run)(const void* kernel, const void* params) = nullptr;  // one thread's work
  void (*kernel)() = nullptr;
  Grid grid;
  unsigned threads = 0;
  size_t smem_bytes = 0;
  std::vector<uint8_t> params;
  Site site{};  // of the call of launch()

  template <typename Params>
  static KernelLaunch Make(void (*kernel)(Params), Grid grid, unsigned threads, size_t smem_bytes,
                           const Params& params, Site site) {
    static_assert(std::is_trivially_copyable_v<Params>);
    static_assert(alignof(Params) <= 16);
    KernelLaunch launch{&RunThread<Params>, reinterpret_cast<void (*)()>(kernel), grid, threads,
                        smem_bytes,         std::vector<uint8_t>(sizeof(Params)), site};
    std::memcpy(launch.params.data(), &params, sizeof(Params));
    return launch;
  }

 private:
  template <typename Params>
  static void RunThread(const void* kernel, const void* params) {
    reinterpret_cast<void (*)(Params)>(const_cast<void*>(kernel))(
        *static_cast<const Params*>(params));
  }
};

struct Options {
  // Races, un-waited copies and reads of shared memory that nobody wrote are found, and everything
  // is counted. Without: bounds, alignment, divergence and deadlocks only, and several times
  // faster.
  bool checked = false;
  uint64_t seed = 0;     // 0: lanes, warps and blocks in order; else drawn
  unsigned workers = 0;  // OS threads; 0: one per core
};

// Error codes of LaunchStatus, with cudart's numbers.
inline constexpr int kInvalidConfiguration = 9;
inline constexpr int kLaunchFailure = 719;

class Worker;

class Machine {
 public:
  Machine();
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Not while a launch runs.
  void set_options(const Options& options);
  const Options& options() const { return options_; }

  // What launch() calls. Without a hook it is Execute(); the emulated runtime queues instead.
  LaunchStatus Submit(Stream stream, const KernelLaunch& launch);
  using SubmitHook = std::function<LaunchStatus(Stream, const KernelLaunch&)>;
  void set_submit(SubmitHook hook) { submit_ = std::move(hook); }

  // Runs to the end. Thread safe: one launch at a time. A defect is kLaunchFailure.
  LaunchStatus Execute(const KernelLaunch& launch);

  Memory& memory() { return memory_; }

  // Counters and defects since the last call.
  Report TakeReport();

 private:
  void StartWorkers();

  Options options_;
  SubmitHook submit_;
  Memory memory_;
  std::mutex running_;  // held by Execute
  std::vector<std::unique_ptr<Worker>> workers_;
  struct Pool;
  std::unique_ptr<Pool> pool_;
  uint64_t next_run_ = 1;  // numbers of blocks, never reused
  uint64_t launches_ = 0;
  Collector collector_;
};

// The one emulated GPU of this process, as a process has one driver.
Machine& machine();

}  // namespace tessera::cuda::emulation
