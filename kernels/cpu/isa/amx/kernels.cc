// The amx tier: bf16 operands with bf16 weights go through tile products, everything else through
// the AVX-512 bodies.
#include "kernels/cpu/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/isa/amx/quant_product.h"
#include "kernels/cpu/isa/amx/tile_product.h"

namespace tessera::cpu {
namespace {

// Intel SDM volume 1, section 18.3: the memory operand of LDTILECFG.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

class HardwareTiles {
 public:
  // The configuration is a thread's own. It is set and released around each kernel (some 100 cycles
  // of thousands), so that no thread carries 8 KiB of tile state through context switches.
  void Configure() {
    const TileConfig config;
    _tile_loadconfig(&config);
  }
  // Tiles 4 and 5 hold rows of `bytes`, 6 and 7 have `rows` rows.
  void Configure(int bytes, int rows) {
    TileConfig config;
    config.bytes_per_row[4] = config.bytes_per_row[5] = static_cast<uint16_t>(bytes);
    config.rows[6] = config.rows[7] = static_cast<uint8_t>(rows);
    _tile_loadconfig(&config);
  }
  void Release() { _tile_release(); }
  // The compilers' intrinsics take the number of a tile as a literal only. AT&T order: the target
  // is last.
  template <int kTile>
  void Load(const void* p, int64_t bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(bytes), "i"(kTile) : "memory");
  }
  template <int kTile>
  void Store(void* p, int64_t bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(bytes), "i"(kTile) : "memory");
  }
  template <int kTile>
  void Zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kC, int kA, int kB>
  void ByteProduct() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
  template <int kC, int kA, int kB>
  void Product() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace

const Kernels* AmxKernels() {
  static const Kernels kernels = [] {
    Kernels table = *Avx512VnniKernels();  // every processor with AMX has VNNI
    table.tier = "amx";
    table.amx_tile = AmxTileBody<HardwareTiles>;
    table.quant.amx_tile = AmxQuantBody<HardwareTiles>;
    return table;
  }();
  return &kernels;
}

}  // namespace tessera::cpu
#else
namespace tessera::cpu {
const Kernels* AmxKernels() { return nullptr; }
}  // namespace tessera::cpu
#endif
