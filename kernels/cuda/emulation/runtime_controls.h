// What tests set and read of the emulated runtime: seeds, failures, what is still alive.
//
// One per process, as there is one emulated GPU. Thread safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "kernels/cuda/runtime.h"

namespace tessera::cuda::emulation {

// The calls of runtime.h (and of the libraries beside it) that can fail.
enum class Call : uint8_t {
  kOpenDevice,
  kReadMemoryInfo,
  kAllocate,
  kAllocatePinned,
  kCopyToDevice,
  kCopyToHost,
  kCopyOnDevice,
  kFill,
  kCreateStream,
  kCreateEvent,
  kRecordEvent,
  kWaitForEvent,
  kSynchronize,
  kSynchronizeEvent,
  kBeginCapture,
  kEndCapture,
  kInstantiate,  // of a graph, where it is built
  kLaunchGraph,
  kLaunch,   // of a kernel: refused at once
  kGemm,     // refused at once
  kExecute,  // of anything queued: it fails when its turn comes
  kCount,
};
const char* Name(Call call);

// Error numbers, cudart's.
inline constexpr int kInvalidValue = 1;
inline constexpr int kOutOfMemory = 2;
inline constexpr int kNoDevice = 100;
inline constexpr int kIllegalAddress = 700;
inline constexpr int kCaptureUnsupported = 900;
inline constexpr int kStuck = 999;  // nothing can run: an event that nobody will record

struct Alive {
  size_t allocations = 0, pinned = 0, streams = 0, events = 0, graphs = 0;
  bool operator==(const Alive&) const = default;
};

// Order of execution from now on. Every run with one seed is the same run.
void SetRuntimeSeed(uint64_t seed);
// The n-th call of a kind from now on (1: the next) fails with `code`; once, or for good: a sticky
// error is every later call's answer, as after an illegal address.
void FailCall(Call call, uint64_t nth, int code, bool sticky);
void ClearFailures();                           // and a sticky error with them
uint64_t CallsOf(Call call);                    // since the last ClearFailures()
void SetDeviceProps(const DeviceProps& props);  // of the next OpenDevice
DeviceProps DefaultDeviceProps();
void SetDeviceMemory(size_t bytes);  // 0: as the host's
uint64_t CountFrees();               // of device and pinned memory, since the process began
Alive CountAlive();

// For stand-ins of libraries: host code that runs in stream order. True where it is captured.
LaunchStatus Enqueue(Stream stream, Call call, std::function<LaunchStatus()> work);

}  // namespace tessera::cuda::emulation
