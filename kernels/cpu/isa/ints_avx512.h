// 16 int32 lanes, or 64 bytes, in one register, for the products of bytes. Included by isa/avx512
// and isa/amx only. With kVnni a product is one VPDPBUSD; without, 16-bit products of the even and
// the odd bytes, which cannot saturate as VPMADDUBSW could.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/isa/vec_avx512.h"

namespace tessera::cpu::avx512 {

template <bool kVnni>
struct Ints {
  using Float = Vec;
  static constexpr int kRegisters = 32;
  static constexpr int kLineRegisters = kVnni ? 1 : 2;

  __m512i v;

  static Ints Zero() { return {_mm512_setzero_si512()}; }
  static Ints Load(const void* p) { return {_mm512_loadu_si512(p)}; }
  void Store(void* p) const { _mm512_storeu_si512(p, v); }
  // 4 bytes to every lane.
  static Ints Broadcast(const void* p) {
    int32_t quad;
    std::memcpy(&quad, p, 4);
    return {_mm512_set1_epi32(quad)};
  }
  static Ints Bits(Vec x) { return {_mm512_castps_si512(x.v)}; }
  static Ints FromFloat(Vec x) { return {_mm512_cvtps_epi32(x.v)}; }
  Vec ToFloat() const { return {_mm512_cvtepi32_ps(v)}; }
  Vec AsFloat() const { return {_mm512_castsi512_ps(v)}; }
  static Ints Max(Ints a, Ints b) { return {_mm512_max_epi32(a.v, b.v)}; }
  friend Ints operator+(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
  int32_t Sum() const { return _mm512_reduce_add_epi32(v); }
  int32_t MaxLane() const { return _mm512_reduce_max_epi32(v); }

  Ints LowHalves() const { return {_mm512_and_si512(v, _mm512_set1_epi8(15))}; }
  Ints HighHalves() const {
    return {_mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15))};
  }
  // Lanes as bytes, 4 lanes a quad, quads `stride` bytes apart.
  void StoreQuads(int8_t* p, int64_t stride) const {
    const __m128i bytes = _mm512_cvtepi32_epi8(v);
    if (stride == 4) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
    _mm_storeu_si32(p, bytes);
    _mm_storeu_si32(p + stride, _mm_shuffle_epi32(bytes, 1));
    _mm_storeu_si32(p + 2 * stride, _mm_shuffle_epi32(bytes, 2));
    _mm_storeu_si32(p + 3 * stride, _mm_shuffle_epi32(bytes, 3));
  }
  // Lanes of four vectors, each 0..255, as the bytes of one.
  static Ints Bytes(Ints a, Ints b, Ints c, Ints d) {
    return {
        _mm512_or_si512(_mm512_or_si512(a.v, _mm512_slli_epi32(b.v, 8)),
                        _mm512_or_si512(_mm512_slli_epi32(c.v, 16), _mm512_slli_epi32(d.v, 24)))};
  }
  static Ints Halves(Ints low, Ints high) {
    return {_mm512_or_si512(low.v, _mm512_slli_epi16(high.v, 4))};
  }
  void Opaque() { asm("" : "+v"(v)); }

  // sums + unsigned bytes of a line times signed bytes of an operand, 4 to a lane.
  struct Line {
    __m512i even, odd;
  };
  static Line Split(Ints bytes) {
    if constexpr (kVnni) {
      return {bytes.v, bytes.v};
    } else {
      return {_mm512_and_si512(bytes.v, _mm512_set1_epi16(255)), _mm512_srli_epi16(bytes.v, 8)};
    }
  }
  static Line Operand(const int8_t* quad) {
    const __m512i q = Broadcast(quad).v;
    if constexpr (kVnni) {
      return {q, q};
    } else {
      return {_mm512_srai_epi16(_mm512_slli_epi16(q, 8), 8), _mm512_srai_epi16(q, 8)};
    }
  }
  static Ints Dot(Ints sums, const Line& line, const Line& operand) {
    if constexpr (kVnni) {
      return {Dpbusd(sums.v, line.even, operand.even)};
    } else {
      return {_mm512_add_epi32(_mm512_add_epi32(sums.v, _mm512_madd_epi16(line.even, operand.even)),
                               _mm512_madd_epi16(line.odd, operand.odd))};
    }
  }
  // The same for bytes of a line below 16: 2 * 15 * 127 fits 16 bits.
  static Ints DotSmall(Ints sums, Ints line, Ints operand) {
    if constexpr (kVnni) {
      return {Dpbusd(sums.v, line.v, operand.v)};
    } else {
      return {_mm512_add_epi32(sums.v, _mm512_madd_epi16(_mm512_maddubs_epi16(line.v, operand.v),
                                                         _mm512_set1_epi16(1)))};
    }
  }

 private:
  static __m512i Dpbusd(__m512i sums, __m512i line, __m512i operand) {
    // By hand: around the intrinsic g++ 12 copies each accumulator twice and runs out of registers.
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(line), "v"(operand));
    return sums;
  }
};

}  // namespace tessera::cpu::avx512
