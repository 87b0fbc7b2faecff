// A model's config.json as frozen structs, made and checked by one function.
//
// Both generations of the file are read: rope_theta + rope_scaling + torch_dtype (transformers 4.x)
// and rope_parameters + dtype (5.x). Keys that a nested config leaves out have the defaults of its
// Hugging Face class, because 4.x writes only what differs from them. What does not change the
// arithmetic is ignored; what would change it and is not known here (rope types, activations,
// quantisation) is an error that names key, limit and value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/ops.h"
#include "model/quantized_config.h"

namespace tessera {

struct RopeConfig {
  enum class Type : uint8_t { kDefault, kLinear, kLlama3, kYarn };
  Type type = Type::kDefault;
  double theta = 10000;
  double factor = 1;
  int64_t original_context = 0;                      // llama3, yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  // yarn (Peng et al. 2023, arXiv 2309.00071)
  std::optional<double> attention_factor, mscale, mscale_all_dim;
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;
};

struct TextConfig {
  int hidden = 0;        // C
  int intermediate = 0;  // F
  int layers = 0;
  int heads = 0;     // H
  int kv_heads = 0;  // G, divides H
  int head_dim = 0;  // D, even
  int vocab = 0;     // V
  int embedding_rows = 0;
  int max_context = 0;
  float norm_eps = 0;
  Activation activation = Activation::kSilu;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied_head = false;
  std::vector<int> cross_layers;  // ascending; empty for text models
  RopeConfig rope;
  std::vector<int32_t> eos_ids;

  bool IsCross(int layer) const;
};

// MllamaVisionModel. All tiles are square; a tile gives grid^2 patches and one class token.
struct VisionConfig {
  int hidden = 0;  // C_v
  int intermediate = 0;
  int heads = 0;
  int head_dim = 0;  // floor(hidden / heads)
  int layers = 0;
  int global_layers = 0;
  int tile_size = 0;  // pixels
  int patch_size = 0;
  int max_tiles = 0;
  int aspect_ratios = 0;                 // ids 1..aspect_ratios; 0 is "no picture"
  std::vector<int> intermediate_layers;  // resolved to 0..layers-1, in the order listed
  float norm_eps = 0;
  Activation activation = Activation::kGelu;

  int grid() const { return tile_size / patch_size; }
  int patches() const { return grid() * grid(); }
  int tokens() const { return patches() + 1; }                  // P
  int padded_tokens() const { return (tokens() + 7) / 8 * 8; }  // P rounded up
  int patch_elements() const { return 3 * patch_size * patch_size; }
  int output_dim() const { return hidden * (1 + static_cast<int>(intermediate_layers.size())); }
};

struct ModelConfig {
  std::string architecture;          // "MllamaForConditionalGeneration"
  std::string family;                // "mllama"
  DType stored_dtype = DType::kF32;  // what the file says; the tensors decide
  TextConfig text;
  std::optional<VisionConfig> vision;
  int32_t image_token_id = -1;
  std::optional<QuantizationConfig> quantization;  // of weights that come as codes

  // `file` names the text in errors.
  static Result<ModelConfig> FromHf(std::string_view json, std::string_view file = "config.json");
  static Result<ModelConfig> FromDirectory(const std::filesystem::path& directory);
};

}  // namespace tessera
