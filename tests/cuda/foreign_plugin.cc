// A library that is like the CUDA backend's, from another version of Tessera.
#include "kernels/cuda/plugin.h"

extern "C" [[gnu::visibility("default")]] int TesseraCreateBackend(
    int /*abi_version*/, const tessera::BackendOptions* /*options*/, tessera::Backend** /*backend*/,
    tessera::Error* /*error*/) {
  return tessera::cuda::kPluginVersion + 41;
}
