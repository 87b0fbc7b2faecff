// The backend's allocator: all memory of the device and all pinned memory of the host comes from
// here, and is accounted for by what it is for (kernels/memory_use.h).
//
// It counts and does not sub-allocate: a tensor is one allocation of the runtime. Tensors live from
// load to exit, so a pool would have nothing to use again; the driver lays small ones together in
// pages of 2 MiB by itself; and the emulator and compute-sanitizer see the exact bounds of each.
// What comes and goes within a step, the scratch of ops, is cut off an Arena that is made at start.
// So a device that serves calls neither cudaMalloc, which may wait for all its streams, nor
// cudaFree, which does (tests/cuda/steady_state_test.cc).
//
// Thread safe. Storages may outlive the object that made them.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/runtime.h"
#include "kernels/memory_use.h"
#include "kernels/tensor.h"

namespace tessera::cuda {

class DeviceAllocator {
 public:
  DeviceAllocator() : ledger_(std::make_shared<Ledger>()) {}

  // Memory of the device, 256-byte aligned, content undefined. RESOURCE_EXHAUSTED, with `what`
  // first: bytes wanted, free and there, and what has the rest.
  Result<Storage> Device(MemoryUse use, size_t bytes, Literal what) const;
  // Of the host, which asynchronous copies read and write.
  Result<Storage> Pinned(MemoryUse use, size_t bytes, Literal what) const;

  // Memory of the device that the driver takes for us: graphs.
  void Took(MemoryUse use, size_t bytes) const { ledger_->Add(use, false, bytes); }
  void GaveBack(MemoryUse use, size_t bytes) const { ledger_->Remove(use, false, bytes); }
  // Is told, and kept by whoever calls Took().
  void SetLimit(MemoryUse use, size_t bytes) const;

  MemoryAccount Of(MemoryUse use, bool pinned = false) const;
  // All that were ever in use or have a limit: the device's first, each in the order of MemoryUse.
  std::vector<MemoryAccount> Accounts() const;

 private:
  struct Ledger {
    mutable std::mutex mutex;
    std::array<MemoryAccount, 2 * kMemoryUses> accounts{};  // guarded by mutex

    void Add(MemoryUse use, bool pinned, size_t bytes);
    void Remove(MemoryUse use, bool pinned, size_t bytes);
  };
  static size_t IndexOf(MemoryUse use, bool pinned) {
    return static_cast<size_t>(use) + (pinned ? kMemoryUses : 0);
  }
  Storage Keep(void* memory, MemoryUse use, bool pinned, size_t bytes, void (*free)(void*)) const;

  const std::shared_ptr<Ledger> ledger_;  // of every Storage too
};

// Scratch: memory of the device that is cut off piece by piece and all given back at once. One
// thread at a time.
class Arena {
 public:
  Arena() = default;
  ~Arena() { Reset(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Room for pieces of `bytes` in all, each rounded up to 256. Where there is less, what is there
  // is freed first, which waits for the device.
  Result<void> Reserve(const DeviceAllocator& allocator, size_t bytes);
  size_t bytes() const { return bytes_; }
  // The pieces may still be used by what was queued before.
  void Reset();
  // Device memory, 256-byte aligned, content undefined, in emulation of exactly `bytes`. More than
  // was reserved is a programmer error of `op`.
  LaunchStatus Take(const char* op, size_t bytes, void** piece);

 private:
  Storage storage_;
  size_t bytes_ = 0, used_ = 0;
  std::vector<void*> pieces_;
};

}  // namespace tessera::cuda
