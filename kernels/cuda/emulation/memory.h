// What an emulated kernel may touch: every live device allocation, at its exact size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace tessera::cuda::emulation {

class GlobalShadow;

struct Allocation {
  uintptr_t begin = 0;
  size_t bytes = 0;
  bool device = true;  // false: host memory that kernels may reach

  // Made at the first checked access; thread safe.
  GlobalShadow& Shadow() const;

  bool Contains(uintptr_t address, size_t count) const {
    return address >= begin && count <= bytes && address - begin <= bytes - count;
  }

 private:
  mutable std::once_flag once_;
  mutable std::shared_ptr<GlobalShadow> shadow_;
};

// The allocations as one launch sees them, ordered by address. Immutable.
using MemoryMap = std::vector<std::shared_ptr<Allocation>>;

// The registry. Thread safe.
class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Device memory of exactly `bytes` (256-byte aligned), filled with 0xff: what nobody wrote is
  // NaN. nullptr where the host has none.
  void* Allocate(size_t bytes);
  // False where `pointer` is not a live allocation's begin: nothing is freed then.
  bool Free(void* pointer);

  // Host memory that kernels may reach (pinned memory), owned by the caller.
  void AddHost(void* pointer, size_t bytes);
  bool RemoveHost(void* pointer);

  bool IsDevice(const void* pointer,
                size_t bytes) const;  // wholly inside one live device allocation
  size_t bytes_allocated() const;
  size_t allocations() const;

  std::shared_ptr<const MemoryMap> Snapshot();

 private:
  void Add(uintptr_t begin, size_t bytes, bool device);

  mutable std::mutex mutex_;
  std::map<uintptr_t, std::shared_ptr<Allocation>> live_;
  std::shared_ptr<const MemoryMap> snapshot_;  // nullptr: out of date
  size_t bytes_allocated_ = 0;
};

}  // namespace tessera::cuda::emulation
