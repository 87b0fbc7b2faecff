#include "tests/ops/amx_emulated.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/isa/amx/quant_product.h"
#include "kernels/cpu/isa/amx/tile_product.h"

namespace tessera::ops_test {
namespace {

// Subnormal operands and results count as zero.
float Flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0f * x : x; }

// Written after the operation section of TDPBF16PS in the Intel SDM: even and odd k have a sum each
// within the tile, the two are added, then added to the accumulator. A product of two bf16 is exact
// in fp32, so multiply-and-add equals FMA.
class SoftwareTiles {
 public:
  SoftwareTiles() { std::memset(tiles_, 0xff, sizeof tiles_); }  // NaN: what is not loaded shows
  void Configure() { Configure(64, 16); }
  void Configure(int bytes, int rows) {
    configured_ = true;
    for (int tile = 0; tile < 8; ++tile) {
      bytes_[tile] = tile == 4 || tile == 5 ? bytes : 64;
      rows_[tile] = tile >= 6 ? rows : 16;
    }
  }
  void Release() { configured_ = false; }
  template <int kTile>
  void Load(const void* p, int64_t bytes) {
    Check();
    for (int row = 0; row < rows_[kTile]; ++row)
      std::memcpy(tiles_[kTile][row], static_cast<const char*>(p) + row * bytes,
                  static_cast<size_t>(bytes_[kTile]));
  }
  template <int kTile>
  void Store(void* p, int64_t bytes) {
    Check();
    for (int row = 0; row < 16; ++row)
      std::memcpy(static_cast<char*>(p) + row * bytes, tiles_[kTile][row], 64);
  }
  template <int kC, int kA, int kB>
  void Product() {
    Check();
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 16; ++n) {
        float sums[2] = {0.0f, 0.0f};
        for (int k = 0; k < 16; ++k)
          for (int half = 0; half < 2; ++half) {
            const float a = Flush(BF16ToFloat(Half(kA, m, 2 * k + half)));
            const float b = Flush(BF16ToFloat(Half(kB, k, 2 * n + half)));
            sums[half] = Flush(sums[half] + Flush(a * b));
          }
        float c;
        std::memcpy(&c, tiles_[kC][m] + n * 4, 4);
        c = Flush(Flush(c) + Flush(sums[0] + sums[1]));
        std::memcpy(tiles_[kC][m] + n * 4, &c, 4);
      }
  }

  template <int kTile>
  void Zero() {
    Check();
    std::memset(tiles_[kTile], 0, sizeof tiles_[kTile]);
  }
  // After TDPBSUD: 4 products of signed and unsigned bytes are added to an int32.
  template <int kC, int kA, int kB>
  void ByteProduct() {
    Check();
    TESSERA_CHECK(bytes_[kA] == rows_[kB] * 4, "tiles of {} bytes and {} rows", bytes_[kA],
                  rows_[kB]);
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 16; ++n) {
        int32_t c;
        std::memcpy(&c, tiles_[kC][m] + n * 4, 4);
        for (int k = 0; k < bytes_[kA]; ++k)
          c += static_cast<int8_t>(tiles_[kA][m][k]) * tiles_[kB][k / 4][n * 4 + k % 4];
        std::memcpy(tiles_[kC][m] + n * 4, &c, 4);
      }
  }

 private:
  void Check() const { TESSERA_CHECK(configured_, "tile used before LDTILECFG"); }
  uint16_t Half(int tile, int row, int column) const {
    uint16_t bits;
    std::memcpy(&bits, tiles_[tile][row] + column * 2, 2);
    return bits;
  }

  unsigned char tiles_[8][16][64];
  bool configured_ = false;
  int bytes_[8] = {}, rows_[8] = {};
};

}  // namespace

const cpu::Kernels& AmxEmulatedKernels() {
  static const cpu::Kernels kernels = [] {
    const CpuFeatures features = UsableCpuFeatures();
    cpu::Kernels table = features.avx512 ? *cpu::Avx512Kernels()
                         : features.avx2 ? *cpu::Avx2Kernels()
                                         : *cpu::ReferenceKernels();
    table.tier = "amx-emulated";
    table.amx_tile = cpu::AmxTileBody<SoftwareTiles>;
    table.quant.amx_tile = cpu::AmxQuantBody<SoftwareTiles>;
    return table;
  }();
  return kernels;
}

}  // namespace tessera::ops_test
