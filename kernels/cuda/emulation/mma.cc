// mma.sync.m16n8k16 for a whole warp. Fragment layout: ptx_math.cuh.
#include <cstring>

#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/numbers.h"
#include "kernels/cuda/emulation/warp_ops.h"

#if defined(__x86_64__)
#define TESSERA_AVX2 __attribute__((target("avx2")))
#else
#define TESSERA_AVX2
#endif

namespace tessera::cuda::emulation {
namespace {

struct Fragments {
  float a[16][16];  // [row][k]
  float b[16][8];   // [k][column]
  float d[16][8];
};

template <bool kHalf>
inline float Widen(uint16_t bits) {
  return kHalf ? HalfToFloat(bits) : Bf16ToFloat(bits);
}

template <bool kHalf>
void Gather(const std::array<Operands, kLanes>& operands, Fragments& f) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t g = lane / 4;
    const uint32_t t = lane % 4;
    const auto* d = static_cast<const float*>(operands[lane][0]);
    const auto* a = static_cast<const uint32_t*>(operands[lane][1]);
    const auto* b = static_cast<const uint32_t*>(operands[lane][2]);
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t row = g + 8 * (i % 2);
      const uint32_t k = 2 * t + 8 * (i / 2);
      f.a[row][k] = Widen<kHalf>(static_cast<uint16_t>(a[i]));
      f.a[row][k + 1] = Widen<kHalf>(static_cast<uint16_t>(a[i] >> 16));
      f.d[g + 8 * (i / 2)][2 * t + i % 2] = d[i];
    }
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t k = 2 * t + 8 * i;
      f.b[k][g] = Widen<kHalf>(static_cast<uint16_t>(b[i]));
      f.b[k + 1][g] = Widen<kHalf>(static_cast<uint16_t>(b[i] >> 16));
    }
  }
}

void Scatter(const Fragments& f, const std::array<Operands, kLanes>& operands) {
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    auto* d = static_cast<float*>(operands[lane][0]);
    for (uint32_t i = 0; i < 4; ++i) d[i] = f.d[lane / 4 + 8 * (i / 2)][lane % 4 * 2 + i % 2];
  }
}

// Products of two 16-bit floats are exact in fp32; sums go by ascending k. What a tensor core does
// in between is not specified.
using Row [[gnu::vector_size(32)]] = float;

TESSERA_AVX2 void MultiplyAvx2(Fragments& f) {
  for (uint32_t row = 0; row < 16; ++row) {
    Row sum;
    std::memcpy(&sum, f.d[row], sizeof(sum));
    for (uint32_t k = 0; k < 16; ++k) {
      Row b;
      std::memcpy(&b, f.b[k], sizeof(b));
      sum += b * f.a[row][k];
    }
    std::memcpy(f.d[row], &sum, sizeof(sum));
  }
}

void MultiplyPlain(Fragments& f) {
  for (uint32_t row = 0; row < 16; ++row) {
    for (uint32_t k = 0; k < 16; ++k) {
      for (uint32_t n = 0; n < 8; ++n) f.d[row][n] += f.a[row][k] * f.b[k][n];
    }
  }
}

bool HasAvx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

}  // namespace

void Mma16x8x16(float* d, const uint32_t* a, const uint32_t* b, bool half, Site site) {
  Thread& me = *current_thread;
  if (!me.block->Meet(me, Meeting::kMma, site,
                      {d, const_cast<uint32_t*>(a), const_cast<uint32_t*>(b)})) {
    return;
  }
  static const bool has_avx2 = HasAvx2();
  Fragments f;
  if (half) {
    Gather<true>(me.warp->operands, f);
  } else {
    Gather<false>(me.warp->operands, f);
  }
  if (has_avx2) {
    MultiplyAvx2(f);
  } else {
    MultiplyPlain(f);
  }
  Scatter(f, me.warp->operands);
  if (Counters* counters = me.block->CountersAt(site, Name(Meeting::kMma))) {
    counters->matrix_flops += 2 * 16 * 8 * 16;
  }
  me.block->Release(me);
}

}  // namespace tessera::cuda::emulation
