#include "kernels/cpu/kernels.h"

namespace tessera::cpu {
const Kernels* AmxKernels() { return nullptr; }
}  // namespace tessera::cpu
