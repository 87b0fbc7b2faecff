// Number formats and scalar arithmetic of device.cuh on the CPU.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/device.cuh"

namespace tessera::cuda {

namespace emulation {

// Only integer steps and normal floats, so that flushing denormals changes nothing.
inline float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude << 13));
  if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  const float value = static_cast<float>(magnitude) * 0x1p-24f;  // a subnormal half: a normal float
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fffu;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above: infinity
  if (magnitude >= 0x38800000u) {                       // normal: 2^-14 and above
    return sign | static_cast<uint16_t>(
                      (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
  }
  if (magnitude <= 0x33000000u) return sign;       // 2^-25 and below: zero (the tie goes to even)
  const uint32_t shift = 126 - (magnitude >> 23);  // 14 to 24
  const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const uint32_t half = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1);
  const uint32_t middle = 1u << (shift - 1);
  return sign | static_cast<uint16_t>(half + (rest > middle || (rest == middle && (half & 1u))));
}

inline float Bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace emulation

inline float to_float(float x) { return x; }
inline float to_float(bf16_t x) { return emulation::Bf16ToFloat(x.bits); }
inline float to_float(half_t x) { return emulation::HalfToFloat(x.bits); }

template <typename T>
T from_float(float f);
template <>
inline float from_float<float>(float f) {
  return f;
}
template <>
inline bf16_t from_float<bf16_t>(float f) {
  return {emulation::FloatToBf16(f)};
}
template <>
inline half_t from_float<half_t>(float f) {
  return {emulation::FloatToHalf(f)};
}

template <typename T>
uint32_t pack2(float lo, float hi) {
  return uint32_t{from_float<T>(lo).bits} | uint32_t{from_float<T>(hi).bits} << 16;
}
template <typename T>
float2_t unpack2(uint32_t packed) {
  return {to_float(T{static_cast<uint16_t>(packed)}),
          to_float(T{static_cast<uint16_t>(packed >> 16)})};
}

inline float fast_exp2(float x) { return std::exp2(x); }
inline float fast_rcp(float x) { return 1.0f / x; }
inline float fma_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float fadd_rn(float a, float b) { return a + b; }
inline float fmul_rn(float a, float b) { return a * b; }
inline float fdiv_rn(float a, float b) { return a / b; }
inline float rsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline double dadd_rn(double a, double b) { return a + b; }
inline double dmul_rn(double a, double b) { return a * b; }
inline double ddiv_rn(double a, double b) { return a / b; }
inline double dfma(double a, double b, double c) { return std::fma(a, b, c); }
inline float exp_f(float x) { return std::exp(x); }
inline float erf_f(float x) { return std::erf(x); }
inline float tanh_f(float x) { return std::tanh(x); }
inline uint64_t umulhi64(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(a) * b) >> 64);
}

}  // namespace tessera::cuda
