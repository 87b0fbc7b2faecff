#include "kernels/cuda/emulation/runtime_controls.h"

#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/emulation/runtime_state.h"

namespace tessera::cuda {
namespace emulation {

const char* Name(Call call) {
  static constexpr const char* kNames[] = {
      "OpenDevice",  "ReadMemoryInfo", "Allocate",    "AllocatePinned",   "CopyToDevice",
      "CopyToHost",  "CopyOnDevice",   "Fill",        "CreateStream",     "CreateEvent",
      "RecordEvent", "WaitForEvent",   "Synchronize", "SynchronizeEvent", "BeginCapture",
      "EndCapture",  "Instantiate",    "LaunchGraph", "Launch",           "Gemm",
      "Execute"};
  static_assert(std::size(kNames) == static_cast<size_t>(Call::kCount));
  return kNames[static_cast<size_t>(call)];
}

void SetRuntimeSeed(uint64_t seed) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  r.random.seed(seed);
}

void FailCall(Call call, uint64_t nth, int code, bool sticky) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  r.failures[static_cast<size_t>(call)] = {nth, code, sticky};
}

void ClearFailures() {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  r.failures = {};
  r.calls = {};
  r.sticky = {};
}

uint64_t CallsOf(Call call) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  return r.calls[static_cast<size_t>(call)];
}

// An A100's: what the kernels must fit at least.
DeviceProps DefaultDeviceProps() {
  return {.name = "emulated GPU",
          .major = 8,
          .minor = 0,
          .sm_count = 108,
          .smem_per_block = 163 << 10,
          .smem_per_sm = 164 << 10,
          .l2_bytes = size_t{40} << 20,
          .driver_version = 13000,
          .runtime_version = 13000,
          .emulated = true};
}

void SetDeviceProps(const DeviceProps& props) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  r.props = props;
}

void SetDeviceMemory(size_t bytes) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  r.memory = bytes;
}

uint64_t CountFrees() {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  return r.frees;
}

Alive CountAlive() {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  return {.allocations = machine().memory().allocations(),
          .pinned = r.pinned.size(),
          .streams = r.streams.size(),
          .events = r.events.size(),
          .graphs = r.graphs.size()};
}

LaunchStatus Enqueue(Stream stream, Call call, std::function<LaunchStatus()> work) {
  return runtime().Push(stream, call, Operation::Kind::kWork, std::move(work));
}

}  // namespace emulation
}  // namespace tessera::cuda
