// What the emulated GPU gives the tests and a real one does not: schedules, counters, detectors.
#include "kernels/cuda/runtime.h"
#include "tests/cuda/backend_device.h"
#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {

// The seeds draw problems too: all of them run, in the device's own order.
void ForSchedules(int schedules, const std::function<void(uint64_t)>& body) {
  for (int seed = 0; seed < schedules; ++seed) body(static_cast<uint64_t>(seed));
}
void ForgetCounters() {}
bool Counts() { return false; }
Moved TakeCounters(const std::string& /*kernel*/) { return {}; }

const char* DeviceName() { return "cuda"; }
std::string ExpectedTier() {
  cuda::DeviceProps props;
  EXPECT_TRUE(cuda::OpenDevice(0, props).ok());
  return "sm_" + std::to_string(props.major) + std::to_string(props.minor);
}
void SetOrder(uint64_t /*seed*/) {}
void BeginDevice() {}
void ExpectDeviceAsAtBegin() {}
void ExpectNoDefects() {}
std::optional<uint64_t> CopiedBytes(const std::string& /*kernel*/,
                                    const std::function<void()>& body) {
  body();
  return std::nullopt;
}

}  // namespace tessera::cuda_test
