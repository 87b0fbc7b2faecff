#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tessera {

#if defined(__x86_64__)
CpuFeatures DetectCpuFeatures() {
  CpuFeatures features;
  features.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
    features.avx2 = features.avx2 && (ecx & (1u << 29)) != 0;  // F16C
  features.avx512 = features.avx2 && __builtin_cpu_supports("avx512f") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
  if (features.avx512 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    constexpr unsigned kAmx = 1u << 22 | 1u << 24 | 1u << 25;  // bf16, tiles, int8
    features.avx512_vbmi = (ecx & (1u << 1)) != 0;
    features.avx512_vnni = (ecx & (1u << 11)) != 0;
    features.amx = features.avx512_vnni && (edx & kAmx) == kAmx;
  }
  if (features.avx2 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
    features.avx_vnni = (eax & (1u << 4)) != 0;
  return features;
}
#else
CpuFeatures DetectCpuFeatures() { return {}; }
#endif

}  // namespace tessera
