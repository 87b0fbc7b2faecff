#include "model/vision_model.h"

#include <algorithm>
#include <numeric>

#include "model/probe_tap.h"

namespace tessera {
namespace {

// layernorm_pre and layernorm_post do not follow norm_eps (nn.LayerNorm's default).
constexpr float kOuterNormEps = 1e-5f;
constexpr int64_t kMaxBlockRows = 512;

// Of VisionSlot::shared.
int64_t SharedElements(const VisionConfig& v, const TextConfig& t) {
  return std::max(int64_t{v.max_tiles} * v.padded_tokens() * 3 * v.heads * v.head_dim,
                  int64_t{v.max_tiles} * v.tokens() * t.hidden);
}

// Calls `body(begin, count)` for blocks of at most `block` rows.
template <typename Body>
void InBlocks(int64_t begin, int64_t end, int64_t block, Body&& body) {
  for (; begin < end; begin += block) body(begin, std::min(block, end - begin));
}

}  // namespace

// What one Encode works on.
struct VisionModel::Run {
  Backend& backend;
  const EncodeSlice& slice;
  const VisionSchedule& schedule;
  const std::vector<CrossLayerWeights>& cross_layers;
  const KvPools& pools;
  VisionWorkspace& workspace;
  VisionSlot& slot;
  Probe* probe;

  // S of this picture's tiles.
  int64_t sequence(const VisionConfig& c) const {
    return int64_t{schedule.run_tiles()} * c.padded_tokens();
  }
  int64_t token_rows(const VisionConfig& c) const {
    return int64_t{schedule.run_tiles()} * c.tokens();
  }
  TensorView hidden(const VisionConfig& c) const { return slot.states.view().Columns(0, c.hidden); }
  TensorView qkv(const VisionConfig& c) const {
    return TensorView::Of(slot.shared.view().data, slot.states.view().dtype,
                          {sequence(c), 3 * int64_t{c.heads} * c.head_dim});
  }
  TensorView projected(const VisionConfig& c, const TextConfig& t) const {
    return TensorView::Of(slot.shared.view().data, slot.states.view().dtype,
                          {int64_t{schedule.kept_tiles()} * c.tokens(), t.hidden});
  }
  // Row r of an op is `row(r)` of a table or a tensor.
  template <typename Row>
  std::span<const int32_t> Rows(int64_t count, Row&& row) const {
    workspace.rows.clear();
    for (int64_t i = 0; i < count; ++i) workspace.rows.push_back(static_cast<int32_t>(row(i)));
    return workspace.rows;
  }
};

Result<VisionWorkspace> VisionWorkspace::Make(Backend& backend, const VisionConfig& v,
                                              const TextConfig& t, int slots) {
  VisionWorkspace w;
  const DType dtype = backend.activation_dtype();
  const int64_t sequence = int64_t{v.max_tiles} * v.padded_tokens();
  const int64_t rows = VisionRows(v, v.max_tiles, true), block = VisionModel::BlockRows(v);
  const int64_t width = int64_t{v.heads} * v.head_dim, shared = SharedElements(v, t);
  for (int i = 0; i < slots; ++i) {
    VisionSlot slot;
    TESSERA_TRY(slot.states, backend.AllocateTensor(dtype, {rows, v.output_dim()}));
    TESSERA_TRY(slot.shared, backend.AllocateTensor(dtype, {shared}));
    slot.padding.resize(static_cast<size_t>(sequence));
    w.slots.push_back(std::move(slot));
  }
  TESSERA_TRY(w.normed, backend.AllocateTensor(dtype, {block, v.hidden}));
  TESSERA_TRY(w.mixed, backend.AllocateTensor(dtype, {block, width}));
  TESSERA_TRY(w.ff, backend.AllocateTensor(dtype, {block, v.intermediate}));
  TESSERA_TRY(w.patches, backend.AllocateTensor(dtype, {block, v.patch_elements()}));
  TESSERA_TRY(w.kv_rows,
              backend.AllocateTensor(dtype, {block, 2 * int64_t{t.kv_heads} * t.head_dim}));
  w.scratch = {w.normed, w.mixed, w.ff};
  w.iota.resize(static_cast<size_t>(block));
  std::iota(w.iota.begin(), w.iota.end(), 0);
  w.rows.reserve(static_cast<size_t>(std::max(block, sequence - v.max_tiles * v.tokens())));
  w.kv_slots.reserve(static_cast<size_t>(block));
  return w;
}

void VisionWorkspace::AddNeed(const VisionConfig& v, const TextConfig& t, WorkspaceNeed& need) {
  need.encode_slot += VisionRows(v, v.max_tiles, true) * v.output_dim() + SharedElements(v, t);
  need.block +=
      VisionModel::BlockRows(v) * (v.hidden + int64_t{v.heads} * v.head_dim + v.intermediate +
                                   v.patch_elements() + 2 * int64_t{t.kv_heads} * t.head_dim);
}

size_t VisionWorkspace::bytes() const {
  size_t sum = normed.bytes() + mixed.bytes() + ff.bytes() + patches.bytes() + kv_rows.bytes();
  for (const VisionSlot& slot : slots) sum += slot.shared.bytes() + slot.states.bytes();
  return sum;
}

int64_t VisionModel::BlockRows(const VisionConfig& config) {
  return std::min<int64_t>(kMaxBlockRows, int64_t{config.max_tiles} * config.padded_tokens());
}

void VisionModel::AddScratchLimits(const VisionConfig& v, const TextConfig& t,
                                   ScratchLimits& scratch) {
  const int64_t width = int64_t{v.heads} * v.head_dim;
  scratch.max_rows = std::max(scratch.max_rows, BlockRows(v));
  scratch.widest =
      std::max<int64_t>({scratch.widest, v.hidden, 3 * width, v.intermediate, v.patch_elements(),
                         v.output_dim(), t.hidden, 2 * int64_t{t.kv_heads} * t.head_dim});
  scratch.max_heads = std::max<int64_t>(scratch.max_heads, v.heads);
  scratch.max_head_dim = std::max<int64_t>(scratch.max_head_dim, v.head_dim);
  scratch.max_dense_keys =
      std::max(scratch.max_dense_keys, int64_t{v.max_tiles} * v.padded_tokens());
}

VisionModel::VisionModel(const VisionConfig& config, const TextConfig& text, const Weights& weights,
                         double unit_flops, bool skip_padding_tiles)
    : config_(&config),
      text_(&text),
      projector_(weights),
      patch_(weights.Matrix(Group::kModel, 0, Slot::kPatch)),
      class_token_(weights.Matrix(Group::kModel, 0, Slot::kClassToken)),
      position_(weights.Rows(Slot::kPosition)),
      position_gate_(weights.Gate(Group::kModel, 0, Slot::kPositionGate)),
      pre_tile_gate_(weights.Gate(Group::kModel, 0, Slot::kPreTileGate)),
      post_tile_gate_(weights.Gate(Group::kModel, 0, Slot::kPostTileGate)),
      pre_norm_(weights.Vector(Group::kModel, 0, Slot::kPreNorm)),
      pre_norm_bias_(weights.Vector(Group::kModel, 0, Slot::kPreNormBias)),
      last_norm_(weights.Vector(Group::kModel, 0, Slot::kLastNorm)),
      last_norm_bias_(weights.Vector(Group::kModel, 0, Slot::kLastNormBias)) {
  const int64_t tiles = (int64_t{config.aspect_ratios} + 1) * config.max_tiles;
  tile_position_ =
      weights.Rows(Slot::kTilePosition).Reshape({tiles * config.tokens(), config.hidden});
  pre_tile_ = weights.Rows(Slot::kPreTile).Reshape({tiles, config.hidden});
  post_tile_ = weights.Rows(Slot::kPostTile).Reshape({tiles, config.hidden});
  for (int layer = 0; layer < config.layers; ++layer)
    layers_.emplace_back(weights, Group::kVision, layer);
  for (int layer = 0; layer < config.global_layers; ++layer)
    layers_.emplace_back(weights, Group::kGlobal, layer);
  for (int kept = 1; kept <= config.max_tiles; ++kept) {
    schedules_.emplace_back(config, text, kept, skip_padding_tiles ? kept : config.max_tiles,
                            BlockRows(config), unit_flops);
  }
}

const VisionSchedule& VisionModel::schedule(int kept_tiles) const {
  TESSERA_CHECK(kept_tiles >= 1 && kept_tiles <= config_->max_tiles,
                "tiles: expected 1..{}, got {}", config_->max_tiles, kept_tiles);
  return schedules_[static_cast<size_t>(kept_tiles) - 1];
}

void VisionModel::Encode(Backend& backend, const EncodeSlice& slice, const VisionSchedule& schedule,
                         const std::vector<CrossLayerWeights>& cross_layers, const KvPools& pools,
                         VisionWorkspace& workspace, Probe* probe) const {
  VisionSlot& slot = workspace.slots.at(static_cast<size_t>(slice.slot));
  TESSERA_CHECK(slice.unit_begin == 0 || slice.unit_begin == slot.next_unit,
                "EncodeMedia: unit: expected {}, got {}", slot.next_unit, slice.unit_begin);
  const Run run{backend, slice, schedule, cross_layers, pools, workspace, slot, probe};
  const std::span<const VisionStep> steps = schedule.Steps(slice.unit_begin, slice.unit_end);
  for (size_t i = 0; i < steps.size(); ++i) {
    VisionStep step = steps[i];
    // Neighbouring blocks of one phase run as one: larger matmuls, equal results.
    while (i + 1 < steps.size() && steps[i + 1].stage == step.stage &&
           steps[i + 1].layer == step.layer &&
           steps[i + 1].row_end - step.row_begin <= BlockRows(*config_)) {
      step.row_end = steps[++i].row_end;
    }
    switch (step.stage) {
      case VisionStage::kEmbed: Embed(run, step); break;
      case VisionStage::kLastNorm: LastNorm(run, step); break;
      case VisionStage::kQkv:
      case VisionStage::kAttention: Layer(run, step); break;
      case VisionStage::kProject: Project(run, step); break;
      case VisionStage::kCrossKv: CrossKv(run, step); break;
    }
  }
  slot.next_unit = slice.unit_end;
}

void VisionModel::Embed(const Run& run, const VisionStep& step) const {
  const VisionConfig& c = *config_;
  Backend& backend = run.backend;
  const int64_t tokens = c.tokens(), token_rows = run.token_rows(c);
  const int64_t id = int64_t{run.slice.pixels->aspect_ratio_id} * c.max_tiles;
  const TensorView hidden = run.hidden(c);

  if (step.row_begin == 0) {
    for (int64_t row = 0; row < run.sequence(c); ++row) {
      run.slot.padding[static_cast<size_t>(row)] =
          row >= token_rows || row / tokens >= run.slice.pixels->used_tiles ? 1 : 0;
    }
    const int64_t pads = VisionRows(c, run.schedule.run_tiles(), false) - token_rows;
    backend.Embedding({.ids = run.Rows(pads, [](int64_t) { return 1; }),  // the row of zeros
                       .table = class_token_,
                       .out = hidden.Rows(token_rows, pads)});
  }
  TensorView first = hidden.Rows(step.row_begin * tokens, (step.row_end - step.row_begin) * tokens);
  first.shape[0] = step.row_end - step.row_begin;
  first.stride[0] *= tokens;
  backend.Embedding({.ids = run.Rows(first.dim(0), [](int64_t) { return 0; }),
                     .table = class_token_,
                     .out = first});
  EmbedPatches(run, step.row_begin, step.row_end);
  InBlocks(
      step.row_begin * tokens, step.row_end * tokens, BlockRows(c),
      [&](int64_t begin, int64_t count) {
        const TensorView x = hidden.Rows(begin, count);
        const auto token = [&](int64_t row) { return (begin + row) % tokens; };
        backend.AddRows({.table = position_,
                         .rows = run.Rows(count, token),
                         .scale = 1.0f - position_gate_,
                         .x = x});
        backend.AddRows({.table = tile_position_.Rows(id * tokens + begin, count),
                         .scale = position_gate_,
                         .x = x});
        backend.LayerNorm(
            {.x = x, .weight = pre_norm_, .bias = pre_norm_bias_, .eps = kOuterNormEps, .out = x});
      });
}

// Patches of several tiles at once: between them are class tokens, so they are spread afterwards.
void VisionModel::EmbedPatches(const Run& run, int64_t tile_begin, int64_t tile_end) const {
  const VisionConfig& c = *config_;
  const MediaPixels& pixels = *run.slice.pixels;
  Backend& backend = run.backend;
  const int64_t patches = c.patches();
  const TensorView tiles = pre_tile_.Rows(int64_t{pixels.aspect_ratio_id} * c.max_tiles,
                                          int64_t{run.schedule.run_tiles()});
  InBlocks(tile_begin * patches, tile_end * patches, BlockRows(c),
           [&](int64_t begin, int64_t count) {
             const TensorView cut = run.workspace.patches.view().Rows(0, count);
             const TensorView x = run.workspace.normed.view().Rows(0, count);
             backend.Patchify({.tiles = pixels.tiles.data(),
                               .used = pixels.used_tiles,
                               .height = pixels.height,
                               .width = pixels.width,
                               .patch_size = c.patch_size,
                               .lut = &pixels.lut,
                               .row_begin = begin,
                               .out = cut});
             backend.MatMul({.x = cut, .w = patch_, .out = x});
             const auto tile = [&](int64_t row) { return (begin + row) / patches; };
             backend.AddRows(
                 {.table = tiles, .rows = run.Rows(count, tile), .scale = pre_tile_gate_, .x = x});
             const auto place = [&](int64_t row) { return begin + row + 1 + tile(row); };
             backend.ScatterRows({.x = x, .rows = run.Rows(count, place), .out = run.hidden(c)});
           });
}

void VisionModel::LastNorm(const Run& run, const VisionStep& step) const {
  const VisionConfig& c = *config_;
  const int64_t tokens = c.tokens(), token_rows = run.token_rows(c);
  const int64_t tiles = run.schedule.run_tiles();
  const TensorView hidden = run.hidden(c);
  if (step.row_begin <= token_rows && token_rows < step.row_end) {
    // Every tile has padding rows of its own from here on.
    run.backend.GatherRows({.x = hidden.Rows(token_rows, 1),
                            .rows = run.Rows(tiles - 1, [](int64_t) { return 0; }),
                            .out = hidden.Rows(token_rows + 1, tiles - 1)});
  }
  const TensorView x = hidden.Rows(step.row_begin, step.row_end - step.row_begin);
  run.backend.LayerNorm(
      {.x = x, .weight = last_norm_, .bias = last_norm_bias_, .eps = kOuterNormEps, .out = x});
  const auto tile = [&](int64_t i) {
    const int64_t row = step.row_begin + i;
    return row < token_rows ? row / tokens : row - token_rows;
  };
  run.backend.AddRows(
      {.table = post_tile_.Rows(int64_t{run.slice.pixels->aspect_ratio_id} * c.max_tiles, tiles),
       .rows = run.Rows(x.dim(0), tile),
       .scale = post_tile_gate_,
       .x = x});
}

void VisionModel::Layer(const Run& run, const VisionStep& step) const {
  const VisionLayerWeights& weights = layers_[static_cast<size_t>(step.layer)];
  const int64_t count = step.row_end - step.row_begin;
  const TensorView hidden = run.hidden(*config_).Rows(step.row_begin, count);
  const TensorView qkv = run.qkv(*config_);
  if (step.stage == VisionStage::kQkv) {
    RunVisionQkv(run.backend, weights, *config_, hidden, qkv.Rows(step.row_begin, count),
                 run.workspace.scratch);
    const bool global = step.layer >= config_->layers;
    const int64_t computed = VisionRows(*config_, run.schedule.run_tiles(), global);
    if (step.row_end == computed) RepeatPadding(run, computed);
    return;
  }
  RunVisionAttention(run.backend, weights, *config_, qkv,
                     std::span(run.slot.padding).first(static_cast<size_t>(run.sequence(*config_))),
                     step.row_begin, hidden, run.workspace.scratch);
  KeepStates(run, step.layer, step.row_begin, step.row_end);
}

// K and V of padding rows that are like the computed ones.
void VisionModel::RepeatPadding(const Run& run, int64_t computed) const {
  const int64_t width = int64_t{config_->heads} * config_->head_dim;
  const int64_t token_rows = run.token_rows(*config_), alike = computed - token_rows;
  const int64_t count = run.sequence(*config_) - computed;
  if (count == 0 || alike == 0) return;
  const TensorView kv = run.qkv(*config_).Columns(width, 2 * width);
  run.backend.GatherRows({.x = kv.Rows(token_rows, alike),
                          .rows = run.Rows(count, [&](int64_t i) { return i % alike; }),
                          .out = kv.Rows(computed, count)});
}

void VisionModel::KeepStates(const Run& run, int layer, int64_t row_begin, int64_t row_end) const {
  row_end = std::min(row_end, int64_t{run.schedule.kept_tiles()} * config_->tokens());
  if (row_begin >= row_end) return;
  const int64_t count = row_end - row_begin;
  for (size_t k = 0; k < config_->intermediate_layers.size(); ++k) {
    if (config_->intermediate_layers[k] != layer) continue;
    const TensorView states = run.slot.states.view().Rows(row_begin, count);
    run.backend.GatherRows(
        {.x = states.Columns(0, config_->hidden),
         .rows = std::span(run.workspace.iota).first(static_cast<size_t>(count)),
         .out = states.Columns((1 + static_cast<int64_t>(k)) * config_->hidden, config_->hidden)});
  }
}

void VisionModel::Project(const Run& run, const VisionStep& step) const {
  const TensorView projected = run.projected(*config_, *text_);
  const int64_t count = step.row_end - step.row_begin;
  projector_.Run(run.backend, run.slot.states.view().Rows(step.row_begin, count),
                 projected.Rows(step.row_begin, count));
  if (step.row_end == projected.dim(0)) {
    TapStates(run);
    TapProjected(run);
  }
}

void VisionModel::CrossKv(const Run& run, const VisionStep& step) const {
  const int64_t tokens = config_->tokens(), count = step.row_end - step.row_begin;
  TESSERA_CHECK(run.slice.cross_pages.size() == static_cast<size_t>(run.schedule.kept_tiles()),
                "EncodeMedia: cross pages: expected {}, got {}", run.schedule.kept_tiles(),
                run.slice.cross_pages.size());
  std::vector<int64_t>& slots = run.workspace.kv_slots;
  slots.clear();
  for (int64_t row = step.row_begin; row < step.row_end; ++row) {
    slots.push_back(run.slice.cross_pages[static_cast<size_t>(row / tokens)] * tokens +
                    row % tokens);
  }
  const auto layer = static_cast<size_t>(step.layer);
  RunCrossKv(run.backend, run.cross_layers[layer], *text_,
             run.projected(*config_, *text_).Rows(step.row_begin, count), slots,
             run.pools.cross[layer], run.workspace.kv_rows.view().Rows(0, count));
}

void VisionModel::TapStates(const Run& run) const {
  if (!Wants(run.probe, "vision_hidden")) return;
  const int64_t kept = run.schedule.kept_tiles(), tokens = config_->tokens(),
                columns = config_->output_dim();
  std::vector<float> all = ToHost(run.backend, run.slot.states.view().Rows(0, kept * tokens));
  all = InterleaveStates(all, kept * tokens, config_->hidden, columns / config_->hidden - 1);
  run.probe->Take("vision_hidden",
                  TensorView::Of(all.data(), DType::kF32, {1, kept, tokens, columns}));
}

void VisionModel::TapProjected(const Run& run) const {
  for (const std::string_view name : {"projected", "cross_states"}) {
    if (!Wants(run.probe, name)) continue;
    std::vector<float> all = ToHost(run.backend, run.projected(*config_, *text_));
    run.probe->Take(
        name, TensorView::Of(all.data(), DType::kF32,
                             {1, run.schedule.kept_tiles(), config_->tokens(), text_->hidden}));
  }
}

}  // namespace tessera
