#include "model/quantized_config.h"

#include <fmt/format.h>

#include <cctype>

namespace tessera {
namespace {

using Layout = QuantizationConfig::Layout;

constexpr std::string_view kKey = "quantization_config";
constexpr char kRead[] =
    "compressed-tensors pack-quantized (int4, int8) and int-quantized (int8), gptq (4 and 8 bits), "
    "awq (4 bits, gemm)";
constexpr int64_t kLargestGroup = 1 << 17;

tl::unexpected<Error> NotRead(const ObjectReader& reader, std::string_view key) {
  return reader.Wrong("config: this quantisation is not read", key, kRead);
}

// -1 and null are one group a row.
Result<int64_t> ReadGroup(const ObjectReader& reader, std::optional<int64_t> absent) {
  TESSERA_TRY(const int64_t group, reader.Int("group_size", -1, kLargestGroup, absent));
  if (group == -1) return 0;
  if (group < 8 || group % 8 != 0)
    return reader.Wrong("config: value out of range", "group_size", "-1, or a multiple of 8");
  return group;
}

// One scheme of `config_groups`: what its weights are.
Result<QuantizationConfig> ReadScheme(const ObjectReader& scheme, Layout layout) {
  QuantizationConfig config{.layout = layout};
  TESSERA_TRY(const ObjectReader weights, scheme.Object("weights"));
  TESSERA_TRY(const std::string type, weights.String("type", "int"));
  if (type != "int") return NotRead(weights, "type");
  TESSERA_TRY(const int64_t bits, weights.Int("num_bits", 1, 64));
  if (bits != 8 && (bits != 4 || layout == Layout::kIntQuantized))
    return NotRead(weights, "num_bits");
  config.bits = static_cast<int>(bits);
  TESSERA_TRY(config.symmetric, weights.Bool("symmetric", true));
  TESSERA_TRY(const bool dynamic, weights.Bool("dynamic", false));
  if (dynamic) return NotRead(weights, "dynamic");
  TESSERA_TRY(const std::string strategy,
              weights.String("strategy", weights.Has("group_size") ? "group" : "tensor"));
  if (strategy == "group") {
    TESSERA_TRY(config.group, ReadGroup(weights, std::nullopt));
  } else if (strategy != "channel" && strategy != "tensor") {
    return NotRead(weights, "strategy");
  }
  if (const Json* order = weights.Find("actorder"); order != nullptr) {
    // "weight" and "static" keep groups in place; true is an old way to write "group"
    if (*order == "group" || *order == true) {
      config.activation_order = true;
    } else if (*order != "weight" && *order != "static" && *order != false) {
      return NotRead(weights, "actorder");
    }
  }
  // Activations are rounded our own way (--activations); ranges fixed beforehand are another model.
  for (const std::string_view key : {"input_activations", "output_activations"}) {
    if (!scheme.Has(key)) continue;
    TESSERA_TRY(const ObjectReader activations, scheme.Object(key));
    TESSERA_TRY(const std::string kind, activations.String("type", "int"));
    const Json* when = activations.Find("dynamic");
    if (kind != "int") return NotRead(activations, "type");
    if (when == nullptr || *when != true) return NotRead(activations, "dynamic");
  }
  return config;
}

bool SameWeights(const QuantizationConfig& a, const QuantizationConfig& b) {
  return a.bits == b.bits && a.group == b.group && a.symmetric == b.symmetric &&
         a.activation_order == b.activation_order;
}

Result<QuantizationConfig> ReadCompressedTensors(const ObjectReader& reader) {
  TESSERA_TRY(const std::string format, reader.String("format"));
  Layout layout = Layout::kPackQuantized;
  if (format == "int-quantized" || format == "naive-quantized") {
    layout = Layout::kIntQuantized;
  } else if (format != "pack-quantized") {
    return NotRead(reader, "format");
  }
  if (reader.Has("sparsity_config")) {
    TESSERA_TRY(const ObjectReader sparsity, reader.Object("sparsity_config"));
    TESSERA_TRY(const std::string kind, sparsity.String("format", "dense"));
    if (kind != "dense") return NotRead(sparsity, "format");
  }
  if (reader.Has("transform_config") && !reader.Find("transform_config")->empty())
    return NotRead(reader, "transform_config");
  if (reader.Has("kv_cache_scheme")) return NotRead(reader, "kv_cache_scheme");
  TESSERA_TRY(const ObjectReader groups, reader.Object("config_groups"));
  std::optional<QuantizationConfig> found;
  for (const auto& item : reader.Find("config_groups")->items()) {
    TESSERA_TRY(const ObjectReader scheme, groups.Object(item.key()));
    TESSERA_TRY(const QuantizationConfig config, ReadScheme(scheme, layout));
    if (found && !SameWeights(*found, config))
      return groups.Wrong("config: layers are quantised in more than one way", item.key(),
                          "the same weights in every group");
    found = config;
  }
  if (!found) return reader.Wrong("config: no scheme", "config_groups", "at least 1");
  return *found;
}

Result<QuantizationConfig> ReadGptq(const ObjectReader& reader) {
  QuantizationConfig config{.layout = Layout::kGptq};
  TESSERA_TRY(const int64_t bits, reader.Int("bits", 1, 64));
  if (bits != 4 && bits != 8) return NotRead(reader, "bits");
  config.bits = static_cast<int>(bits);
  TESSERA_TRY(config.group, ReadGroup(reader, 128));
  TESSERA_TRY(config.activation_order, reader.Bool("desc_act", false));
  TESSERA_TRY(config.symmetric, reader.Bool("sym", true));
  TESSERA_TRY(
      const std::string format,
      reader.String(reader.Has("checkpoint_format") ? "checkpoint_format" : "format", "gptq"));
  if (format != "gptq" && format != "gptq_v2")
    return NotRead(reader, reader.Has("checkpoint_format") ? "checkpoint_format" : "format");
  config.zeros_less_one = format == "gptq";
  TESSERA_TRY(const bool marlin, reader.Bool("is_marlin_format", false));
  if (marlin) return NotRead(reader, "is_marlin_format");
  if (reader.Has("dynamic") && !reader.Find("dynamic")->empty()) return NotRead(reader, "dynamic");
  return config;
}

Result<QuantizationConfig> ReadAwq(const ObjectReader& reader) {
  QuantizationConfig config{.layout = Layout::kAwq, .symmetric = false};
  TESSERA_TRY(const int64_t bits, reader.Int(reader.Has("bits") ? "bits" : "w_bit", 1, 64));
  if (bits != 4) return NotRead(reader, reader.Has("bits") ? "bits" : "w_bit");
  TESSERA_TRY(config.group, ReadGroup(reader, 128));
  TESSERA_TRY(const bool zeros, reader.Bool("zero_point", true));
  if (!zeros) return NotRead(reader, "zero_point");
  TESSERA_TRY(std::string version, reader.String("version", "gemm"));
  for (char& c : version) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (version != "gemm") return NotRead(reader, "version");
  return config;
}

}  // namespace

std::string QuantizationConfig::Describe() const {
  const char* name = layout == Layout::kPackQuantized  ? "compressed-tensors pack-quantized"
                     : layout == Layout::kIntQuantized ? "compressed-tensors int-quantized"
                     : layout == Layout::kGptq         ? "GPTQ"
                                                       : "AWQ";
  return fmt::format("{} int{}, {}{}{}", name, bits,
                     group == 0 ? "a scale a row" : fmt::format("groups of {}", group),
                     symmetric ? "" : ", zero points",
                     activation_order ? ", activation order" : "");
}

Result<std::optional<QuantizationConfig>> QuantizationConfig::Read(const ObjectReader& config) {
  if (!config.Has(kKey)) return std::optional<QuantizationConfig>();
  TESSERA_TRY(const ObjectReader reader, config.Object(kKey));
  if (!reader.Has("quant_method")) return NotRead(reader, "quant_method");
  TESSERA_TRY(const std::string method, reader.String("quant_method"));
  const auto optional = [](QuantizationConfig read) { return std::optional(read); };
  if (method == "compressed-tensors") return ReadCompressedTensors(reader).map(optional);
  if (method == "gptq") return ReadGptq(reader).map(optional);
  if (method == "awq") return ReadAwq(reader).map(optional);
  return NotRead(reader, "quant_method");
}

}  // namespace tessera
