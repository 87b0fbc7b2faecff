// Memory of the CPU backend. Thread safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "kernels/tensor.h"

namespace tessera {

// 64-byte aligned; from 4 MiB on aligned to, and advised to use, huge pages: a decode step streams
// all weights, and a TLB miss every 4 KiB costs a tenth of the DRAM rate. Content is undefined
// unless `zeroed`. RESOURCE_EXHAUSTED with the size if there is none.
Result<Storage> AllocateAligned(size_t bytes, bool zeroed);

// Scratch that only grows. Get() checks that what an op asks for was reserved.
class Scratch {
 public:
  Result<void> Reserve(size_t bytes);
  size_t bytes() const { return bytes_; }
  template <typename T>
  T* Get(const char* op, size_t count) {
    TESSERA_CHECK(count * sizeof(T) <= bytes_,
                  "{}: scratch: expected Reserve() for {} bytes, got {}", op, count * sizeof(T),
                  bytes_);
    return static_cast<T*>(storage_.get());
  }

 private:
  Storage storage_;
  size_t bytes_ = 0;
};

}  // namespace tessera
