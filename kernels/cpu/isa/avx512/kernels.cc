#include "kernels/cpu/kernels.h"

namespace tessera::cpu {
const Kernels* Avx512Kernels() { return nullptr; }
}  // namespace tessera::cpu
