// Which architectures there are, and the way from a directory to a model.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "model/architectures/architectures.h"
#include "model/config_reader.h"
#include "model/json.h"
#include "model/model.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"
#include "model/text_model.h"
#include "model/vision_model.h"
#include "model/weight_cache.h"

namespace tessera {
namespace {

constexpr size_t kMaxTesseraJson = 64u << 10, kMaxConfigJson = 4u << 20;

struct Architecture {
  std::string_view name;
  Result<std::unique_ptr<const Model>> (*make)(LoadedParts, Backend&);
};
constexpr Architecture kArchitectures[] = {
    {"LlamaForCausalLM", MakeLlama},
    {"MllamaForConditionalGeneration", MakeMllama},
};

// From the option, else tessera.json in the model's directory, else zero.
Result<UnseenRows> ChooseUnseenRows(const std::filesystem::path& directory,
                                    const LoadOptions& options) {
  if (options.unseen_rows) return *options.unseen_rows;
  const std::filesystem::path path = directory / "tessera.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return UnseenRows::kZero;
  TESSERA_TRY(const Json json, ReadJsonFile(path, kMaxTesseraJson));
  if (!json.is_object())
    return Invalid("tessera.json: wrong type", {.limit = "an object", .value = DescribeJson(json)});
  const ObjectReader reader(json, "");
  TESSERA_TRY(const std::string value, reader.String("unseen_rows", "zero"));
  if (value == "zero") return UnseenRows::kZero;
  if (value == "attend") return UnseenRows::kAttend;
  return reader.Wrong("tessera.json: unknown value", "unseen_rows", "one of zero, attend");
}

double FlopsPerToken(const ModelConfig& config) {
  const TextConfig& t = config.text;
  const double c = t.hidden, q = double{1} * t.heads * t.head_dim,
               kv = double{1} * t.kv_heads * t.head_dim;
  const double cross = static_cast<double>(t.cross_layers.size()), self = t.layers - cross;
  const double mlp = 3 * c * t.intermediate;
  return 2 * (self * (c * (q + 2 * kv) + q * c + mlp) + cross * (2 * c * q + mlp) + c * t.vocab);
}

Result<void> CheckSkipping(const LoadOptions& options, UnseenRows unseen_rows) {
  if (!options.skip_padding_tiles || unseen_rows == UnseenRows::kZero) return {};
  return Invalid("padding tiles are read where unseen rows attend: they cannot be left out",
                 {.field = "unseen_rows", .limit = "zero", .value = "attend"});
}

ModelInfo MakeInfo(const ModelConfig& config, const std::vector<ExpectedTensor>& tensors,
                   const LoadOptions& options, UnseenRows unseen_rows) {
  const TextConfig& t = config.text;
  const int cross = static_cast<int>(t.cross_layers.size());
  ModelInfo info{.family = config.family,
                 .architecture = config.architecture,
                 .vocab_size = t.vocab,
                 .embedding_rows = t.embedding_rows,
                 .max_context = t.max_context,
                 .layers = t.layers,
                 .eos_ids = t.eos_ids,
                 .self_kv = {.layers = t.layers - cross,
                             .kv_heads = t.kv_heads,
                             .head_dim = t.head_dim,
                             .page_tokens = kKvBlockTokens,
                             .dtype = options.kv_dtype},
                 .unseen_rows = unseen_rows,
                 .flops_per_token = FlopsPerToken(config)};
  for (const ExpectedTensor& tensor : tensors) {
    if (tensor.required) info.parameters += tensor.elements();
  }
  if (config.vision) {
    info.cross_kv = {.layers = cross,
                     .kv_heads = t.kv_heads,
                     .head_dim = t.head_dim,
                     .page_tokens = config.vision->tokens(),
                     .dtype = options.kv_dtype};
    info.max_tiles = config.vision->max_tiles;
    info.tile_height = info.tile_width = config.vision->tile_size;
    info.max_aspect_ratio_id = config.vision->aspect_ratios;
    info.image_token_id = config.image_token_id;
    info.skips_padding_tiles = options.skip_padding_tiles;
  }
  return info;
}

// Bytes of one matrix element after packing.
double PackedElementBytes(WeightFormat format, DType stored) {
  switch (format) {
    case WeightFormat::kAuto: return static_cast<double>(SizeOf(stored));
    case WeightFormat::kF32: return 4;
    case WeightFormat::kF16:
    case WeightFormat::kBF16: return 2;
    case WeightFormat::kInt8: return 1 + 2.0 / 32;    // a bf16 scale for 32
    case WeightFormat::kInt4: return 0.5 + 4.0 / 32;  // a bf16 scale and minimum for 32
  }
  return 4;
}

// MODEL-FORMAT-TIER-PLACE.cache: models of one name in two places do not share a file.
std::filesystem::path CacheFile(const std::filesystem::path& directory, const Backend& backend,
                                const LoadOptions& options) {
  if (options.cache_dir.empty()) return {};
  std::error_code ignored;
  std::filesystem::path place = std::filesystem::weakly_canonical(directory, ignored);
  if (place.filename().empty()) place = place.parent_path();
  const std::string text = place.string();
  return options.cache_dir / fmt::format("{}-{}-{}-{:08x}.cache", place.filename().string(),
                                         Name(options.format), backend.tier(),
                                         Checksum64(std::as_bytes(std::span(text))) >> 32);
}

}  // namespace

int64_t WorkspaceNeed::Bytes(const WorkspaceLimits& limits, DType activations) const {
  const int64_t numbers = row * limits.max_rows + logits_row * limits.max_logits_rows +
                          encode_slot * limits.encode_slots + block;
  return numbers * static_cast<int64_t>(SizeOf(activations)) +
         logits_width * limits.max_logits_rows * 4;
}

Result<std::unique_ptr<const Model>> LoadModel(const std::filesystem::path& directory,
                                               Backend& backend, const LoadOptions& options) {
  TESSERA_TRY(ModelConfig config, ModelConfig::FromDirectory(directory));
  const auto* architecture =
      std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                   [&](const Architecture& a) { return a.name == config.architecture; });
  TESSERA_CHECK(architecture != std::end(kArchitectures), "no wiring for {}", config.architecture);
  TESSERA_TRY(const UnseenRows unseen_rows, ChooseUnseenRows(directory, options));
  TESSERA_RETURN_IF_ERROR(CheckSkipping(options, unseen_rows));
  TESSERA_TRY(const Checkpoint checkpoint, Checkpoint::Open(directory));
  std::vector<ExpectedTensor> expected = ExpectedTensors(config);
  ModelInfo info = MakeInfo(config, expected, options, unseen_rows);
  TESSERA_TRY(const std::vector<BoundTensor> bound,
              BindTensors(std::move(expected), checkpoint.tensors(), config.quantization));
  std::string cache_key;
  if (!options.cache_dir.empty()) {
    TESSERA_TRY(const std::string text, ReadSmallFile(directory / "config.json", kMaxConfigJson));
    cache_key = fmt::format("{}config.json {:016x}\n", checkpoint.fingerprint(),
                            Checksum64(std::as_bytes(std::span(text))));
  }
  TESSERA_TRY(Weights weights, Weights::Load(bound, checkpoint, config, backend,
                                             {.format = options.format,
                                              .progress = options.progress,
                                              .cache_file = CacheFile(directory, backend, options),
                                              .cache_key = std::move(cache_key),
                                              .note = options.note}));
  // A unit beside the rows of small models may not be what a step of theirs takes many times over.
  const double unit = std::min(options.encode_unit_flops, 16 * info.flops_per_token);
  return architecture->make({std::move(config), std::move(info), std::move(weights), unit},
                            backend);
}

Result<ModelPlan> PlanModel(const std::filesystem::path& directory, const LoadOptions& options) {
  TESSERA_TRY(const ModelConfig config, ModelConfig::FromDirectory(directory));
  TESSERA_TRY(const UnseenRows unseen_rows, ChooseUnseenRows(directory, options));
  TESSERA_RETURN_IF_ERROR(CheckSkipping(options, unseen_rows));
  const std::vector<ExpectedTensor> tensors = ExpectedTensors(config);
  ModelPlan plan{.info = MakeInfo(config, tensors, options, unseen_rows)};
  const double element = PackedElementBytes(options.format, config.stored_dtype);
  std::unordered_set<std::string> codes;  // names of tensors that stay codes
  double code = element;
  if (config.quantization) {
    const QuantizationConfig& q = *config.quantization;
    plan.stored = q.Describe();
    TESSERA_TRY(const Checkpoint checkpoint, Checkpoint::Open(directory));
    TESSERA_TRY(const std::vector<BoundTensor> bound,
                BindTensors(tensors, checkpoint.tensors(), q));
    for (const BoundTensor& tensor : bound)
      if (tensor.quantized) codes.insert(tensor.expected.names.front());
    if (options.format == WeightFormat::kAuto)
      code = q.bits / 8.0 +
             (q.bits == 8 && q.group == 0 ? 0.0 : 4.0 / std::clamp<int64_t>(q.group, 32, 128));
  }
  // Embedding and head under int4 (model/weights.cc).
  const double outer = options.format == WeightFormat::kInt4
                           ? PackedElementBytes(WeightFormat::kInt8, config.stored_dtype)
                           : element;
  double bytes = 4.0 * config.text.max_context * config.text.head_dim;  // cosines and sines
  for (const ExpectedTensor& tensor : tensors) {
    const PackRule rule = tensor.row->rule;
    const bool packed =
        rule == PackRule::kMatrix || rule == PackRule::kTable || rule == PackRule::kStatesMatrix;
    const Slot slot = tensor.row->slot;
    if (tensor.required)
      bytes += static_cast<double>(tensor.elements()) *
               (!packed                                           ? 4.0
                : codes.contains(tensor.names.front())            ? code
                : slot == Slot::kEmbedding || slot == Slot::kHead ? outer
                                                                  : element);
  }
  plan.weight_bytes = static_cast<size_t>(bytes);
  TextWorkspace::AddNeed(config.text, plan.workspace);
  if (config.vision) VisionWorkspace::AddNeed(*config.vision, config.text, plan.workspace);
  return plan;
}

}  // namespace tessera
