#include "kernels/cuda/staging.h"

#include <cstring>

#include "base/check.h"

namespace tessera::cuda {
namespace {

constexpr size_t kAlignment = 256;

// FNV-1a over words; collisions are told apart by comparing bytes.
uint64_t Hash(const void* data, size_t bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto* from = static_cast<const uint8_t*>(data);
  for (; bytes >= 8; bytes -= 8, from += 8) {
    uint64_t word;
    std::memcpy(&word, from, 8);
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 29;
  }
  for (; bytes > 0; --bytes) hash = (hash ^ *from++) * 0x100000001b3u;
  return hash;
}

}  // namespace

Result<std::unique_ptr<Staging>> Staging::Make(const DeviceAllocator& allocator, Stream stream,
                                               size_t segment_bytes) {
  segment_bytes = (segment_bytes + kAlignment - 1) / kAlignment * kAlignment;
  std::unique_ptr<Staging> staging(new Staging(stream, segment_bytes));
  const size_t bytes = kSegments * segment_bytes;
  TESSERA_TRY(staging->pinned_storage_,
              allocator.Pinned(MemoryUse::kStaging, bytes, "no pinned memory for copies"));
  staging->pinned_ = static_cast<uint8_t*>(staging->pinned_storage_.get());
  TESSERA_TRY(staging->device_, allocator.Device(MemoryUse::kStaging, bytes,
                                                 "out of device memory for copies to it"));
  for (Segment& segment : staging->segments_) {
    if (LaunchStatus status = CreateEvent(&segment.left); !status.ok())
      return Fail(ErrorCode::kUnavailable, "the CUDA device makes no event",
                  {.field = "device", .detail = status.message});
  }
  return staging;
}

Staging::~Staging() {
  for (Segment& segment : segments_) {
    for (const Piece& piece : segment.pieces) DropSlice(piece.device);
    if (segment.left != nullptr) DestroyEvent(segment.left);
  }
}

LaunchStatus Staging::Enter(size_t next) {
  Segment& old = segments_[current_];
  if (LaunchStatus status = RecordEvent(old.left, stream_); !status.ok()) return status;
  old.waiting = true;
  Segment& segment = segments_[next];
  if (segment.waiting) {
    if (LaunchStatus status = SynchronizeEvent(segment.left); !status.ok()) return status;
    segment.waiting = false;
  }
  for (const Piece& piece : segment.pieces) DropSlice(piece.device);
  segment.pieces.clear();
  segment.findable = 0;
  current_ = next;
  used_ = 0;
  return {};
}

const Staging::Piece* Staging::Find(uint64_t hash, const void* data, size_t bytes) const {
  for (size_t s = 0; s < kSegments; ++s) {
    const Segment& segment = segments_[s];
    for (size_t i = segment.findable; i < segment.pieces.size(); ++i) {
      const Piece& piece = segment.pieces[i];
      if (piece.hash == hash && piece.bytes == bytes &&
          std::memcmp(pinned_ + s * segment_bytes_ + piece.offset, data, bytes) == 0)
        return &piece;
    }
  }
  return nullptr;
}

void Staging::Forget() {
  for (Segment& segment : segments_) segment.findable = segment.pieces.size();
}

LaunchStatus Staging::BeginCapture() {
  Forget();  // a graph copies all that it reads
  LaunchStatus status = Enter((current_ + 1) % kSegments);
  capturing_ = status.ok();
  return status;
}

LaunchStatus Staging::Stage(const void* data, size_t bytes, const void** out) {
  TESSERA_CHECK(bytes <= segment_bytes_, "Stage: expected at most {} bytes, got {}", segment_bytes_,
                bytes);
  *out = nullptr;
  if (bytes == 0) return {};
  const uint64_t hash = Hash(data, bytes);
  if (const Piece* known = Find(hash, data, bytes); known != nullptr) {
    *out = known->device;
    return {};
  }
  if (used_ + bytes > segment_bytes_) {
    TESSERA_CHECK(!capturing_, "Stage: a graph's data: expected at most {} bytes, got {}",
                  segment_bytes_, used_ + bytes);
    if (LaunchStatus status = Enter((current_ + 1) % kSegments); !status.ok()) return status;
  }
  const size_t offset = current_ * segment_bytes_ + used_;
  Piece piece{.hash = hash, .offset = used_, .bytes = bytes};
  if (LaunchStatus status = Slice(device_.get(), offset, bytes, &piece.device); !status.ok())
    return status;
  segments_[current_].pieces.push_back(piece);
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  std::memcpy(pinned_ + offset, data, bytes);
  *out = piece.device;
  return CopyToDeviceAsync(piece.device, pinned_ + offset, bytes, stream_);
}

}  // namespace tessera::cuda
