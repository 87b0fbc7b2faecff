// runtime.h for the emulated GPU. Nothing runs when it is queued: streams are drained only where
// the host waits, one operation at a time, the next stream drawn at random among those whose head
// may run. So a copy that reads a buffer too late, or a missing event, shows.
#include "kernels/cuda/runtime.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "kernels/cuda/device_check.h"
#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/emulation/runtime_controls.h"

namespace tessera::cuda {
namespace {

using emulation::Call;

// Tickets grow; an event is complete up to `done`.
struct EventState {
  uint64_t recorded = 0;
  uint64_t done = 0;
};

struct Operation {
  enum class Kind : uint8_t {
    kKernel,
    kToDevice,
    kToHost,
    kOnDevice,
    kFill,
    kWork,
    kRecord,
    kWait
  };
  Kind kind = Kind::kWork;
  std::function<LaunchStatus()> run;
  std::shared_ptr<EventState> event;
  uint64_t ticket = 0;
  uint64_t number = UINT64_MAX;  // in order of pushing, of those that use memory
};

}  // namespace

struct OpaqueStream {
  std::deque<Operation> queue;
  bool capturing = false;
  std::vector<Operation> captured;
};
struct OpaqueEvent {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};
struct OpaqueGraph {
  std::vector<Operation> nodes;
};

namespace {

struct Failure {
  uint64_t nth = 0;  // 0: none
  int code = 0;
  bool sticky = false;
};

class Runtime {
 public:
  Runtime() {
    emulation::machine().set_submit([this](Stream stream, const emulation::KernelLaunch& launch) {
      return Push(stream, Call::kLaunch, Operation::Kind::kKernel,
                  [launch] { return emulation::machine().Execute(launch); });
    });
  }
  ~Runtime() { emulation::machine().set_submit(nullptr); }

  std::recursive_mutex mutex;
  std::mt19937_64 random{1};
  std::array<Failure, static_cast<size_t>(Call::kCount)> failures{};
  std::array<uint64_t, static_cast<size_t>(Call::kCount)> calls{};
  LaunchStatus sticky;
  DeviceProps props = emulation::DefaultDeviceProps();
  size_t memory = 0;
  std::list<OpaqueStream> streams;
  std::set<Event> events;
  std::set<Graph> graphs;
  std::vector<std::pair<uint8_t*, size_t>> pinned;
  // Slices that nobody names any more, each with the number of the last operation that still may.
  std::deque<std::pair<void*, uint64_t>> dropped;
  uint64_t operations = 0;
  OpaqueStream default_stream;
  uint64_t tickets = 0;

  // Counts the call; an injected or sticky failure, else success.
  LaunchStatus Enter(Call call) {
    const auto index = static_cast<size_t>(call);
    ++calls[index];
    if (!sticky.ok()) return sticky;
    Failure& failure = failures[index];
    if (failure.nth == 0 || --failure.nth > 0) return {};
    LaunchStatus status{failure.code, fmt::format("injected failure of {}", emulation::Name(call))};
    if (failure.sticky) sticky = status;
    return status;
  }

  OpaqueStream& Of(Stream stream) { return stream == nullptr ? default_stream : *stream; }

  LaunchStatus Push(Stream stream, Call call, Operation::Kind kind,
                    std::function<LaunchStatus()> run) {
    const std::lock_guard lock(mutex);
    if (LaunchStatus status = Enter(call); !status.ok()) return status;
    OpaqueStream& to = Of(stream);
    Operation operation{.kind = kind, .run = std::move(run), .number = ++operations};
    (to.capturing ? to.captured.emplace_back() : to.queue.emplace_back()) = std::move(operation);
    return {};
  }

  bool MayRun(const OpaqueStream& stream) const {
    if (stream.queue.empty()) return false;
    const Operation& head = stream.queue.front();
    return head.kind != Operation::Kind::kWait || head.event->done >= head.ticket;
  }

  // Until `done` says so. A failure becomes sticky.
  template <typename Done>
  LaunchStatus RunUntil(Done&& done) {
    while (!done()) {
      if (!sticky.ok()) return Abandon();
      std::vector<OpaqueStream*> ready;
      if (MayRun(default_stream)) ready.push_back(&default_stream);
      for (OpaqueStream& stream : streams) {
        if (MayRun(stream)) ready.push_back(&stream);
      }
      if (ready.empty()) {
        sticky = {emulation::kStuck, "streams wait for events that nobody records"};
        return Abandon();
      }
      OpaqueStream& stream = *ready[random() % ready.size()];
      const Operation operation = std::move(stream.queue.front());
      stream.queue.pop_front();
      if (operation.kind == Operation::Kind::kRecord) {
        operation.event->done = std::max(operation.event->done, operation.ticket);
      } else if (operation.run) {
        LaunchStatus status = Enter(Call::kExecute);
        if (status.ok()) status = operation.run();
        if (!status.ok()) sticky = status;
      }
    }
    FreeDropped();
    return sticky;
  }

  // After a sticky error the device runs nothing any more.
  LaunchStatus Abandon() {
    default_stream.queue.clear();
    for (OpaqueStream& stream : streams) stream.queue.clear();
    FreeDropped();
    return sticky;
  }

  bool Idle() const {
    return default_stream.queue.empty() &&
           std::ranges::all_of(streams, [](const OpaqueStream& s) { return s.queue.empty(); });
  }
  bool Capturing() const {
    return std::ranges::any_of(streams, [](const OpaqueStream& s) { return s.capturing; });
  }
  void FreeDropped() {
    if (dropped.empty() || Capturing()) return;  // a captured node may still name it
    uint64_t next = operations + 1;              // the oldest that has not run
    const auto look = [&next](const OpaqueStream& stream) {
      for (const Operation& operation : stream.queue) next = std::min(next, operation.number);
    };
    look(default_stream);
    std::ranges::for_each(streams, look);
    for (; !dropped.empty() && dropped.front().second < next; dropped.pop_front())
      emulation::machine().memory().Free(dropped.front().first);
  }
  LaunchStatus RunAll() {
    return RunUntil([this] { return Idle(); });
  }

  bool IsPinned(const void* memory, size_t bytes) const {
    const auto* begin = static_cast<const uint8_t*>(memory);
    return std::ranges::any_of(pinned, [&](const auto& block) {
      return begin >= block.first && begin + bytes <= block.first + block.second;
    });
  }
  LaunchStatus Expect(bool good, const char* what) const {
    return good ? LaunchStatus{} : LaunchStatus{emulation::kInvalidValue, what};
  }
  LaunchStatus ExpectDevice(const void* memory, size_t bytes) const {
    return Expect(bytes == 0 || emulation::machine().memory().IsDevice(memory, bytes),
                  "a copy leaves its device allocation");
  }
  LaunchStatus ExpectPinned(const void* memory, size_t bytes) const {
    return Expect(bytes == 0 || IsPinned(memory, bytes), "an asynchronous copy of unpinned memory");
  }
};

Runtime& runtime() {
  emulation::machine();  // made before, so that it goes after
  static Runtime instance;
  return instance;
}

size_t DefaultMemory() {
  const auto pages = static_cast<size_t>(std::max(1L, sysconf(_SC_PHYS_PAGES)));
  return std::min<size_t>(size_t{8} << 30,
                          pages / 2 * static_cast<size_t>(std::max(1L, sysconf(_SC_PAGESIZE))));
}

}  // namespace

LaunchStatus OpenDevice(int index, DeviceProps& props) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kOpenDevice); !status.ok()) return status;
  if (LaunchStatus status = CheckDeviceCount(index, 1); !status.ok()) return status;
  props = r.props;
  props.memory_bytes = r.memory == 0 ? DefaultMemory() : r.memory;
  if (LaunchStatus status = CheckDriver(props.driver_version, props.runtime_version); !status.ok())
    return status;
  return CheckArchitecture(props);
}

LaunchStatus ReadMemoryInfo(MemoryInfo& info) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kReadMemoryInfo); !status.ok()) return status;
  info.total = r.memory == 0 ? DefaultMemory() : r.memory;
  info.free = info.total - std::min(info.total, emulation::machine().memory().bytes_allocated());
  return {};
}

LaunchStatus Allocate(size_t bytes, void** memory) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (LaunchStatus status = r.Enter(Call::kAllocate); !status.ok()) return status;
  const size_t total = r.memory == 0 ? DefaultMemory() : r.memory;
  emulation::Memory& device = emulation::machine().memory();
  *memory = nullptr;
  if (bytes <= total && device.bytes_allocated() <= total - bytes) *memory = device.Allocate(bytes);
  if (*memory == nullptr) return {emulation::kOutOfMemory, "out of memory"};
  return {};
}

void Free(void* memory) {
  if (memory == nullptr) return;
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
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

LaunchStatus EndCapture(Stream stream, Graph* graph, bool* rebuilt) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  OpaqueStream& on = r.Of(stream);
  on.capturing = false;  // whatever comes of it
  std::vector<Operation> nodes = std::exchange(on.captured, {});
  if (LaunchStatus status = r.Enter(Call::kEndCapture); !status.ok()) return status;
  const auto same = [](const Operation& a, const Operation& b) { return a.kind == b.kind; };
  *rebuilt = *graph == nullptr || !std::ranges::equal((*graph)->nodes, nodes, same);
  if (*graph == nullptr) {
    *graph = new OpaqueGraph;
    r.graphs.insert(*graph);
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

namespace emulation {

const char* Name(Call call) {
  static constexpr const char* kNames[] = {
      "OpenDevice",   "ReadMemoryInfo",   "Allocate",     "AllocatePinned",
      "CopyToDevice", "CopyToHost",       "CopyOnDevice", "Fill",
      "CreateStream", "CreateEvent",      "RecordEvent",  "WaitForEvent",
      "Synchronize",  "SynchronizeEvent", "BeginCapture", "EndCapture",
      "LaunchGraph",  "Launch",           "Gemm",         "Execute"};
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
