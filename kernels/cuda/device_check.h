// What keeps a device from being used, in one line with what was found and what is needed. Both
// runtimes ask here, so that the emulated one shows what a user of a real one would read.
#pragma once

#include <fmt/format.h>

#include "kernels/cuda/runtime.h"

namespace tessera::cuda {

// Error numbers of cudart (driver_types.h).
inline constexpr int kErrorMemoryAllocation = 2;
inline constexpr int kErrorInsufficientDriver = 35;
inline constexpr int kErrorNoDevice = 100;
inline constexpr int kErrorNoKernelImage = 209;

// The oldest architecture that kernels are built for (kernels/cuda/nvidia/CMakeLists.txt).
inline constexpr int kLeastMajor = 8;

// Versions as cudart has them: 13000 is 13.0; 0: none. Within a major version, drivers run what was
// built with a later minor one.
inline LaunchStatus CheckDriver(int driver, int runtime) {
  const auto version = [](int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); };
  if (driver == 0)
    return {kErrorInsufficientDriver,
            fmt::format("no NVIDIA driver was found, one for CUDA {} or later is needed",
                        version(runtime))};
  if (driver / 1000 < runtime / 1000)
    return {kErrorInsufficientDriver,
            fmt::format("the driver is too old: it speaks CUDA {}, this library needs {} or later",
                        version(driver), version(runtime / 1000 * 1000))};
  return {};
}

inline LaunchStatus CheckDeviceCount(int index, int count) {
  if (index < count) return {};
  return {kErrorNoDevice,
          fmt::format("the driver shows {} devices, at least {} of sm_{}0 or later is needed (is "
                      "CUDA_VISIBLE_DEVICES set?)",
                      count, index + 1, kLeastMajor)};
}

inline LaunchStatus CheckArchitecture(const DeviceProps& found) {
  if (found.major >= kLeastMajor) return {};
  return {kErrorNoKernelImage, fmt::format("{} is sm_{}{}, sm_{}0 or later is needed", found.name,
                                           found.major, found.minor, kLeastMajor)};
}

}  // namespace tessera::cuda
