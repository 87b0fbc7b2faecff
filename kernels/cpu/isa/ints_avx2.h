// 16 int32 lanes, or 64 bytes, in two registers; every operation gives the bits of ints_avx512.h.
// Included by isa/avx2 only. kVnni: the processor has AVX-VNNI.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/isa/vec_avx2.h"

namespace tessera::cpu::avx2 {

template <bool kVnni>
struct Ints {
  using Float = Vec;
  static constexpr int kRegisters = 8;
  static constexpr int kLineRegisters = kVnni ? 1 : 2;

  __m256i lo, hi;

  static Ints Zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Ints Load(const void* p) {
    const auto* from = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
  }
  void Store(void* p) const {
    auto* to = static_cast<__m256i*>(p);
    _mm256_storeu_si256(to, lo);
    _mm256_storeu_si256(to + 1, hi);
  }
  static Ints Broadcast(const void* p) {
    int32_t quad;
    std::memcpy(&quad, p, 4);
    return {_mm256_set1_epi32(quad), _mm256_set1_epi32(quad)};
  }
  static Ints Bits(Vec x) { return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)}; }
  static Ints FromFloat(Vec x) { return {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}; }
  Vec ToFloat() const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
  Vec AsFloat() const { return {_mm256_castsi256_ps(lo), _mm256_castsi256_ps(hi)}; }
  static Ints Max(Ints a, Ints b) {
    return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)};
  }
  friend Ints operator+(Ints a, Ints b) {
    return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
  }
  int32_t Sum() const {
    int32_t lanes[16], sum = 0;
    Store(lanes);
    for (int32_t lane : lanes) sum += lane;
    return sum;
  }
  int32_t MaxLane() const {
    int32_t lanes[16], most = INT32_MIN;
    Store(lanes);
    for (int32_t lane : lanes) most = lane > most ? lane : most;
    return most;
  }

  Ints LowHalves() const {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(lo, mask), _mm256_and_si256(hi, mask)};
  }
  Ints HighHalves() const {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(_mm256_srli_epi16(lo, 4), mask),
            _mm256_and_si256(_mm256_srli_epi16(hi, 4), mask)};
  }
  void StoreQuads(int8_t* p, int64_t stride) const {
    // Packing works within halves of a register: 0-3 8-11 | 4-7 12-15.
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(lo, hi), _mm256_setzero_si256());
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    const int32_t quads[4] = {_mm_cvtsi128_si32(low), _mm_cvtsi128_si32(high),
                              _mm_extract_epi32(low, 1), _mm_extract_epi32(high, 1)};
    for (int i = 0; i < 4; ++i) std::memcpy(p + i * stride, &quads[i], 4);
  }
  static Ints Bytes(Ints a, Ints b, Ints c, Ints d) {
    return {Bytes(a.lo, b.lo, c.lo, d.lo), Bytes(a.hi, b.hi, c.hi, d.hi)};
  }
  static Ints Halves(Ints low, Ints high) {
    return {_mm256_or_si256(low.lo, _mm256_slli_epi16(high.lo, 4)),
            _mm256_or_si256(low.hi, _mm256_slli_epi16(high.hi, 4))};
  }
  void Opaque() { asm("" : "+x"(lo), "+x"(hi)); }

  struct Line {
    Ints even, odd;
  };
  struct Quad {
    __m256i even, odd;
  };
  static Line Split(Ints bytes) {
    if constexpr (kVnni) {
      return {bytes, bytes};
    } else {
      const __m256i mask = _mm256_set1_epi16(255);
      return {{_mm256_and_si256(bytes.lo, mask), _mm256_and_si256(bytes.hi, mask)},
              {_mm256_srli_epi16(bytes.lo, 8), _mm256_srli_epi16(bytes.hi, 8)}};
    }
  }
  static Quad Operand(const int8_t* quad) {
    const __m256i q = Broadcast(quad).lo;
    if constexpr (kVnni) {
      return {q, q};
    } else {
      return {_mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8), _mm256_srai_epi16(q, 8)};
    }
  }
  static Ints Dot(Ints sums, const Line& line, const Quad& q) {
    return {Dot(sums.lo, line.even.lo, line.odd.lo, q), Dot(sums.hi, line.even.hi, line.odd.hi, q)};
  }
  static Ints DotSmall(Ints sums, Ints line, Ints operand) {
    return {DotSmall(sums.lo, line.lo, operand.lo), DotSmall(sums.hi, line.hi, operand.hi)};
  }

 private:
  static __m256i Bytes(__m256i a, __m256i b, __m256i c, __m256i d) {
    return _mm256_or_si256(_mm256_or_si256(a, _mm256_slli_epi32(b, 8)),
                           _mm256_or_si256(_mm256_slli_epi32(c, 16), _mm256_slli_epi32(d, 24)));
  }
  static __m256i Dot(__m256i sums, __m256i even, __m256i odd, const Quad& q) {
    if constexpr (kVnni) {
      return Dpbusd(sums, even, q.even);
    } else {
      return _mm256_add_epi32(_mm256_add_epi32(sums, _mm256_madd_epi16(even, q.even)),
                              _mm256_madd_epi16(odd, q.odd));
    }
  }
  static __m256i DotSmall(__m256i sums, __m256i line, __m256i q) {
    if constexpr (kVnni) {
      return Dpbusd(sums, line, q);
    } else {
      return _mm256_add_epi32(
          sums, _mm256_madd_epi16(_mm256_maddubs_epi16(line, q), _mm256_set1_epi16(1)));
    }
  }
  static __m256i Dpbusd(__m256i sums, __m256i line, __m256i q) {
    // By hand: around the intrinsic g++ 12 copies each accumulator twice and runs out of registers.
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(line), "x"(q));
    return sums;
  }
};

}  // namespace tessera::cpu::avx2
