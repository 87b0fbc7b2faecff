// main() of the tests that need a GPU. Without one: a line that says what is missing, and exit code
// 77, by which CTest knows a test that did not run.
#include <gtest/gtest.h>

#include <cstdio>

#include "kernels/cuda/runtime.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  tessera::cuda::DeviceProps props;
  if (const auto status = tessera::cuda::OpenDevice(0, props); !status.ok()) {
    std::printf("not run, no CUDA device can be used: %s\n", status.message.c_str());
    return 77;
  }
  std::printf("on %s, sm_%d%d, driver for CUDA %d.%d\n", props.name.c_str(), props.major,
              props.minor, props.driver_version / 1000, props.driver_version % 1000 / 10);
  return RUN_ALL_TESTS();
}
