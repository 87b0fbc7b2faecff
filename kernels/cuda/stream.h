// What host code passes around without knowing which world runs the kernels.
#pragma once

#include <string>

namespace tessera::cuda {

// A stream of runtime.h: a cudaStream_t on a GPU, a queue of the emulated runtime otherwise.
// nullptr is the default stream.
struct OpaqueStream;
using Stream = OpaqueStream*;

// Outcome of a launch. `code` is the runtime's error number, 0 for success; `message` one line.
// Kernels run later than their launch, so success here says only that the launch was accepted.
struct [[nodiscard]] LaunchStatus {
  int code = 0;
  std::string message;

  bool ok() const { return code == 0; }
};

// Size of a grid, in blocks.
struct Grid {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

}  // namespace tessera::cuda
