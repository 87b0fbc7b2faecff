// 16 fp32 lanes in two registers. Included by isa/avx2 only. Every operation gives the bits of
// vec_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace tessera::cpu::avx2 {

struct Vec {
  __m256 lo, hi;

  static constexpr int kRegisters = 8;  // vectors of 16 lanes that fit the register file

  static Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vec Set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Vec Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Vec LoadPart(const float* p, int n) {
    return {_mm256_maskload_ps(p, First(n)), _mm256_maskload_ps(p + 8, First(n - 8))};
  }
  void Store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }
  void StorePart(float* p, int n) const {
    _mm256_maskstore_ps(p, First(n), lo);
    _mm256_maskstore_ps(p + 8, First(n - 8), hi);
  }

  static Vec LoadStrided(const float* p, int32_t stride) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i index = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(stride));
    return {_mm256_i32gather_ps(p, index, 4),
            _mm256_i32gather_ps(p + int64_t{8} * stride, index, 4)};
  }

  static Vec LoadF16(const uint16_t* p) {
    return {_mm256_cvtph_ps(Half(p)), _mm256_cvtph_ps(Half(p + 8))};
  }
  static Vec LoadBF16(const uint16_t* p) { return {WidenBF16(Half(p)), WidenBF16(Half(p + 8))}; }
  // There is no masked load of 16-bit lanes: a copy, for the last lanes of odd head dims only.
  static Vec LoadF16Part(const uint16_t* p, int n) { return LoadF16(Copy(p, n).bits); }
  static Vec LoadBF16Part(const uint16_t* p, int n) { return LoadBF16(Copy(p, n).bits); }
  static Vec LoadI8(const int8_t* p) { return {WidenI8(p), WidenI8(p + 8)}; }
  static Vec LoadI8Part(const int8_t* p, int n) {
    int8_t bytes[16] = {};
    __builtin_memcpy(bytes, p, static_cast<size_t>(n));
    return LoadI8(bytes);
  }

  static Vec Fma(Vec a, Vec b, Vec c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  friend Vec operator+(Vec a, Vec b) {
    return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
  }
  friend Vec operator-(Vec a, Vec b) {
    return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
  }
  friend Vec operator*(Vec a, Vec b) {
    return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
  }
  friend Vec operator/(Vec a, Vec b) {
    return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
  }
  static Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
  static Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
  static Vec Select(uint32_t bits, Vec a, Vec b) {
    return {_mm256_blendv_ps(b.lo, a.lo, Mask(bits)),
            _mm256_blendv_ps(b.hi, a.hi, Mask(bits >> 8))};
  }
  static Vec SelectPositive(Vec x, Vec a, Vec b) {
    const __m256 zero = _mm256_setzero_ps();
    return {_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, zero, _CMP_GT_OQ)),
            _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, zero, _CMP_GT_OQ))};
  }
  static Vec Abs(Vec x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.lo), _mm256_andnot_ps(sign, x.hi)};
  }
  static Vec Round(Vec x) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.lo, kNearest), _mm256_round_ps(x.hi, kNearest)};
  }
  static Vec Pow2(Vec n) { return {Pow2(n.lo), Pow2(n.hi)}; }

  float Sum() const {
    const __m256 x = _mm256_add_ps(lo, hi);
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
  }
  float MaxLane() const {
    const __m256 x = _mm256_max_ps(lo, hi);
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
  }

 private:
  struct Bits16 {
    uint16_t bits[16];
  };
  static Bits16 Copy(const uint16_t* p, int n) {
    Bits16 copy{};
    for (int i = 0; i < n; ++i) copy.bits[i] = p[i];
    return copy;
  }
  static __m128i Half(const uint16_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static __m256 WidenBF16(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static __m256 WidenI8(const int8_t* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static __m256 Pow2(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  // All ones in lanes i < n.
  static __m256i First(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  // All ones in lanes whose bit is set.
  static __m256 Mask(uint32_t bits) {
    const __m256i select = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(
        _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), select), select));
  }
};

}  // namespace tessera::cpu::avx2
