// The avx2 tier on processors with AVX-VNNI: int8 and int4 by VPDPBUSD, the same bits as without.
#include "kernels/cpu/kernels.h"

#if defined(__x86_64__)
#include "kernels/cpu/isa/ints_avx2.h"
#include "kernels/cpu/isa/quant_table.h"

namespace tessera::cpu {
const Kernels* Avx2VnniKernels() {
  static const Kernels kernels = [] {
    Kernels table = *Avx2Kernels();
    table.quant = QuantKernelsOf<avx2::Ints<true>>();
    return table;
  }();
  return &kernels;
}
}  // namespace tessera::cpu
#else
namespace tessera::cpu {
const Kernels* Avx2VnniKernels() { return nullptr; }
}  // namespace tessera::cpu
#endif
