#include "model/generation_config.h"

#include "model/config_reader.h"
#include "model/json.h"

namespace tessera {
namespace {

constexpr size_t kMaxBytes = 1u << 20;
constexpr int64_t kMaxTopK = 1 << 23;

Result<std::optional<float>> ReadFloat(const ObjectReader& reader, std::string_view key, double low,
                                       double high) {
  TESSERA_TRY(const std::optional<double> number, reader.OptionalNumber(key, low, high));
  return number ? std::optional<float>(static_cast<float>(*number)) : std::nullopt;
}

}  // namespace

Result<GenerationConfig> GenerationConfig::FromJson(std::string_view json) {
  TESSERA_TRY(const Json root, ParseJson(json, "generation_config.json"));
  if (!root.is_object()) {
    return Invalid("generation_config: wrong type",
                   {.limit = "an object", .value = DescribeJson(root)});
  }
  const ObjectReader reader(root, "generation_config");
  GenerationConfig config{.found = true};
  TESSERA_TRY(const bool sample, reader.Bool("do_sample", false));
  TESSERA_TRY(config.temperature, ReadFloat(reader, "temperature", 0, 100));
  if (!sample) config.temperature = 0.0f;
  TESSERA_TRY(config.top_p, ReadFloat(reader, "top_p", 1e-6, 1));
  TESSERA_TRY(config.min_p, ReadFloat(reader, "min_p", 0, 1));
  TESSERA_TRY(config.repetition_penalty, ReadFloat(reader, "repetition_penalty", 1e-2, 1e2));
  if (reader.Has("top_k")) {
    TESSERA_TRY(const int64_t top_k, reader.Int("top_k", 0, kMaxTopK));
    config.top_k = static_cast<int32_t>(top_k);
  }
  TESSERA_TRY(config.eos_ids, reader.Ids("eos_token_id"));
  return config;
}

Result<GenerationConfig> GenerationConfig::FromDirectory(const std::filesystem::path& directory) {
  auto text = ReadSmallFile(directory / "generation_config.json", kMaxBytes);
  if (!text && text.error().code == ErrorCode::kNotFound) return GenerationConfig{};
  if (!text) return tl::unexpected(std::move(text).error());
  return FromJson(*text);
}

}  // namespace tessera
