// device.cuh on a GPU, second half: matrices and numbers.
#pragma once

#include "kernels/cuda/ptx.cuh"

namespace tessera::cuda {

// "Warp Level Matrix Load Instruction: ldmatrix". Lane i gives the address of row i % 8 of 8x8 matrix
// i / 8 (16 bytes, 16-byte aligned; .x2 reads the addresses of lanes 0 to 15). Lane l receives in r[j]
// of matrix j the elements (row l / 4, columns 2 (l % 4) and the next); .trans of its transpose.
#define TESSERA_LDMATRIX_X4(name, modifier)                                                     \
  TESSERA_DEVICE void name(uint32_t (&r)[4], uint32_t address) {                                \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" modifier ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");   \
  }
#define TESSERA_LDMATRIX_X2(name, modifier)                                             \
  TESSERA_DEVICE void name(uint32_t (&r)[2], uint32_t address) {                        \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" modifier ".shared.b16 {%0, %1}, [%2];" \
                 : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");                   \
  }
TESSERA_LDMATRIX_X4(ldmatrix_x4, "")
TESSERA_LDMATRIX_X4(ldmatrix_x4_trans, ".trans")
TESSERA_LDMATRIX_X2(ldmatrix_x2, "")
TESSERA_LDMATRIX_X2(ldmatrix_x2_trans, ".trans")
#undef TESSERA_LDMATRIX_X4
#undef TESSERA_LDMATRIX_X2

// "Matrix Fragments for mma.m16n8k16 with floating point type". With g = lane / 4, t = lane % 4 and two
// 16-bit elements per register, the lower column (A) or row (B) in the lower half:
//   A 16x16, row major   a[0]: row g, cols 2t, 2t+1   a[1]: row g+8   a[2]: row g, cols 2t+8, 2t+9
//                        a[3]: row g+8, cols 2t+8, 2t+9
//   B 16x8, column major b[0]: rows 2t, 2t+1 of col g             b[1]: rows 2t+8, 2t+9 of col g
//   D 16x8, fp32         d[0], d[1]: row g, cols 2t, 2t+1         d[2], d[3]: row g+8
// d += a b.
#define TESSERA_MMA(name, type)                                                                 \
  TESSERA_DEVICE void name(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {        \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                 \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"              \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));           \
  }
template <typename T>
TESSERA_DEVICE void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
TESSERA_MMA(mma_16x8x16<bf16_t>, "bf16")
template <>
TESSERA_MMA(mma_16x8x16<half_t>, "f16")
#undef TESSERA_MMA

// "Data Movement and Conversion Instructions: cvt", round to nearest even
TESSERA_DEVICE float to_float(float x) { return x; }
TESSERA_DEVICE float to_float(bf16_t x) { return __uint_as_float(uint32_t{x.bits} << 16); }
TESSERA_DEVICE float to_float(half_t x) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits));
  return f;
}
template <typename T>
TESSERA_DEVICE T from_float(float f);
template <>
TESSERA_DEVICE float from_float<float>(float f) { return f; }
template <>
TESSERA_DEVICE bf16_t from_float<bf16_t>(float f) {
  bf16_t x;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(x.bits) : "f"(f));
  return x;
}
template <>
TESSERA_DEVICE half_t from_float<half_t>(float f) {
  half_t x;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(x.bits) : "f"(f));
  return x;
}
// "cvt", .bf16x2 and .f16x2: the first source goes to the upper half
template <typename T>
TESSERA_DEVICE uint32_t pack2(float lo, float hi);
template <>
TESSERA_DEVICE uint32_t pack2<bf16_t>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
template <>
TESSERA_DEVICE uint32_t pack2<half_t>(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
template <typename T>
TESSERA_DEVICE float2_t unpack2(uint32_t packed) {
  return {to_float(T{static_cast<uint16_t>(packed)}), to_float(T{static_cast<uint16_t>(packed >> 16)})};
}

// "Floating Point Instructions: ex2", "rcp": .approx, relative error about 2^-22 and 2^-23
TESSERA_DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
TESSERA_DEVICE float fast_rcp(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// "Floating Point Instructions: fma", "add", "mul", "div", "sqrt", .rn: IEEE, never contracted
TESSERA_DEVICE float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }
TESSERA_DEVICE float fadd_rn(float a, float b) { return __fadd_rn(a, b); }
TESSERA_DEVICE float fmul_rn(float a, float b) { return __fmul_rn(a, b); }
TESSERA_DEVICE float fdiv_rn(float a, float b) { return __fdiv_rn(a, b); }
TESSERA_DEVICE float rsqrt_rn(float x) { return __fdiv_rn(1.0f, __fsqrt_rn(x)); }
TESSERA_DEVICE double dadd_rn(double a, double b) { return __dadd_rn(a, b); }
TESSERA_DEVICE double dmul_rn(double a, double b) { return __dmul_rn(a, b); }
TESSERA_DEVICE double ddiv_rn(double a, double b) { return __ddiv_rn(a, b); }
TESSERA_DEVICE double dfma(double a, double b, double c) { return __fma_rn(a, b, c); }
TESSERA_DEVICE float exp_f(float x) { return expf(x); }
TESSERA_DEVICE float erf_f(float x) { return erff(x); }
TESSERA_DEVICE float tanh_f(float x) { return tanhf(x); }
// "Integer Arithmetic Instructions: mul", .hi
TESSERA_DEVICE uint64_t umulhi64(uint64_t a, uint64_t b) { return __umul64hi(a, b); }

}  // namespace tessera::cuda
