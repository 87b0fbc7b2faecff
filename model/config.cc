#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "model/config_reader.h"
#include "model/json.h"

namespace tessera {
namespace {

constexpr size_t kMaxConfigBytes = 4u << 20;
// Far above any known model, far below what overflows a product of two.
constexpr int64_t kMaxWidth = 1 << 17;
constexpr int64_t kMaxFeedForward = 1 << 20;
constexpr int64_t kMaxLayers = 512;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxVocab = 1 << 23;
constexpr int64_t kMaxPositions = 1 << 26;
constexpr int64_t kMaxTileSize = 4096;
constexpr int64_t kMaxTiles = 32;
constexpr size_t kMaxAspectRatios = 1024;
constexpr int64_t kMaxTileTokens = 1 << 16;
// Bytes of the cosine and sine tables (rope.h): a longer context is cut to what they hold. 524,288
// positions at D = 128.
constexpr int64_t kRopeTableBytes = int64_t{256} << 20;

struct KnownRope {
  std::string_view name;
  RopeConfig::Type type;
};
constexpr KnownRope kRopes[] = {{"default", RopeConfig::Type::kDefault},
                                {"linear", RopeConfig::Type::kLinear},
                                {"llama3", RopeConfig::Type::kLlama3},
                                {"yarn", RopeConfig::Type::kYarn}};

Result<RopeConfig> ReadRope(const ObjectReader& text, int64_t max_positions, double default_theta) {
  RopeConfig rope;
  TESSERA_TRY(const double outer_theta, text.Number("rope_theta", 1.001, 1e15, default_theta));
  // 4.x's key counts where both stand, as in transformers.
  const std::string_view key = text.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const Json empty = Json::object();
  ObjectReader params(empty, text.Path(key));
  if (text.Has(key)) {
    TESSERA_TRY(params, text.Object(key));
  }
  TESSERA_TRY(rope.theta, params.Number("rope_theta", 1.001, 1e15, outer_theta));
  const std::string_view type_key = params.Has("rope_type") ? "rope_type" : "type";
  TESSERA_TRY(const std::string type, params.String(type_key, "default"));
  for (const ObjectReader* reader : {&text, static_cast<const ObjectReader*>(&params)}) {
    TESSERA_TRY(const double part, reader->Number("partial_rotary_factor", 0, 1, 1.0));
    if (part != 1)
      return reader->Wrong("config: partial rotary embedding is not supported",
                           "partial_rotary_factor", "1");
  }
  if (type == "dynamic") {
    // NTK scaling by length (transformers' dynamic): up to the original length it is the default
    // embedding, beyond it the keys of one sequence would have to be rotated again with every
    // token, which a cache cannot do.
    TESSERA_TRY(const int64_t original,
                params.Int("original_max_position_embeddings", 1, kMaxPositions, max_positions));
    TESSERA_TRY(rope.factor, params.Number("factor", 1e-3, 1e6));
    if (max_positions > original) {
      return Invalid(
          "config: rope type dynamic is supported only while the context stays within the original "
          "length, "
          "because beyond it every new token changes the rotation of all keys in the cache",
          {.field = text.Path("max_position_embeddings"),
           .limit = fmt::format("{} (original_max_position_embeddings)", original),
           .value = std::to_string(max_positions)});
    }
    return rope;
  }
  const auto* known = std::find_if(std::begin(kRopes), std::end(kRopes),
                                   [&](const KnownRope& r) { return r.name == type; });
  if (known == std::end(kRopes)) {
    return params.Wrong("config: unknown rope type", type_key,
                        "one of default, linear, llama3, yarn, dynamic");
  }
  rope.type = known->type;
  if (rope.type == RopeConfig::Type::kDefault) return rope;

  if (rope.type == RopeConfig::Type::kLinear) {
    TESSERA_TRY(rope.factor, params.Number("factor", 1e-3, 1e6));
    return rope;
  }
  // A length beside the rope's own object counts before the one inside (Phi-3 writes it there).
  const ObjectReader& outer = text.Has("original_max_position_embeddings") ? text : params;
  TESSERA_TRY(rope.original_context,
              outer.Int("original_max_position_embeddings", 1, kMaxPositions, max_positions));
  if (rope.type == RopeConfig::Type::kLlama3) {
    TESSERA_TRY(rope.factor, params.Number("factor", 1e-3, 1e6));
    TESSERA_TRY(rope.low_freq_factor, params.Number("low_freq_factor", 1e-6, 1e6));
    TESSERA_TRY(rope.high_freq_factor, params.Number("high_freq_factor", 1e-6, 1e6));
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      return params.Wrong("config: value out of range", "high_freq_factor",
                          fmt::format("more than low_freq_factor, {}", rope.low_freq_factor));
    }
    return rope;
  }
  const double stretch =
      static_cast<double>(max_positions) / static_cast<double>(rope.original_context);
  TESSERA_TRY(rope.factor, params.Number("factor", 1e-3, 1e6, stretch));
  TESSERA_TRY(rope.attention_factor, params.OptionalNumber("attention_factor", 0, 1e3));
  TESSERA_TRY(rope.mscale, params.OptionalNumber("mscale", 0, 1e3));
  TESSERA_TRY(rope.mscale_all_dim, params.OptionalNumber("mscale_all_dim", 0, 1e3));
  TESSERA_TRY(rope.beta_fast, params.Number("beta_fast", 0, 1e6, 32));
  TESSERA_TRY(rope.beta_slow, params.Number("beta_slow", 0, 1e6, 1));
  if (rope.beta_fast == 0) rope.beta_fast = 32;  // 0 counts as absent there
  if (rope.beta_slow == 0) rope.beta_slow = 1;
  TESSERA_TRY(rope.truncate, params.Bool("truncate", true));
  return rope;
}

// Defaults of a Hugging Face config class; nullopt: the key must stand.
struct TextDefaults {
  std::optional<int64_t> hidden, intermediate, layers, heads, kv_heads, vocab, positions;
  double norm_eps;
  double theta;
};
constexpr TextDefaults kLlamaDefaults{.positions = 2048, .norm_eps = 1e-6, .theta = 10000};
constexpr TextDefaults kMllamaDefaults{.hidden = 4096,
                                       .intermediate = 14336,
                                       .layers = 40,
                                       .heads = 32,
                                       .kv_heads = 8,
                                       .vocab = 128256,
                                       .positions = 131072,
                                       .norm_eps = 1e-5,
                                       .theta = 500000};

template <typename T>
int Narrow(T value) {
  return static_cast<int>(value);  // all limits above fit
}

Result<TextConfig> ReadText(const ObjectReader& reader, const TextDefaults& absent, bool mllama) {
  TextConfig c;
  TESSERA_TRY(c.hidden,
              reader.Int("hidden_size", 1, kMaxWidth, absent.hidden).map(Narrow<int64_t>));
  TESSERA_TRY(c.intermediate,
              reader.Int("intermediate_size", 1, kMaxFeedForward, absent.intermediate)
                  .map(Narrow<int64_t>));
  TESSERA_TRY(c.layers,
              reader.Int("num_hidden_layers", 1, kMaxLayers, absent.layers).map(Narrow<int64_t>));
  TESSERA_TRY(c.heads,
              reader.Int("num_attention_heads", 1, kMaxHeads, absent.heads).map(Narrow<int64_t>));
  const int64_t default_kv = absent.kv_heads.value_or(c.heads);
  TESSERA_TRY(c.kv_heads,
              reader.Int("num_key_value_heads", 1, kMaxHeads, default_kv).map(Narrow<int64_t>));
  if (c.heads % c.kv_heads != 0) {
    return reader.Wrong("config: value out of range", "num_key_value_heads",
                        fmt::format("a divisor of num_attention_heads, {}", c.heads));
  }
  const int derived = c.hidden / c.heads;
  if (mllama) {
    // MllamaTextSelfAttention derives it whatever a head_dim says, its rotary embedding would not
    if (reader.Has("head_dim")) {
      TESSERA_RETURN_IF_ERROR(reader.Int("head_dim", derived, derived));
    }
    c.head_dim = derived;
  } else {
    TESSERA_TRY(c.head_dim, reader.Int("head_dim", 1, kMaxHeadDim, derived).map(Narrow<int64_t>));
  }
  if (c.head_dim < 2 || c.head_dim % 2 != 0 || c.head_dim > kMaxHeadDim) {
    return Invalid(
        "config: value out of range",
        {.field = reader.Path(reader.Has("head_dim") ? "head_dim" : "hidden_size"),
         .limit = fmt::format("an even width of an attention head in [2, {}]", kMaxHeadDim),
         .value = fmt::format("{}", c.head_dim)});
  }
  TESSERA_TRY(c.vocab, reader.Int("vocab_size", 1, kMaxVocab, absent.vocab).map(Narrow<int64_t>));
  c.embedding_rows = mllama ? c.vocab + 8 : c.vocab;
  TESSERA_TRY(const int64_t positions,
              reader.Int("max_position_embeddings", 1, kMaxPositions, absent.positions));
  c.max_context = Narrow(std::min(positions, kRopeTableBytes / (int64_t{c.head_dim} * 4)));
  TESSERA_TRY(c.norm_eps,
              reader.Number("rms_norm_eps", 1e-12, 1, absent.norm_eps).map([](double v) {
                return static_cast<float>(v);
              }));
  TESSERA_TRY(c.activation, reader.Act("hidden_act", "silu"));
  TESSERA_TRY(c.attention_bias, reader.Bool("attention_bias", false));
  TESSERA_TRY(c.mlp_bias, reader.Bool("mlp_bias", false));
  TESSERA_TRY(c.tied_head, reader.Bool("tie_word_embeddings", false));
  if (mllama)
    c.attention_bias = c.mlp_bias = c.tied_head = false;  // its classes know none of the three
  TESSERA_TRY(c.rope, ReadRope(reader, positions, absent.theta));
  TESSERA_TRY(c.eos_ids, reader.Ids("eos_token_id"));
  return c;
}

Result<std::vector<int>> ReadCrossLayers(const ObjectReader& reader, int layers) {
  TESSERA_TRY(auto list, reader.IntList("cross_attention_layers", 0, layers - 1, kMaxLayers));
  if (!list) {
    list.emplace();
    for (int64_t layer = 3; layer < 40; layer += 5) list->push_back(layer);
    if (list->back() >= layers) {
      return reader.Wrong("config: value out of range", "cross_attention_layers",
                          fmt::format("layers in [0, {}], listed", layers - 1));
    }
  }
  const std::set<int64_t> distinct(list->begin(), list->end());
  if (distinct.empty()) {
    return reader.Wrong("config: value out of range", "cross_attention_layers",
                        fmt::format("1 to {} of the {} layers", layers, layers));
  }
  return std::vector<int>(distinct.begin(), distinct.end());
}

// Only how many there are counts: the size of the embedding tables. The ids come from the image
// processor.
Result<int> CountAspectRatios(const ObjectReader& reader) {
  const Json* list = reader.Find("supported_aspect_ratios");
  if (list == nullptr) return 8;
  constexpr Literal kWhat = "config: wrong type";
  const std::string limit =
      fmt::format("a list of 1 to {} pairs of positive integers", kMaxAspectRatios);
  if (!list->is_array() || list->empty() || list->size() > kMaxAspectRatios) {
    return reader.Wrong(kWhat, "supported_aspect_ratios", limit);
  }
  for (const Json& pair : *list) {
    bool good = pair.is_array() && pair.size() == 2;
    for (size_t i = 0; good && i < 2; ++i)
      good = pair[i].is_number_unsigned() && pair[i].get<uint64_t>() > 0;
    if (!good) return reader.Wrong(kWhat, "supported_aspect_ratios", limit);
  }
  return Narrow(list->size());
}

Result<VisionConfig> ReadVision(const ObjectReader& reader) {
  VisionConfig c;
  TESSERA_TRY(c.hidden, reader.Int("hidden_size", 1, kMaxWidth, 1280).map(Narrow<int64_t>));
  TESSERA_TRY(c.intermediate,
              reader.Int("intermediate_size", 1, kMaxFeedForward, 5120).map(Narrow<int64_t>));
  const std::string_view heads_key =
      reader.Has("attention_heads") ? "attention_heads" : "num_attention_heads";
  TESSERA_TRY(
      c.heads,
      reader.Int(heads_key, 1, std::min<int64_t>(kMaxHeads, c.hidden), 16).map(Narrow<int64_t>));
  c.head_dim = c.hidden / c.heads;
  if (c.head_dim > kMaxHeadDim) {
    return reader.Wrong("config: value out of range", heads_key,
                        fmt::format("heads of at most {}", kMaxHeadDim));
  }
  TESSERA_TRY(c.layers, reader.Int("num_hidden_layers", 1, kMaxLayers, 32).map(Narrow<int64_t>));
  TESSERA_TRY(c.global_layers,
              reader.Int("num_global_layers", 0, kMaxLayers, 8).map(Narrow<int64_t>));
  TESSERA_TRY(c.tile_size, reader.Int("image_size", 1, kMaxTileSize, 448).map(Narrow<int64_t>));
  TESSERA_TRY(c.patch_size, reader.Int("patch_size", 1, c.tile_size, 14).map(Narrow<int64_t>));
  TESSERA_RETURN_IF_ERROR(reader.Int("num_channels", 3, 3, 3));
  TESSERA_TRY(c.max_tiles, reader.Int("max_num_tiles", 1, kMaxTiles, 4).map(Narrow<int64_t>));
  if (int64_t{c.tokens()} * c.max_tiles > kMaxTileTokens * 4 || c.tokens() > kMaxTileTokens) {
    return reader.Wrong("config: value out of range", "patch_size",
                        fmt::format("at most {} patches a tile", kMaxTileTokens));
  }
  TESSERA_TRY(c.norm_eps, reader.Number("norm_eps", 1e-12, 1, 1e-5).map([](double v) {
    return static_cast<float>(v);
  }));
  TESSERA_TRY(c.activation, reader.Act("hidden_act", "gelu"));
  TESSERA_TRY(c.aspect_ratios, CountAspectRatios(reader));
  TESSERA_TRY(const auto indices,
              reader.IntList("intermediate_layers_indices", -c.layers, c.layers - 1, 64));
  if (indices && indices->empty()) {
    return reader.Wrong("config: value out of range", "intermediate_layers_indices",
                        "at least one layer");
  }
  for (const int64_t index : indices.value_or(std::vector<int64_t>{3, 7, 15, 23, 30})) {
    if (index >= c.layers) {  // only the default can be
      return reader.Wrong("config: value out of range", "intermediate_layers_indices",
                          fmt::format("layers in [0, {}], listed", c.layers - 1));
    }
    c.intermediate_layers.push_back(Narrow(index < 0 ? index + c.layers : index));
  }
  TESSERA_RETURN_IF_ERROR(reader.Int("vision_output_dim", c.output_dim(), c.output_dim(), 7680));
  if (!reader.Has("vision_output_dim") && c.output_dim() != 7680) {
    return reader.Wrong("config: value out of range", "vision_output_dim",
                        std::to_string(c.output_dim()));
  }
  return c;
}

Result<DType> ReadStoredDType(const ObjectReader& root, const ObjectReader& text) {
  for (const ObjectReader* reader : {&root, &text}) {
    for (const std::string_view key : {"dtype", "torch_dtype"}) {
      if (!reader->Has(key)) continue;
      TESSERA_TRY(std::string name, reader->String(key));
      if (name.starts_with("torch.")) name.erase(0, 6);
      if (name == "float32") return DType::kF32;
      if (name == "float16") return DType::kF16;
      if (name == "bfloat16") return DType::kBF16;
      return reader->Wrong("config: unsupported weight dtype", key,
                           "one of float32, float16, bfloat16");
    }
  }
  return DType::kF32;
}

struct KnownArchitecture {
  std::string_view architecture;
  std::string_view model_type;
};
constexpr KnownArchitecture kArchitectures[] = {{"MllamaForConditionalGeneration", "mllama"},
                                                {"LlamaForCausalLM", "llama"}};

Result<KnownArchitecture> ReadArchitecture(const ObjectReader& root) {
  constexpr std::string_view kLimit = "one of MllamaForConditionalGeneration, LlamaForCausalLM";
  TESSERA_TRY(const std::string model_type, root.String("model_type", ""));
  std::string name;
  if (const Json* list = root.Find("architectures")) {
    if (!list->is_array() || list->size() != 1 || !list->front().is_string()) {
      return root.Wrong("config: wrong type", "architectures", "a list of one string");
    }
    name = list->front().get<std::string>();
  }
  for (const KnownArchitecture& known : kArchitectures) {
    if (name.empty() ? known.model_type != model_type : known.architecture != name) continue;
    if (!model_type.empty() && known.model_type != model_type) {
      return root.Wrong("config: architecture and model_type disagree", "model_type",
                        std::string(known.model_type));
    }
    return known;
  }
  return Invalid("config: unknown architecture",
                 {.field = name.empty() ? "model_type" : "architectures",
                  .limit = std::string(kLimit),
                  .value = name.empty() ? model_type : name});
}

}  // namespace

bool TextConfig::IsCross(int layer) const {
  return std::binary_search(cross_layers.begin(), cross_layers.end(), layer);
}

Result<ModelConfig> ModelConfig::FromHf(std::string_view json, std::string_view file) {
  TESSERA_TRY(const Json root_json, ParseJson(json, file));
  if (!root_json.is_object())
    return Invalid("config: wrong type", {.limit = "an object", .value = DescribeJson(root_json)});
  const ObjectReader root(root_json, "");
  ModelConfig config;
  TESSERA_TRY(const KnownArchitecture known, ReadArchitecture(root));
  config.architecture = known.architecture;
  config.family = known.model_type;
  const bool mllama = config.family == "mllama";

  ObjectReader text = root;
  if (mllama) {
    TESSERA_TRY(auto nested, root.Object("text_config"));
    text = nested;
  }
  for (const ObjectReader* reader : {&root, static_cast<const ObjectReader*>(&text)}) {
    TESSERA_TRY(auto quantization, QuantizationConfig::Read(*reader));
    if (quantization) config.quantization = quantization;
  }
  TESSERA_TRY(config.stored_dtype, ReadStoredDType(root, text));
  TESSERA_TRY(config.text, ReadText(text, mllama ? kMllamaDefaults : kLlamaDefaults, mllama));
  if (!mllama) return config;

  TESSERA_TRY(config.text.cross_layers, ReadCrossLayers(text, config.text.layers));
  TESSERA_TRY(const std::vector<int32_t> more_ends, root.Ids("eos_token_id"));
  config.text.eos_ids.insert(config.text.eos_ids.end(), more_ends.begin(), more_ends.end());
  TESSERA_TRY(const ObjectReader vision, root.Object("vision_config"));
  TESSERA_TRY(config.vision, ReadVision(vision));
  const std::string_view key =
      root.Has("image_token_index") ? "image_token_index" : "image_token_id";
  TESSERA_TRY(const int64_t image_token, root.Int(key, 0, config.text.embedding_rows - 1, 128256));
  if (image_token >= config.text.embedding_rows) {
    return root.Wrong("config: value out of range", "image_token_index",
                      fmt::format("an id below {}", config.text.embedding_rows));
  }
  config.image_token_id = Narrow(image_token);
  return config;
}

Result<ModelConfig> ModelConfig::FromDirectory(const std::filesystem::path& directory) {
  TESSERA_TRY(const std::string text, ReadSmallFile(directory / "config.json", kMaxConfigBytes));
  return FromHf(text, "config.json");
}

}  // namespace tessera
