// What this process may use of the CPU. Functions have no state and are thread safe.
#pragma once

#include <string_view>

namespace tessera {

struct CpuFeatures {
  bool avx2 = false;    // AVX2, FMA and F16C, and the system saves their registers
  bool avx512 = false;  // AVX-512 F, BW, DQ and VL
  bool amx = false;     // AMX tiles, bf16 and int8, and the kernel permits their use (arch_prctl)
  // Products of bytes: they choose kernels within a tier, results are the same without them.
  bool avx_vnni = false, avx512_vnni = false;
};

// Asks the kernel for permission to use tile registers, for the whole process, where the CPU has
// them.
CpuFeatures DetectCpuFeatures();

// Cores of a cgroup v2 "quota period" line, or -1 where there is no limit. E.g. "150000 100000"
// -> 1.5.
double ParseCpuMax(std::string_view text);

}  // namespace tessera
