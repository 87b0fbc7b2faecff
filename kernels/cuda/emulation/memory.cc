#include "kernels/cuda/emulation/memory.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/cuda/emulation/global_shadow.h"

namespace tessera::cuda::emulation {
namespace {
constexpr std::align_val_t kAlignment{256};  // as cudaMalloc
}  // namespace

GlobalShadow& Allocation::Shadow() const {
  std::call_once(once_, [this] { shadow_ = std::make_shared<GlobalShadow>(bytes); });
  return *shadow_;
}

void Memory::Add(uintptr_t begin, size_t bytes, bool device) {
  auto allocation = std::make_shared<Allocation>();
  allocation->begin = begin;
  allocation->bytes = bytes;
  allocation->device = device;
  live_[begin] = std::move(allocation);
  snapshot_ = nullptr;
}

void* Memory::Allocate(size_t bytes) {
  void* pointer = ::operator new(std::max<size_t>(bytes, 1), kAlignment, std::nothrow);
  if (pointer == nullptr) return nullptr;
  std::memset(pointer, 0xff, bytes);
  const std::lock_guard lock(mutex_);
  Add(reinterpret_cast<uintptr_t>(pointer), bytes, true);
  bytes_allocated_ += bytes;
  return pointer;
}

bool Memory::Free(void* pointer) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == live_.end() || !found->second->device) return false;
    bytes_allocated_ -= found->second->bytes;
    live_.erase(found);
    snapshot_ = nullptr;
  }
  ::operator delete(pointer, kAlignment);
  return true;
}

void Memory::AddHost(void* pointer, size_t bytes) {
  const std::lock_guard lock(mutex_);
  Add(reinterpret_cast<uintptr_t>(pointer), bytes, false);
}

bool Memory::RemoveHost(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == live_.end() || found->second->device) return false;
  live_.erase(found);
  snapshot_ = nullptr;
  return true;
}

bool Memory::IsDevice(const void* pointer, size_t bytes) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const std::lock_guard lock(mutex_);
  auto next = live_.upper_bound(address);
  if (next == live_.begin()) return false;
  const Allocation& allocation = *std::prev(next)->second;
  return allocation.device && allocation.Contains(address, bytes);
}

size_t Memory::bytes_allocated() const {
  const std::lock_guard lock(mutex_);
  return bytes_allocated_;
}

size_t Memory::allocations() const {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(
      std::ranges::count_if(live_, [](const auto& entry) { return entry.second->device; }));
}

Memory::~Memory() {
  for (const auto& [begin, allocation] : live_) {
    if (allocation->device) ::operator delete(reinterpret_cast<void*>(begin), kAlignment);
  }
}

std::shared_ptr<const MemoryMap> Memory::Snapshot() {
  const std::lock_guard lock(mutex_);
  if (snapshot_ == nullptr) {
    auto map = std::make_shared<MemoryMap>();
    map->reserve(live_.size());
    for (const auto& [begin, allocation] : live_) map->push_back(allocation);
    snapshot_ = std::move(map);
  }
  return snapshot_;
}

}  // namespace tessera::cuda::emulation
