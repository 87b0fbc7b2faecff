// Host data on its way to the device: a ring of pinned memory and its mirror on the device, one a
// stream.
//
// The ring is cut into segments. A segment that is left gets an event; before it is written again,
// the host waits for that event, so that no copy under way loses its source. Contents are
// remembered for the length of a step: what was staged before with equal bytes is not copied again.
// Not thread safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/device_allocator.h"
#include "kernels/cuda/runtime.h"

namespace tessera::cuda {

class Staging {
 public:
  // `segment_bytes`: the largest piece. RESOURCE_EXHAUSTED where there is no memory.
  static Result<std::unique_ptr<Staging>> Make(const DeviceAllocator& allocator, Stream stream,
                                               size_t segment_bytes);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // The device's copy, 256-byte aligned. On failure *out is unset.
  LaunchStatus Stage(const void* data, size_t bytes, const void** out);
  // A new step: earlier contents are not found any more.
  void Forget();
  // What is staged from here to EndCapture belongs to a graph: a segment of its own, no host waits
  // in between. Beyond the segment's size is a programmer error.
  LaunchStatus BeginCapture();
  void EndCapture() { capturing_ = false; }
  size_t segment_bytes() const { return segment_bytes_; }

 private:
  struct Piece {
    uint64_t hash = 0;
    size_t offset = 0, bytes = 0;
    void* device = nullptr;
  };
  struct Segment {
    Event left = nullptr;
    bool waiting = false;  // `left` was recorded
    std::vector<Piece> pieces;
    size_t findable = 0;  // the first piece of this step
  };
  static constexpr size_t kSegments = 4;

  Staging(Stream stream, size_t segment_bytes) : stream_(stream), segment_bytes_(segment_bytes) {}
  LaunchStatus Enter(size_t segment);
  const Piece* Find(uint64_t hash, const void* data, size_t bytes) const;

  const Stream stream_;
  const size_t segment_bytes_;
  Storage pinned_storage_, device_;
  uint8_t* pinned_ = nullptr;
  std::array<Segment, kSegments> segments_;
  size_t current_ = 0;
  size_t used_ = 0;  // of the current segment
  bool capturing_ = false;
};

}  // namespace tessera::cuda
