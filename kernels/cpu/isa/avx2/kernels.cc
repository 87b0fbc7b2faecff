// The avx2 tier. Compiled with its instruction set (kernels/CMakeLists.txt); nothing here runs
// unless the machine has it.
#include "kernels/cpu/kernels.h"

#if defined(__x86_64__)
#include "kernels/cpu/isa/ints_avx2.h"
#include "kernels/cpu/isa/quant_table.h"
#include "kernels/cpu/isa/table.h"
#include "kernels/cpu/isa/vec_avx2.h"

namespace tessera::cpu {
namespace {
constexpr Kernels kKernels = VectorKernels<avx2::Vec>("avx2", QuantKernelsOf<avx2::Ints<false>>());
}
const Kernels* Avx2Kernels() { return &kKernels; }
}  // namespace tessera::cpu
#else
namespace tessera::cpu {
const Kernels* Avx2Kernels() { return nullptr; }
}  // namespace tessera::cpu
#endif
