#include "kernels/cpu/kernels.h"

namespace tessera::cpu {
const Kernels* Avx2Kernels() { return nullptr; }
}  // namespace tessera::cpu
