// Device memory with its copies, through runtime.h: the same on a GPU and emulated.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace tessera::cuda {

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : count_(values.size()) {
    Expect(Allocate(bytes(), &device_));
    Expect(AllocatePinned(bytes(), &pinned_));
    if (count_ == 0) return;
    std::memcpy(pinned_, values.data(), bytes());
    Expect(CopyToDeviceAsync(device_, pinned_, bytes(), nullptr));
    Expect(Synchronize(nullptr));  // Read() uses the same pinned bytes
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
    Free(device_);
    FreePinned(pinned_);
  }

  T* data() { return static_cast<T*>(device_); }

  // Waits for all that was queued.
  std::vector<T> Read() {
    Expect(CopyToHostAsync(pinned_, device_, bytes(), nullptr));
    Expect(Synchronize(nullptr));
    std::vector<T> values(count_);
    std::memcpy(values.data(), pinned_, bytes());
    return values;
  }

 private:
  static void Expect(const LaunchStatus& status) { EXPECT_EQ(status.code, 0) << status.message; }
  size_t bytes() const { return count_ * sizeof(T); }

  size_t count_;
  void* device_ = nullptr;
  void* pinned_ = nullptr;
};

}  // namespace tessera::cuda
