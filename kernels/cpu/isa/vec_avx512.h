// 16 fp32 lanes in one register. Included by isa/avx512 and isa/amx only.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tessera::cpu::avx512 {

struct Vec {
  __m512 v;

  static constexpr int kRegisters = 32;  // vectors of 16 lanes that fit the register file

  static Vec Zero() { return {_mm512_setzero_ps()}; }
  static Vec Set1(float x) { return {_mm512_set1_ps(x)}; }
  static Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec LoadPart(const float* p, int n) { return {_mm512_maskz_loadu_ps(First(n), p)}; }
  void Store(float* p) const { _mm512_storeu_ps(p, v); }
  void StorePart(float* p, int n) const { _mm512_mask_storeu_ps(p, First(n), v); }

  // Lane i from p[i * stride].
  static Vec LoadStrided(const float* p, int32_t stride) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return {_mm512_i32gather_ps(_mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride)), p, 4)};
  }

  static Vec LoadF16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec LoadBF16(const uint16_t* p) {
    return WidenBF16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec LoadF16Part(const uint16_t* p, int n) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(First(n), p))};
  }
  static Vec LoadBF16Part(const uint16_t* p, int n) {
    return WidenBF16(_mm256_maskz_loadu_epi16(First(n), p));
  }
  static Vec LoadI8(const int8_t* p) {
    return WidenI8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec LoadI8Part(const int8_t* p, int n) {
    return WidenI8(_mm_maskz_loadu_epi8(First(n), p));
  }

  // a * b + c, rounded once.
  static Vec Fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  // The second operand where either is NaN.
  static Vec Max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec Min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
  // Lane i is a where bit i is set, else b.
  static Vec Select(uint32_t bits, Vec a, Vec b) {
    return {_mm512_mask_blend_ps(static_cast<__mmask16>(bits), b.v, a.v)};
  }
  static Vec SelectPositive(Vec x, Vec a, Vec b) {
    return {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_GT_OQ), b.v, a.v)};
  }
  static Vec Abs(Vec x) { return {_mm512_abs_ps(x.v)}; }
  static Vec Round(Vec x) {
    return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  // 2^n for whole n in -127 (0) .. 128 (inf).
  static Vec Pow2(Vec n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
  }

  // Lanes are added in halves: (i, i + 8), (i, i + 4), (i, i + 2), (i, i + 1).
  float Sum() const {
    return Sum8(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
  }
  float MaxLane() const { return _mm512_reduce_max_ps(v); }

 private:
  static __mmask16 First(int n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Vec WidenBF16(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  static Vec WidenI8(__m128i bytes) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))}; }
  static float Sum8(__m256 x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
  }
};

}  // namespace tessera::cpu::avx512
