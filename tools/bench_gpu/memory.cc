#include "tools/bench_gpu/memory.h"

#include <algorithm>
#include <random>

#include "kernels/dtype.h"

namespace tessera::bench {

Memory::~Memory() {
  for (void* block : blocks_) cuda::Free(block);
}

void* Memory::Allocate(int64_t bytes) {
  void* block = nullptr;
  if (!status_.ok()) return nullptr;
  Check(cuda::Allocate(static_cast<size_t>(std::max<int64_t>(bytes, 1)), &block));
  if (block != nullptr) blocks_.push_back(block);
  return block;
}

void* Memory::Copy(const void* from, int64_t bytes) {
  void* const block = Allocate(bytes);
  void* pinned = nullptr;
  if (block == nullptr || bytes == 0) return block;
  Check(cuda::AllocatePinned(static_cast<size_t>(bytes), &pinned));
  if (pinned == nullptr) return block;
  std::memcpy(pinned, from, static_cast<size_t>(bytes));
  Check(cuda::CopyToDeviceAsync(block, pinned, static_cast<size_t>(bytes), stream_));
  Check(cuda::Synchronize(stream_));
  cuda::FreePinned(pinned);
  return block;
}

void* Memory::Fill(int64_t bytes, bool zero) {
  if (zero) {
    void* const block = Allocate(bytes);
    if (block != nullptr) Check(cuda::FillAsync(block, 0, static_cast<size_t>(bytes), stream_));
    return block;
  }
  // A piece from the host, and copies of it on the device.
  constexpr int64_t kPiece = int64_t{4} << 20;
  std::mt19937 random(1);
  std::vector<uint16_t> piece(static_cast<size_t>(std::min(bytes, kPiece) / 2));
  for (uint16_t& x : piece) x = FloatToBF16(static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f);
  auto* const first = static_cast<char*>(Copy(piece.data(), std::ssize(piece) * 2));
  if (bytes <= kPiece || first == nullptr) return first;
  auto* const all = static_cast<char*>(Allocate(bytes));
  for (int64_t at = 0; all != nullptr && at < bytes; at += kPiece)
    Check(cuda::CopyOnDeviceAsync(all + at, first,
                                  static_cast<size_t>(std::min(kPiece, bytes - at)), stream_));
  return all;
}

float* Memory::Floats(int64_t count) {
  std::mt19937 random(2);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& x : values) x = static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f;
  return Upload(values);
}

}  // namespace tessera::bench
