#include "kernels/cuda/emulation/runtime_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "kernels/cuda/emulation/machine.h"

namespace tessera::cuda::emulation {
namespace {

bool MayRun(const OpaqueStream& stream) {
  if (stream.queue.empty()) return false;
  const Operation& head = stream.queue.front();
  return head.kind != Operation::Kind::kWait || head.event->done >= head.ticket;
}

size_t DefaultMemory() {
  const auto pages = static_cast<size_t>(std::max(1L, sysconf(_SC_PHYS_PAGES)));
  return std::min<size_t>(size_t{8} << 30,
                          pages / 2 * static_cast<size_t>(std::max(1L, sysconf(_SC_PAGESIZE))));
}

LaunchStatus Expect(bool good, const char* what) {
  return good ? LaunchStatus{} : LaunchStatus{kInvalidValue, what};
}

}  // namespace

Runtime& runtime() {
  machine();  // made before, so that it goes after
  static Runtime instance;
  return instance;
}

Runtime::Runtime() {
  machine().set_submit([this](Stream stream, const KernelLaunch& launch) {
    return Push(stream, Call::kLaunch, Operation::Kind::kKernel,
                [launch] { return machine().Execute(launch); });
  });
}

Runtime::~Runtime() { machine().set_submit(nullptr); }

LaunchStatus Runtime::Enter(Call call) {
  const auto index = static_cast<size_t>(call);
  ++calls[index];
  if (!sticky.ok()) return sticky;
  Failure& failure = failures[index];
  if (failure.nth == 0 || --failure.nth > 0) return {};
  LaunchStatus status{failure.code, fmt::format("injected failure of {}", Name(call))};
  if (failure.sticky) sticky = status;
  return status;
}

LaunchStatus Runtime::Push(Stream stream, Call call, Operation::Kind kind,
                           std::function<LaunchStatus()> run) {
  const std::lock_guard lock(mutex);
  if (LaunchStatus status = Enter(call); !status.ok()) return status;
  OpaqueStream& to = Of(stream);
  Operation operation{.kind = kind, .run = std::move(run), .number = ++operations};
  (to.capturing ? to.captured.emplace_back() : to.queue.emplace_back()) = std::move(operation);
  return {};
}

LaunchStatus Runtime::RunUntil(const std::function<bool()>& done) {
  while (!done()) {
    if (!sticky.ok()) return Abandon();
    std::vector<OpaqueStream*> ready;
    if (MayRun(default_stream)) ready.push_back(&default_stream);
    for (OpaqueStream& stream : streams) {
      if (MayRun(stream)) ready.push_back(&stream);
    }
    if (ready.empty()) {
      sticky = {kStuck, "streams wait for events that nobody records"};
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

LaunchStatus Runtime::RunAll() {
  return RunUntil([this] { return Idle(); });
}

LaunchStatus Runtime::Abandon() {
  default_stream.queue.clear();
  for (OpaqueStream& stream : streams) stream.queue.clear();
  FreeDropped();
  return sticky;
}

bool Runtime::Idle() const {
  return default_stream.queue.empty() &&
         std::ranges::all_of(streams, [](const OpaqueStream& s) { return s.queue.empty(); });
}

bool Runtime::Capturing() const {
  return std::ranges::any_of(streams, [](const OpaqueStream& s) { return s.capturing; });
}

void Runtime::FreeDropped() {
  if (dropped.empty() || Capturing()) return;  // a captured node may still name it
  uint64_t next = operations + 1;              // the oldest that has not run
  const auto look = [&next](const OpaqueStream& stream) {
    for (const Operation& operation : stream.queue) next = std::min(next, operation.number);
  };
  look(default_stream);
  std::ranges::for_each(streams, look);
  for (; !dropped.empty() && dropped.front().second < next; dropped.pop_front())
    machine().memory().Free(dropped.front().first);
}

size_t Runtime::total_memory() const { return memory == 0 ? DefaultMemory() : memory; }

size_t Runtime::free_memory() const {
  size_t used = machine().memory().bytes_allocated();
  for (const Graph graph : graphs) used += graph->bytes();
  return total_memory() - std::min(total_memory(), used);
}

LaunchStatus Runtime::ExpectDevice(const void* memory, size_t bytes) const {
  return Expect(bytes == 0 || machine().memory().IsDevice(memory, bytes),
                "a copy leaves its device allocation");
}

LaunchStatus Runtime::ExpectPinned(const void* memory, size_t bytes) const {
  const auto* begin = static_cast<const uint8_t*>(memory);
  const bool inside = std::ranges::any_of(pinned, [&](const auto& block) {
    return begin >= block.first && begin + bytes <= block.first + block.second;
  });
  return Expect(bytes == 0 || inside, "an asynchronous copy of unpinned memory");
}

}  // namespace tessera::cuda::emulation
