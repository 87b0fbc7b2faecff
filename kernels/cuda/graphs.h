// The graphs of steps by their key, within a number of bytes of the device. Not thread safe.
//
// Bytes are what the runtime says an instance takes (GraphBuild in runtime.h). Where there is no
// room for another, the largest keys give way to a smaller one, since small batches come most
// often; the step of a key that finds no room runs op by op, and is not captured again: capturing a
// step in vain costs more than it saves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string_view>

#include "kernels/cuda/device_allocator.h"
#include "kernels/cuda/runtime.h"

namespace tessera::cuda {

class GraphCache {
 public:
  // At most `limit` bytes of the device, accounted for in `allocator`, which outlives this. `say`
  // is told in one line when a step is refused for the first time; may be empty.
  GraphCache(const DeviceAllocator& allocator, size_t limit,
             std::function<void(std::string_view)> say);
  ~GraphCache();
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  // Whether a step of this key is to be captured. Makes room for it, as for the largest graph so
  // far: before the capture, for one that is built before others go would be over the limit.
  bool Begin(int64_t key);
  // Ends the capture of `stream` and launches what was captured. *refused: there is no room for it
  // and nothing was launched, which is no error.
  LaunchStatus Launch(int64_t key, Stream stream, bool* refused);

  uint64_t built() const { return built_; }
  uint64_t launched() const { return launched_; }
  size_t limit() const { return limit_; }

 private:
  struct Kept {
    Graph graph = nullptr;
    size_t bytes = 0;
  };
  using Graphs = std::map<int64_t, Kept>;

  size_t bytes() const { return allocator_.Of(MemoryUse::kGraphs).bytes; }
  void Drop(Graphs::iterator which);
  // Drops graphs of larger keys, the largest first, until `more` bytes fit.
  void MakeRoom(int64_t key, size_t more);
  void Refuse(int64_t key, std::string_view why);

  const DeviceAllocator& allocator_;
  const size_t limit_;
  const std::function<void(std::string_view)> say_;
  Graphs graphs_;
  size_t largest_ = 0;  // bytes of a graph so far
  int64_t refused_from_ = std::numeric_limits<int64_t>::max();
  uint64_t built_ = 0, launched_ = 0;
};

}  // namespace tessera::cuda
