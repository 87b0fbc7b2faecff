// The one symbol of the shared library (kernels/factory.cc loads it).
#include "kernels/cuda/plugin.h"

#include <utility>

#include "kernels/cuda/backend.h"

extern "C" [[gnu::visibility("default")]] int TesseraCreateBackend(
    int abi_version, const tessera::BackendOptions* options, tessera::Backend** backend,
    tessera::Error* error) {
  if (abi_version != tessera::cuda::kPluginVersion) return tessera::cuda::kPluginVersion;
  auto made = tessera::cuda::CudaBackend::Make(*options);
  if (!made) {
    *error = std::move(made).error();
    return -1;
  }
  *backend = made->release();
  return 0;
}
