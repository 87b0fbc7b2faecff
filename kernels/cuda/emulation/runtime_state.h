// What the emulated runtime knows: streams and what is queued on them, events, graphs, pinned
// memory, and the failures that a test asked for. Behind runtime.cc (the calls of runtime.h) and
// runtime_controls.cc (what tests set and read).
//
// Callers hold `mutex`.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "kernels/cuda/emulation/runtime_controls.h"
#include "kernels/cuda/runtime.h"

namespace tessera::cuda {
namespace emulation {

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

}  // namespace emulation

struct OpaqueStream {
  std::deque<emulation::Operation> queue;
  bool capturing = false;
  std::vector<emulation::Operation> captured;
};
struct OpaqueEvent {
  std::shared_ptr<emulation::EventState> state = std::make_shared<emulation::EventState>();
};
struct OpaqueGraph {
  std::vector<emulation::Operation> nodes;
  size_t bytes() const { return nodes.size() * kGraphNodeBytes; }
};

namespace emulation {

class Runtime {
 public:
  Runtime();  // kernels are queued here from now on
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  struct Failure {
    uint64_t nth = 0;  // 0: none
    int code = 0;
    bool sticky = false;
  };

  std::recursive_mutex mutex;
  std::mt19937_64 random{1};
  std::array<Failure, static_cast<size_t>(Call::kCount)> failures{};
  std::array<uint64_t, static_cast<size_t>(Call::kCount)> calls{};
  uint64_t frees = 0;  // of device and pinned memory
  LaunchStatus sticky;
  DeviceProps props = DefaultDeviceProps();
  size_t memory = 0;  // of the device; 0: as much as the host's
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
  LaunchStatus Enter(Call call);
  OpaqueStream& Of(Stream stream) { return stream == nullptr ? default_stream : *stream; }
  // Queues, or writes down where the stream is captured. Takes `mutex` itself.
  LaunchStatus Push(Stream stream, Call call, Operation::Kind kind,
                    std::function<LaunchStatus()> run);
  // Until `done` says so: one operation at a time, of a stream drawn at random among those whose
  // head may run. A failure becomes sticky.
  LaunchStatus RunUntil(const std::function<bool()>& done);
  LaunchStatus RunAll();
  // After a sticky error the device runs nothing any more.
  LaunchStatus Abandon();
  // Dropped slices that nothing queued may name.
  void FreeDropped();

  size_t total_memory() const;
  size_t free_memory() const;  // less allocations and graphs
  // Whether a copy may: inside one device allocation, and of pinned memory.
  LaunchStatus ExpectDevice(const void* memory, size_t bytes) const;
  LaunchStatus ExpectPinned(const void* memory, size_t bytes) const;

 private:
  bool Idle() const;
  bool Capturing() const;
};

// The process's one, as there is one emulated GPU.
Runtime& runtime();

}  // namespace emulation
}  // namespace tessera::cuda
