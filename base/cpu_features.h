// The instructions of this processor. Results are the same with any of them; they choose loops.
#pragma once

namespace tessera {

struct CpuFeatures {
  bool avx2 = false;    // AVX2, FMA and F16C, and the system saves their registers
  bool avx512 = false;  // AVX-512 F, BW, DQ and VL
  bool avx512_vbmi = false;
  // Products of bytes.
  bool avx_vnni = false, avx512_vnni = false;
  // AMX tiles, bf16 and int8. A process needs the system's permission too
  // (kernels/cpu/cpu_info.h).
  bool amx = false;
};

// Thread safe.
CpuFeatures DetectCpuFeatures();

}  // namespace tessera
