// What config.json says of weights that are already quantised (`quantization_config`).
//
// Read: compressed-tensors "pack-quantized" (int4, int8) and "int-quantized" (int8), GPTQ (4 and 8
// bits), AWQ (4 bits, version "gemm"). Every other method and variant is an error by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "model/config_reader.h"

namespace tessera {

struct QuantizationConfig {
  // Tensors of a matrix [N, K] with G groups and P = 32 / bits codes a word; the first code stands
  // in the lowest bits.
  enum class Layout : uint8_t {
    // weight_packed I32 [N, K / P], weight_scale [N, G], weight_zero_point I32 [N / P, G] or I8
    // [N, G], weight_shape [2], weight_g_idx [K] (compressed_tensors PackedQuantizationCompressor)
    kPackQuantized,
    // weight I8 [N, K], weight_scale [N, G] or [1], weight_zero_point I8 like it
    // (NaiveQuantizationCompressor)
    kIntQuantized,
    // qweight I32 [K / P, N], qzeros I32 [G, N / P], scales [G, N], g_idx [K] (AutoGPTQ, GPTQModel)
    kGptq,
    // qweight I32 [K, N / P], qzeros I32 [G, N / P], scales [G, N]; the codes of a word are those
    // of columns 0, 2, 4, 6, 1, 3, 5, 7 (AutoAWQ WQLinear_GEMM)
    kAwq,
  };
  Layout layout = Layout::kPackQuantized;
  int bits = 4;
  int64_t group = 0;  // columns that share a scale; 0: all of a row
  bool symmetric = true;
  bool activation_order = false;  // groups of columns may stand in any order
  bool zeros_less_one = false;    // GPTQ's first format stores zero points less one

  // "GPTQ int4, groups of 128"
  std::string Describe() const;

  // Of the object `config` (config.json's root or text_config). Nothing where the key is absent.
  static Result<std::optional<QuantizationConfig>> Read(const ObjectReader& config);
};

}  // namespace tessera
