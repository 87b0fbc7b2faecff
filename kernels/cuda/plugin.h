// What the server and the CUDA library agree on.
#pragma once

#include "base/error.h"
#include "kernels/backend.h"
#include "kernels/factory.h"

namespace tessera::cuda {

// Raised with every change of the headers that both sides share; tools/plugin_abi.py holds their
// text to it.
inline constexpr int kPluginVersion = 4;
inline constexpr const char* kPluginSymbol = "TesseraCreateBackend";

// 0: *backend is a new backend, owned by the caller. -1: *error says why not. Else: the library's
// own version, which is not the caller's.
using CreateBackendFunction = int (*)(int abi_version, const BackendOptions* options,
                                      Backend** backend, Error* error);

}  // namespace tessera::cuda
