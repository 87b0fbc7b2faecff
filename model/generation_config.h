// generation_config.json: what a model's makers want where a request says nothing.
//
// As in transformers, sampling is off unless do_sample is true: temperature is then 0, whatever the
// file says of it. Lengths (max_length, max_new_tokens) are ignored: a request without max_tokens
// runs up to the context.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tessera {

struct GenerationConfig {
  bool found = false;  // false: the directory has no such file, and all below is unset
  std::optional<float> temperature;  // [0, 100]; 0: greedy
  std::optional<float> top_p;        // (0, 1]
  std::optional<float> min_p;        // [0, 1]
  std::optional<int32_t> top_k;      // 0: off
  std::optional<float> repetition_penalty;
  std::vector<int32_t> eos_ids;

  static Result<GenerationConfig> FromJson(std::string_view json);
  // A directory without the file gives an unset config.
  static Result<GenerationConfig> FromDirectory(const std::filesystem::path& directory);
};

}  // namespace tessera
