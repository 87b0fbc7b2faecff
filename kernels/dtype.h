// Element types of tensors and storage formats of packed weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"

namespace tessera {

// kI8: K/V caches alone, with scales beside the numbers (kernels/kv_view.h).
enum class DType : uint8_t { kF32, kF16, kBF16, kI32, kU8, kI8 };

constexpr size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kU8:
    case DType::kI8: return 1;
  }
  return 0;
}

constexpr std::string_view Name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "fp32";
    case DType::kF16: return "fp16";
    case DType::kBF16: return "bf16";
    case DType::kI32: return "int32";
    case DType::kU8: return "uint8";
    case DType::kI8: return "int8";
  }
  return "?";
}

// How a packed matrix keeps its weights. kAuto: as the file stores them.
enum class WeightFormat : uint8_t { kAuto, kF32, kF16, kBF16, kInt8, kInt4 };

constexpr std::string_view Name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kAuto: return "auto";
    case WeightFormat::kF32: return "fp32";
    case WeightFormat::kF16: return "fp16";
    case WeightFormat::kBF16: return "bf16";
    case WeightFormat::kInt8: return "int8";
    case WeightFormat::kInt4: return "int4";
  }
  return "?";
}

// bfloat16 <-> float. Rounding is to nearest, ties to even; NaN stays NaN.
constexpr float BF16ToFloat(uint16_t bits) {
  return __builtin_bit_cast(float, uint32_t{bits} << 16);
}
constexpr uint16_t FloatToBF16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
float F16ToFloat(uint16_t bits);
uint16_t FloatToF16(float value);

}  // namespace tessera
