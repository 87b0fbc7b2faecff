// Device memory of one case of the benchmark, freed with it.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace tessera::bench {

// Not thread safe. Without memory, status() says so and pointers are null.
class Memory {
 public:
  explicit Memory(cuda::Stream stream) : stream_(stream) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  const cuda::LaunchStatus& status() const { return status_; }
  // `bytes` of bf16 numbers in [-1, 1), always the same: zeros would let the chip clock higher.
  template <typename T = void>
  T* Numbers(int64_t bytes) {
    return static_cast<T*>(Fill(bytes, false));
  }
  template <typename T = void>
  T* Zeros(int64_t bytes) {
    return static_cast<T*>(Fill(bytes, true));
  }
  float* Floats(int64_t count);  // fp32 in [-1, 1)
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    return static_cast<T*>(Copy(values.data(), static_cast<int64_t>(values.size() * sizeof(T))));
  }

 private:
  void* Fill(int64_t bytes, bool zero);
  void* Copy(const void* from, int64_t bytes);
  void* Allocate(int64_t bytes);
  void Check(cuda::LaunchStatus status) {
    if (status_.ok()) status_ = std::move(status);
  }

  const cuda::Stream stream_;
  cuda::LaunchStatus status_;
  std::vector<void*> blocks_;
};

}  // namespace tessera::bench
