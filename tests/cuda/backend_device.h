// What the tests of the backend ask of the device under them beside runtime.h. On the emulated GPU
// (backend_device_emulated.cc): orders of execution, what is left alive, what the detectors found.
// A real one (nvidia/support_nvidia.cc) has one order and tells nothing of the kind.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace tessera::cuda_test {

const char* DeviceName();      // of --device
std::string ExpectedTier();    // "sm_80", or what the device says it is
void SetOrder(uint64_t seed);  // of what streams leave open
void BeginDevice();            // no failures, no findings; remembers what is alive
void ExpectDeviceAsAtBegin();  // all that was made since BeginDevice() is gone
void ExpectNoDefects();        // since the last call
// Runs `body` with every detector on: the bytes that cp.async moved in kernels of this name.
// Nothing on a real GPU, which does not say.
std::optional<uint64_t> CopiedBytes(const std::string& kernel, const std::function<void()>& body);

}  // namespace tessera::cuda_test
