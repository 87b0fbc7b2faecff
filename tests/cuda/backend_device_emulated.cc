#include <gtest/gtest.h>

#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/emulation/runtime_controls.h"
#include "tests/cuda/backend_device.h"

namespace tessera::cuda_test {
namespace {

namespace emulation = cuda::emulation;

emulation::Alive& AtBegin() {
  static emulation::Alive alive;
  return alive;
}

}  // namespace

const char* DeviceName() { return "cuda-emulated"; }
std::string ExpectedTier() { return "sm_80"; }
void SetOrder(uint64_t seed) { emulation::SetRuntimeSeed(seed); }

void BeginDevice() {
  emulation::ClearFailures();
  emulation::SetRuntimeSeed(3);
  AtBegin() = emulation::CountAlive();
  (void)emulation::machine().TakeReport();
}

void ExpectDeviceAsAtBegin() {
  emulation::SetDeviceMemory(0);
  EXPECT_EQ(emulation::CountAlive(), AtBegin());
}

std::optional<uint64_t> CopiedBytes(const std::string& kernel, const std::function<void()>& body) {
  emulation::Machine& machine = emulation::machine();
  const emulation::Options before = machine.options();
  machine.set_options({.checked = true});
  (void)machine.TakeReport();
  body();
  const emulation::Report report = machine.TakeReport();
  machine.set_options(before);
  EXPECT_TRUE(report.defects.empty());
  return report.Find(kernel).counters.copy_bytes;
}

void ExpectNoDefects() { EXPECT_TRUE(emulation::machine().TakeReport().defects.empty()); }

}  // namespace tessera::cuda_test
