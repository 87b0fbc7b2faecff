// The CUDA backend's shared library, found beside the executable and loaded when it is asked for,
// so that the server itself depends on nothing of CUDA.
#pragma once

#include <memory>

#include "base/error.h"
#include "kernels/backend.h"
#include "kernels/factory.h"

namespace tessera {

// options.device is "cuda" or "cuda-emulated". The library stays loaded for the life of the
// process. Errors say what is missing: library, its version, driver, device, memory.
Result<std::unique_ptr<Backend>> LoadCudaBackend(const BackendOptions& options);

}  // namespace tessera
