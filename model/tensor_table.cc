#include "model/tensor_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace tessera {
namespace {

using enum Dim;
using enum PackRule;
constexpr Part kText = Part::kTextModel;
constexpr Part kTower = Part::kVisionModel;

// Text layers serve both architectures: a llama model is an mllama text model without
// cross-attention layers.
constexpr TensorRow kRows_[] = {
    {kText,
     Layers::kOnce,
     "embed_tokens.weight",
     Slot::kEmbedding,
     {kEmbeddingRows, kHidden},
     kTable},
    {kText, Layers::kText, "layers.#.input_layernorm.weight", Slot::kInputNorm, {kHidden}, kVector},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.q_proj.weight",
     Slot::kQkv,
     {kQueries, kHidden},
     kMatrix},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.k_proj.weight",
     Slot::kQkv,
     {kKeys, kHidden},
     kMatrix},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.v_proj.weight",
     Slot::kQkv,
     {kKeys, kHidden},
     kMatrix},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.q_proj.bias",
     Slot::kQkvBias,
     {kQueries},
     kVector,
     Need::kAttentionBias},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.k_proj.bias",
     Slot::kQkvBias,
     {kKeys},
     kVector,
     Need::kAttentionBias},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.v_proj.bias",
     Slot::kQkvBias,
     {kKeys},
     kVector,
     Need::kAttentionBias},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.o_proj.weight",
     Slot::kOut,
     {kHidden, kQueries},
     kMatrix},
    {kText,
     Layers::kSelf,
     "layers.#.self_attn.o_proj.bias",
     Slot::kOutBias,
     {kHidden},
     kVector,
     Need::kAttentionBias},
    {kText,
     Layers::kCross,
     "layers.#.cross_attn.q_proj.weight",
     Slot::kCrossQ,
     {kQueries, kHidden},
     kMatrix},
    {kText,
     Layers::kCross,
     "layers.#.cross_attn.k_proj.weight",
     Slot::kCrossKv,
     {kKeys, kHidden},
     kMatrix},
    {kText,
     Layers::kCross,
     "layers.#.cross_attn.v_proj.weight",
     Slot::kCrossKv,
     {kKeys, kHidden},
     kMatrix},
    {kText,
     Layers::kCross,
     "layers.#.cross_attn.o_proj.weight",
     Slot::kOut,
     {kHidden, kQueries},
     kMatrix},
    {kText, Layers::kCross, "layers.#.cross_attn.q_norm.weight", Slot::kQNorm, {kHeadDim}, kVector},
    {kText, Layers::kCross, "layers.#.cross_attn.k_norm.weight", Slot::kKNorm, {kHeadDim}, kVector},
    {kText, Layers::kCross, "layers.#.cross_attn_attn_gate", Slot::kAttentionGate, {kOne}, kGate},
    {kText, Layers::kCross, "layers.#.cross_attn_mlp_gate", Slot::kMlpGate, {kOne}, kGate},
    {kText,
     Layers::kText,
     "layers.#.post_attention_layernorm.weight",
     Slot::kPostNorm,
     {kHidden},
     kVector},
    {kText,
     Layers::kText,
     "layers.#.mlp.gate_proj.weight",
     Slot::kGateUp,
     {kFeedForward, kHidden},
     kMatrix},
    {kText,
     Layers::kText,
     "layers.#.mlp.up_proj.weight",
     Slot::kGateUp,
     {kFeedForward, kHidden},
     kMatrix},
    {kText,
     Layers::kText,
     "layers.#.mlp.gate_proj.bias",
     Slot::kGateUpBias,
     {kFeedForward},
     kVector,
     Need::kMlpBias},
    {kText,
     Layers::kText,
     "layers.#.mlp.up_proj.bias",
     Slot::kGateUpBias,
     {kFeedForward},
     kVector,
     Need::kMlpBias},
    {kText,
     Layers::kText,
     "layers.#.mlp.down_proj.weight",
     Slot::kDown,
     {kHidden, kFeedForward},
     kMatrix},
    {kText,
     Layers::kText,
     "layers.#.mlp.down_proj.bias",
     Slot::kDownBias,
     {kHidden},
     kVector,
     Need::kMlpBias},
    {kText, Layers::kOnce, "norm.weight", Slot::kFinalNorm, {kHidden}, kVector},
    {Part::kTextHead,
     Layers::kOnce,
     "lm_head.weight",
     Slot::kHead,
     {kVocab, kHidden},
     kMatrix,
     Need::kHead},

    {kTower,
     Layers::kOnce,
     "patch_embedding.weight",
     Slot::kPatch,
     {kVisionHidden, kThree, kPatchSize, kPatchSize},
     kMatrix},
    {kTower, Layers::kOnce, "class_embedding", Slot::kClassToken, {kVisionHidden}, kClassToken},
    {kTower,
     Layers::kOnce,
     "gated_positional_embedding.embedding",
     Slot::kPosition,
     {kTileTokens, kVisionHidden},
     kRows},
    {kTower, Layers::kOnce, "gated_positional_embedding.gate", Slot::kPositionGate, {kOne}, kGate},
    {kTower,
     Layers::kOnce,
     "gated_positional_embedding.tile_embedding.weight",
     Slot::kTilePosition,
     {kAspectRatios, kTilesTokensHidden},
     kRows},
    {kTower,
     Layers::kOnce,
     "pre_tile_positional_embedding.embedding.weight",
     Slot::kPreTile,
     {kAspectRatios, kTilesHidden},
     kRows},
    {kTower,
     Layers::kOnce,
     "pre_tile_positional_embedding.gate",
     Slot::kPreTileGate,
     {kOne},
     kGate},
    {kTower,
     Layers::kOnce,
     "post_tile_positional_embedding.embedding.weight",
     Slot::kPostTile,
     {kAspectRatios, kTilesHidden},
     kRows},
    {kTower,
     Layers::kOnce,
     "post_tile_positional_embedding.gate",
     Slot::kPostTileGate,
     {kOne},
     kGate},
    {kTower, Layers::kOnce, "layernorm_pre.weight", Slot::kPreNorm, {kVisionHidden}, kVector},
    {kTower, Layers::kOnce, "layernorm_pre.bias", Slot::kPreNormBias, {kVisionHidden}, kVector},
    {kTower, Layers::kOnce, "layernorm_post.weight", Slot::kLastNorm, {kVisionHidden}, kVector},
    {kTower, Layers::kOnce, "layernorm_post.bias", Slot::kLastNormBias, {kVisionHidden}, kVector},
    // A layer of the tower; rows with kVision repeat for both encoders, those with kGlobal for the
    // gated one
    {kTower,
     Layers::kVision,
     "#.input_layernorm.weight",
     Slot::kInputNorm,
     {kVisionHidden},
     kVector},
    {kTower,
     Layers::kVision,
     "#.input_layernorm.bias",
     Slot::kInputNormBias,
     {kVisionHidden},
     kVector},
    {kTower,
     Layers::kVision,
     "#.self_attn.q_proj.weight",
     Slot::kQkv,
     {kVisionQueries, kVisionHidden},
     kMatrix},
    {kTower,
     Layers::kVision,
     "#.self_attn.k_proj.weight",
     Slot::kQkv,
     {kVisionQueries, kVisionHidden},
     kMatrix},
    {kTower,
     Layers::kVision,
     "#.self_attn.v_proj.weight",
     Slot::kQkv,
     {kVisionQueries, kVisionHidden},
     kMatrix},
    {kTower,
     Layers::kVision,
     "#.self_attn.o_proj.weight",
     Slot::kOut,
     {kVisionHidden, kVisionQueries},
     kMatrix},
    {kTower,
     Layers::kVision,
     "#.post_attention_layernorm.weight",
     Slot::kPostNorm,
     {kVisionHidden},
     kVector},
    {kTower,
     Layers::kVision,
     "#.post_attention_layernorm.bias",
     Slot::kPostNormBias,
     {kVisionHidden},
     kVector},
    {kTower,
     Layers::kVision,
     "#.mlp.fc1.weight",
     Slot::kFc1,
     {kVisionFeedForward, kVisionHidden},
     kMatrix},
    {kTower, Layers::kVision, "#.mlp.fc1.bias", Slot::kFc1Bias, {kVisionFeedForward}, kVector},
    {kTower,
     Layers::kVision,
     "#.mlp.fc2.weight",
     Slot::kFc2,
     {kVisionHidden, kVisionFeedForward},
     kMatrix},
    {kTower, Layers::kVision, "#.mlp.fc2.bias", Slot::kFc2Bias, {kVisionHidden}, kVector},
    {kTower, Layers::kGlobal, "#.gate_attn", Slot::kAttentionGate, {kOne}, kGate},
    {kTower, Layers::kGlobal, "#.gate_ffn", Slot::kMlpGate, {kOne}, kGate},

    {Part::kProjector,
     Layers::kOnce,
     "multi_modal_projector.weight",
     Slot::kProjector,
     {kHidden, kVisionStates},
     kStatesMatrix},
    {Part::kProjector,
     Layers::kOnce,
     "multi_modal_projector.bias",
     Slot::kProjectorBias,
     {kHidden},
     kVector},
};

struct Prefixes {
  std::string_view family;
  Part part;
  std::array<std::string_view, 3> prefixes;  // hub, module tree; unused entries repeat the first
};
constexpr Prefixes kPrefixes[] = {
    {"llama", Part::kTextModel, {"model.", "model.", "model."}},
    {"llama", Part::kTextHead, {"", "", ""}},
    {"mllama",
     Part::kTextModel,
     {"language_model.model.", "model.language_model.", "language_model.model."}},
    {"mllama", Part::kTextHead, {"language_model.", "", "language_model."}},
    {"mllama", Part::kVisionModel, {"vision_model.", "model.vision_model.", "vision_model."}},
    {"mllama", Part::kProjector, {"", "model.", ""}},
};

int64_t Resolve(Dim dim, const ModelConfig& config) {
  const TextConfig& t = config.text;
  const VisionConfig v = config.vision.value_or(VisionConfig{});
  switch (dim) {
    case kNone: return 0;
    case kOne: return 1;
    case kThree: return 3;
    case kHidden: return t.hidden;
    case kQueries: return int64_t{t.heads} * t.head_dim;
    case kKeys: return int64_t{t.kv_heads} * t.head_dim;
    case kFeedForward: return t.intermediate;
    case kVocab: return t.vocab;
    case kEmbeddingRows: return t.embedding_rows;
    case kHeadDim: return t.head_dim;
    case kVisionHidden: return v.hidden;
    case kVisionQueries: return int64_t{v.heads} * v.head_dim;
    case kVisionFeedForward: return v.intermediate;
    case kVisionStates: return v.output_dim();
    case kPatchSize: return v.patch_size;
    case kTileTokens: return v.tokens();
    case kAspectRatios: return int64_t{v.aspect_ratios} + 1;
    case kTilesHidden: return int64_t{v.max_tiles} * v.hidden;
    case kTilesTokensHidden: return int64_t{v.max_tiles} * v.tokens() * v.hidden;
  }
  return 0;
}

// Buffers of old checkpoints that hold no weights.
bool IsHarmless(std::string_view name) {
  for (const std::string_view suffix :
       {".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"}) {
    if (name.ends_with(suffix)) return true;
  }
  return false;
}

struct Repeat {
  Group group;
  int layer;
  std::string_view stem;  // before the name, e.g. the encoder of a vision layer
};

std::vector<Repeat> Repeats(const TensorRow& row, const ModelConfig& config) {
  std::vector<Repeat> repeats;
  const auto add = [&](Group group, int count, std::string_view stem, auto&& wanted) {
    for (int layer = 0; layer < count; ++layer) {
      if (wanted(layer)) repeats.push_back({group, layer, stem});
    }
  };
  const auto all = [](int) { return true; };
  const auto cross = [&](int layer) { return config.text.IsCross(layer); };
  const int layers = config.text.layers;
  switch (row.layers) {
    case Layers::kOnce: repeats.push_back({Group::kModel, 0, ""}); break;
    case Layers::kText: add(Group::kText, layers, "", all); break;
    case Layers::kSelf:
      add(Group::kText, layers, "", [&](int layer) { return !cross(layer); });
      break;
    case Layers::kCross: add(Group::kText, layers, "", cross); break;
    case Layers::kVision:
      add(Group::kVision, config.vision->layers, "transformer.layers.", all);
      [[fallthrough]];
    case Layers::kGlobal:
      add(Group::kGlobal, config.vision->global_layers, "global_transformer.layers.", all);
      break;
  }
  return repeats;
}

std::string WithLayer(std::string_view name, int layer) {
  const size_t mark = name.find('#');
  if (mark == std::string_view::npos) return std::string(name);
  return fmt::format("{}{}{}", name.substr(0, mark), layer, name.substr(mark + 1));
}

// Matrices that no other code reads element by element.
bool CanBeCodes(const ExpectedTensor& tensor) {
  const PackRule rule = tensor.row->rule;
  return tensor.shape.size() == 2 && (rule == kMatrix || rule == kTable || rule == kStatesMatrix);
}

// "missing (3): a, b, c": at most some names in full, the rest counted.
void Report(std::string& text, std::string_view what, const std::vector<std::string>& names) {
  constexpr size_t kShown = 8;
  if (names.empty()) return;
  if (!text.empty()) text += "; ";
  const auto end = names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kShown));
  text += fmt::format("{} ({}): {}", what, names.size(), fmt::join(names.begin(), end, ", "));
  if (names.size() > kShown) text += ", ...";
}

}  // namespace

std::span<const TensorRow> TensorRows() { return kRows_; }

int64_t ExpectedTensor::elements() const {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config) {
  std::vector<ExpectedTensor> expected;
  for (const TensorRow& row : kRows_) {
    const auto* prefixes = std::find_if(
        std::begin(kPrefixes), std::end(kPrefixes),
        [&](const Prefixes& p) { return p.family == config.family && p.part == row.part; });
    if (prefixes == std::end(kPrefixes)) continue;  // a part this family has not
    if (row.need == Need::kAttentionBias && !config.text.attention_bias) continue;
    if (row.need == Need::kMlpBias && !config.text.mlp_bias) continue;
    for (const Repeat& repeat : Repeats(row, config)) {
      ExpectedTensor tensor{.row = &row, .group = repeat.group, .layer = repeat.layer};
      for (const std::string_view prefix : prefixes->prefixes) {
        std::string name =
            fmt::format("{}{}{}", prefix, repeat.stem, WithLayer(row.name, repeat.layer));
        if (std::find(tensor.names.begin(), tensor.names.end(), name) == tensor.names.end()) {
          tensor.names.push_back(std::move(name));
        }
      }
      for (const Dim dim : row.shape) {
        if (dim != kNone) tensor.shape.push_back(Resolve(dim, config));
      }
      tensor.required = row.need != Need::kHead || !config.text.tied_head;
      expected.push_back(std::move(tensor));
    }
  }
  return expected;
}

std::vector<const TensorEntry*> BoundTensor::entries() const {
  return quantized ? quantized.all() : std::vector<const TensorEntry*>{entry};
}

Result<std::vector<BoundTensor>> BindTensors(
    std::vector<ExpectedTensor> expected, std::span<const TensorEntry* const> entries,
    const std::optional<QuantizationConfig>& quantization) {
  std::unordered_map<std::string_view, const TensorEntry*> by_name;
  for (const TensorEntry* entry : entries) by_name.emplace(entry->name, entry);
  const auto find = [&](const std::string& name) {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  };
  BindProblems problems;
  std::vector<BoundTensor> bound;
  std::unordered_set<const TensorEntry*> used;
  for (ExpectedTensor& tensor : expected) {
    BoundTensor found;
    for (const std::string& name : tensor.names) {
      if (quantization && CanBeCodes(tensor)) {
        found.quantized =
            BindQuantized(name, tensor.shape[0], tensor.shape[1], *quantization, find, problems);
      }
      found.entry = found.quantized ? found.quantized.codes : find(name);
      if (found.entry != nullptr) break;
    }
    if (found.entry == nullptr) {
      if (tensor.required) problems.missing.push_back(tensor.names.front());
      continue;
    }
    if (!found.quantized) {
      const TensorEntry& entry = *found.entry;
      if (entry.shape != tensor.shape) {
        problems.misshaped.push_back(fmt::format("{} is [{}], expected [{}]", entry.name,
                                                 fmt::join(entry.shape, ", "),
                                                 fmt::join(tensor.shape, ", ")));
      }
      if (entry.dtype != "F32" && entry.dtype != "F16" && entry.dtype != "BF16") {
        problems.mistyped.push_back(
            fmt::format("{} is {}, expected F32, F16 or BF16", entry.name, entry.dtype));
      }
    }
    for (const TensorEntry* entry : found.entries()) used.insert(entry);
    found.expected = std::move(tensor);
    bound.push_back(std::move(found));
  }
  for (const TensorEntry* entry : entries) {
    if (!used.contains(entry) && !IsHarmless(entry->name)) problems.extra.push_back(entry->name);
  }
  std::string text;
  Report(text, "missing", problems.missing);
  Report(text, "wrong shape", problems.misshaped);
  Report(text, "wrong dtype", problems.mistyped);
  Report(text, "not part of the model", problems.extra);
  if (!text.empty()) return Invalid("the weights do not fit config.json", {.detail = text});
  return bound;
}

}  // namespace tessera
