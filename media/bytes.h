// Bytes of pixels that are all written before any is read: a vector that does not fill them with
// zeros first.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace tessera {

// Leaves values that are given no value as the memory is.
template <typename T>
struct UninitializedAllocator : std::allocator<T> {
  template <typename Other>
  struct rebind {
    using other = UninitializedAllocator<Other>;
  };
  template <typename Value, typename... Args>
  void construct(Value* at, Args&&... args) {
    if constexpr (sizeof...(Args) == 0) {
      ::new (static_cast<void*>(at)) Value;
    } else {
      ::new (static_cast<void*>(at)) Value(std::forward<Args>(args)...);
    }
  }
};

using PixelBytes = std::vector<uint8_t, UninitializedAllocator<uint8_t>>;

}  // namespace tessera
