// runtime.h for the emulated GPU. Nothing runs when it is queued: streams are drained only where
// the host waits, one operation at a time, the next stream drawn at random among those whose head
// may run. So a copy that reads a buffer too late, or a missing event, shows.
#include "kernels/cuda/runtime.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "kernels/cuda/device_check.h"
#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/emulation/runtime_controls.h"
#include "kernels/cuda/emulation/runtime_state.h"

namespace tessera::cuda {

using emulation::Call;
using emulation::Operation;
using emulation::Runtime;
using emulation::runtime;

LaunchStatus OpenDevice(int index, DeviceProps& props) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kOpenDevice); !status.ok()) return status;
  if (LaunchStatus status = CheckDeviceCount(index, 1); !status.ok()) return status;
  props = r.props;
  props.memory_bytes = r.total_memory();
  if (LaunchStatus status = CheckDriver(props.driver_version, props.runtime_version); !status.ok())
    return status;
  return CheckArchitecture(props);
}

LaunchStatus ReadMemoryInfo(MemoryInfo& info) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kReadMemoryInfo); !status.ok()) return status;
  info = {.free = r.free_memory(), .total = r.total_memory()};
  return {};
}

LaunchStatus Allocate(size_t bytes, void** memory) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kAllocate); !status.ok()) return status;
  *memory = nullptr;
  if (bytes <= r.free_memory()) *memory = emulation::machine().memory().Allocate(bytes);
  if (*memory == nullptr) return {emulation::kOutOfMemory, "out of memory"};
  return {};
}

void Free(void* memory) {
  if (memory == nullptr) return;
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  ++r.frees;
  (void)r.RunAll();
  emulation::machine().memory().Free(memory);
}

LaunchStatus Slice(void*, size_t, size_t bytes, void** part) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  *part = emulation::machine().memory().Allocate(bytes);
  return *part == nullptr ? LaunchStatus{emulation::kOutOfMemory, "out of memory"} : LaunchStatus{};
}

void DropSlice(void* part) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  r.dropped.emplace_back(part, r.operations);
  r.FreeDropped();
}

LaunchStatus AllocatePinned(size_t bytes, void** memory) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  *memory = nullptr;
  if (LaunchStatus status = r.Enter(Call::kAllocatePinned); !status.ok()) return status;
  *memory = ::operator new (std::max<size_t>(bytes, 1), std::align_val_t{4096}, std::nothrow);
  if (*memory == nullptr) return {emulation::kOutOfMemory, "out of host memory"};
  r.pinned.emplace_back(static_cast<uint8_t*>(*memory), bytes);
  emulation::machine().memory().AddHost(*memory, bytes);
  return {};
}

void FreePinned(void* memory) {
  if (memory == nullptr) return;
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  ++r.frees;
  (void)r.RunAll();
  std::erase_if(r.pinned, [&](const auto& block) { return block.first == memory; });
  emulation::machine().memory().RemoveHost(memory);
  ::operator delete (memory, std::align_val_t{4096});
}

LaunchStatus CopyToDeviceAsync(void* to, const void* from, size_t bytes, Stream stream) {
  Runtime& r = runtime();
  const auto copy = [&r, to, from, bytes]() -> LaunchStatus {
    if (LaunchStatus status = r.ExpectDevice(to, bytes); !status.ok()) return status;
    if (LaunchStatus status = r.ExpectPinned(from, bytes); !status.ok()) return status;
    std::memcpy(to, from, bytes);
    return {};
  };
  return r.Push(stream, Call::kCopyToDevice, Operation::Kind::kToDevice, copy);
}

LaunchStatus CopyToHostAsync(void* to, const void* from, size_t bytes, Stream stream) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.ExpectPinned(to, bytes); !status.ok()) return status;
  const auto copy = [&r, to, from, bytes]() -> LaunchStatus {
    if (LaunchStatus status = r.ExpectDevice(from, bytes); !status.ok()) return status;
    if (LaunchStatus status = r.ExpectPinned(to, bytes); !status.ok()) return status;
    std::memcpy(to, from, bytes);
    return {};
  };
  std::memset(to, 0xcc, bytes);  // who reads too early reads this
  return r.Push(stream, Call::kCopyToHost, Operation::Kind::kToHost, copy);
}

LaunchStatus CopyOnDeviceAsync(void* to, const void* from, size_t bytes, Stream stream) {
  Runtime& r = runtime();
  const auto copy = [&r, to, from, bytes]() -> LaunchStatus {
    if (LaunchStatus status = r.ExpectDevice(to, bytes); !status.ok()) return status;
    if (LaunchStatus status = r.ExpectDevice(from, bytes); !status.ok()) return status;
    std::memmove(to, from, bytes);
    return {};
  };
  return r.Push(stream, Call::kCopyOnDevice, Operation::Kind::kOnDevice, copy);
}

LaunchStatus FillAsync(void* memory, uint8_t value, size_t bytes, Stream stream) {
  Runtime& r = runtime();
  const auto fill = [&r, memory, value, bytes]() -> LaunchStatus {
    if (LaunchStatus status = r.ExpectDevice(memory, bytes); !status.ok()) return status;
    std::memset(memory, value, bytes);
    return {};
  };
  return r.Push(stream, Call::kFill, Operation::Kind::kFill, fill);
}

LaunchStatus CreateStream(Stream* stream) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  *stream = nullptr;
  if (LaunchStatus status = r.Enter(Call::kCreateStream); !status.ok()) return status;
  *stream = &r.streams.emplace_back();
  return {};
}

void DestroyStream(Stream stream) {
  if (stream == nullptr) return;
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  (void)r.RunUntil([&] { return stream->queue.empty(); });
  r.streams.remove_if([&](const OpaqueStream& other) { return &other == stream; });
}

LaunchStatus Synchronize(Stream stream) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kSynchronize); !status.ok()) {
    if (!r.sticky.ok()) (void)r.Abandon();
    return status;
  }
  OpaqueStream& of = r.Of(stream);
  if (of.capturing) return {emulation::kCaptureUnsupported, "a wait for a stream that is captured"};
  return r.RunUntil([&] { return of.queue.empty(); });
}

LaunchStatus SynchronizeDevice() {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kSynchronize); !status.ok()) {
    if (!r.sticky.ok()) (void)r.Abandon();
    return status;
  }
  return r.RunAll();
}

LaunchStatus CreateEvent(Event* event) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  *event = nullptr;
  if (LaunchStatus status = r.Enter(Call::kCreateEvent); !status.ok()) return status;
  *event = new OpaqueEvent;
  r.events.insert(*event);
  return {};
}

void DestroyEvent(Event event) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (r.events.erase(event) > 0) delete event;
}

LaunchStatus RecordEvent(Event event, Stream stream) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kRecordEvent); !status.ok()) return status;
  OpaqueStream& on = r.Of(stream);
  if (on.capturing)
    return {emulation::kCaptureUnsupported, "an event on a stream that is captured"};
  event->state->recorded = ++r.tickets;
  on.queue.push_back(
      {.kind = Operation::Kind::kRecord, .run = {}, .event = event->state, .ticket = r.tickets});
  return {};
}

LaunchStatus WaitForEvent(Stream stream, Event event) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kWaitForEvent); !status.ok()) return status;
  OpaqueStream& on = r.Of(stream);
  if (on.capturing)
    return {emulation::kCaptureUnsupported, "an event on a stream that is captured"};
  on.queue.push_back({.kind = Operation::Kind::kWait,
                      .run = {},
                      .event = event->state,
                      .ticket = event->state->recorded});
  return {};
}

LaunchStatus SynchronizeEvent(Event event) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kSynchronizeEvent); !status.ok()) return status;
  const uint64_t ticket = event->state->recorded;
  return r.RunUntil([&] { return event->state->done >= ticket; });
}

LaunchStatus BeginCapture(Stream stream) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kBeginCapture); !status.ok()) return status;
  OpaqueStream& on = r.Of(stream);
  if (on.capturing) return {emulation::kCaptureUnsupported, "a stream is captured already"};
  on.capturing = true;
  on.captured.clear();
  return {};
}

LaunchStatus EndCapture(Stream stream, Graph* graph, GraphBuild* build) {
  *build = {};
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  OpaqueStream& on = r.Of(stream);
  on.capturing = false;  // whatever comes of it
  std::vector<Operation> nodes = std::exchange(on.captured, {});
  if (LaunchStatus status = r.Enter(Call::kEndCapture); !status.ok()) return status;
  const auto same = [](const Operation& a, const Operation& b) { return a.kind == b.kind; };
  build->rebuilt = *graph == nullptr || !std::ranges::equal((*graph)->nodes, nodes, same);
  if (*graph == nullptr) {
    *graph = new OpaqueGraph;
    r.graphs.insert(*graph);
  }
  if (build->rebuilt) {
    (*graph)->nodes.clear();  // the instance that was there goes first
    build->bytes = nodes.size() * kGraphNodeBytes;
    if (LaunchStatus status = r.Enter(Call::kInstantiate); !status.ok()) return status;
    if (build->bytes > r.free_memory()) return {emulation::kOutOfMemory, "out of memory"};
  }
  (*graph)->nodes = std::move(nodes);
  return {};
}

LaunchStatus LaunchGraph(Graph graph, Stream stream) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kLaunchGraph); !status.ok()) return status;
  OpaqueStream& on = r.Of(stream);
  on.queue.insert(on.queue.end(), graph->nodes.begin(), graph->nodes.end());
  return {};
}

void DestroyGraph(Graph graph) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (r.graphs.erase(graph) > 0) delete graph;
}

}  // namespace tessera::cuda
