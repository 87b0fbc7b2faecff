#include "model/text_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "model/probe_tap.h"

namespace tessera {
namespace {

// Which rows take part in the cross-attention layers of this step, and which of them run their MLP.
void CollectCrossRows(const Batch& batch, TextWorkspace& workspace) {
  workspace.cross_rows.clear();
  workspace.cross_tiles.clear();
  workspace.mlp_rows.clear();
  for (const CrossRowInput& row : batch.cross_rows) {
    if (row.mlp) workspace.mlp_rows.push_back(static_cast<int32_t>(workspace.cross_rows.size()));
    workspace.cross_rows.push_back(row.row);
    workspace.cross_tiles.push_back({row.tiles_begin, row.tiles_end});
  }
}

// Numbers that one row's attention and one row's MLP keep.
struct InnerWidth {
  explicit InnerWidth(const TextConfig& config)
      : q(int64_t{config.heads} * config.head_dim),
        qkv(q + 2 * int64_t{config.kv_heads} * config.head_dim),
        gate_up(2 * int64_t{config.intermediate}) {}
  int64_t most() const { return std::max(qkv + q, gate_up); }

  const int64_t q, qkv, gate_up;
};

}  // namespace

Result<TextWorkspace> TextWorkspace::Make(Backend& backend, const TextConfig& config,
                                          const WorkspaceLimits& limits) {
  TextWorkspace w;
  w.max_rows = limits.max_rows;
  w.max_logits_rows = limits.max_logits_rows;
  const DType dtype = backend.activation_dtype();
  const int64_t rows = w.max_rows, width = config.hidden;
  const InnerWidth inner(config);
  TESSERA_TRY(w.hidden, backend.AllocateTensor(dtype, {rows, width}));
  TESSERA_TRY(w.normed, backend.AllocateTensor(dtype, {rows, width}));
  TESSERA_TRY(w.inner, backend.AllocateTensor(dtype, {rows * inner.most()}));
  w.qkv = TensorView::Of(w.inner.view().data, dtype, {rows, inner.qkv});
  w.gate_up = TensorView::Of(w.inner.view().data, dtype, {rows, inner.gate_up});
  w.mixed = TensorView::Of(w.inner.view().Rows(rows * inner.qkv, rows * inner.q).data, dtype,
                           {rows, inner.q});
  TESSERA_TRY(w.head_rows, backend.AllocateTensor(dtype, {w.max_logits_rows, width}));
  TESSERA_TRY(w.logits, backend.AllocateTensor(DType::kF32, {w.max_logits_rows, config.vocab}));
  if (!config.cross_layers.empty()) {
    TESSERA_TRY(w.cross, backend.AllocateTensor(dtype, {rows, width}));
    TESSERA_TRY(w.cross_mlp, backend.AllocateTensor(dtype, {rows, width}));
    w.cross_rows.reserve(static_cast<size_t>(rows));
    w.cross_tiles.reserve(static_cast<size_t>(rows));
    w.mlp_rows.reserve(static_cast<size_t>(rows));
  }
  return w;
}

void TextWorkspace::AddNeed(const TextConfig& c, WorkspaceNeed& need) {
  const int64_t of_width = c.cross_layers.empty() ? 2 : 4;  // hidden, normed; cross, cross_mlp
  need.row += of_width * c.hidden + InnerWidth(c).most();
  need.logits_row += c.hidden;
  need.logits_width += c.vocab;
}

size_t TextWorkspace::bytes() const {
  size_t sum = 0;
  for (const Tensor* tensor : {&hidden, &cross, &cross_mlp, &normed, &inner, &head_rows, &logits}) {
    if (!tensor->empty()) sum += tensor->bytes();
  }
  return sum;
}

TextModel::TextModel(const TextConfig& config, const Weights& weights, RopeTables rope)
    : config_(&config),
      rope_(std::move(rope)),
      embedding_(weights.Matrix(Group::kModel, 0, Slot::kEmbedding)),
      final_norm_(weights.Vector(Group::kModel, 0, Slot::kFinalNorm)),
      head_(weights.MatrixOrNull(Group::kModel, 0, Slot::kHead)) {
  if (head_ == nullptr) head_ = embedding_;
  for (int layer = 0; layer < config.layers; ++layer) {
    if (config.IsCross(layer)) {
      cross_layers_.emplace_back(weights, layer);
    } else {
      self_layers_.emplace_back(weights, layer);
    }
  }
}

Result<TextModel> TextModel::Make(Backend& backend, const TextConfig& config,
                                  const Weights& weights) {
  TESSERA_TRY(RopeTables rope,
              RopeTables::Make(backend, config.rope, config.head_dim, config.max_context));
  return TextModel(config, weights, std::move(rope));
}

void TextModel::AddScratchLimits(const TextConfig& c, const WorkspaceLimits& limits,
                                 ScratchLimits& scratch) {
  scratch.max_rows = std::max<int64_t>({scratch.max_rows, limits.max_rows, limits.max_logits_rows});
  const int64_t fused = (int64_t{c.heads} + 2 * c.kv_heads) * c.head_dim;
  scratch.widest = std::max<int64_t>(
      {scratch.widest, c.hidden, fused, 2 * int64_t{c.intermediate}, c.embedding_rows});
  scratch.max_heads = std::max<int64_t>(scratch.max_heads, c.heads);
  scratch.max_head_dim = std::max<int64_t>(scratch.max_head_dim, c.head_dim);
  scratch.vocab = std::max<int64_t>(scratch.vocab, c.vocab);
}

void TextModel::Forward(Backend& backend, const Batch& batch, const KvPools& pools,
                        TextWorkspace& workspace, Probe* probe) const {
  TESSERA_CHECK(batch.rows() <= workspace.max_rows, "Forward: rows: expected at most {}, got {}",
                workspace.max_rows, batch.rows());
  TESSERA_CHECK(pools.self.size() == self_layers_.size(),
                "Forward: self pool: expected {} layers, got {}", self_layers_.size(),
                pools.self.size());
  if (!batch.page_copies.empty()) {
    for (const KvLayerView& kv : pools.self)
      backend.CopyKvPages({.kv = kv, .copies = batch.page_copies});
  }
  const TensorView hidden = workspace.hidden.view().Rows(0, batch.rows());
  const SelfRows rows{.positions = batch.positions,
                      .slots = batch.self_slots,
                      .sequences = batch.sequences,
                      .pages = batch.self_pages,
                      .cos = rope_.cos.view().As<float>(),
                      .sin = rope_.sin.view().As<float>()};
  CollectCrossRows(batch, workspace);

  backend.Embedding({.ids = batch.tokens, .table = embedding_, .out = hidden});
  size_t self = 0, cross = 0;
  for (int layer = 0; layer < config_->layers; ++layer) {
    if (!config_->IsCross(layer)) {
      RunSelfLayer(backend, self_layers_[self], *config_, rows, pools.self[self], hidden,
                   workspace.scratch());
      ++self;
    } else {
      if (!batch.cross_rows.empty())
        RunCrossLayer(backend, cross_layers_[cross], batch, pools.cross[cross], workspace);
      ++cross;
    }
    if (probe != nullptr) Tap(backend, probe, fmt::format("layer.{}.hidden", layer), hidden);
  }
  if (Wants(probe, "logits")) TapAllLogits(backend, batch, workspace, probe);
  RunHead(backend, batch.logits_rows, workspace);
}

void TextModel::RunCrossLayer(Backend& backend, const CrossLayerWeights& layer, const Batch& batch,
                              const KvLayerView& kv, TextWorkspace& workspace) const {
  const auto count = static_cast<int64_t>(workspace.cross_rows.size());
  const TensorView hidden = workspace.hidden.view().Rows(0, batch.rows());
  // Rows are compacted unless all take part, in order: then the layer works in place.
  const bool all = count == batch.rows();
  const TensorView x = all ? hidden : workspace.cross.view().Rows(0, count);
  if (!all) backend.GatherRows({.x = hidden, .rows = workspace.cross_rows, .out = x});

  RunCrossAttention(backend, layer, *config_, workspace.cross_tiles, batch.cross_tile_pages, kv, x,
                    workspace.scratch());
  const auto mlp_count = static_cast<int64_t>(workspace.mlp_rows.size());
  if (mlp_count == count) {
    RunMlp(backend, layer.mlp, *config_, x, workspace.scratch());
  } else if (mlp_count > 0) {
    const TensorView part = workspace.cross_mlp.view().Rows(0, mlp_count);
    backend.GatherRows({.x = x, .rows = workspace.mlp_rows, .out = part});
    RunMlp(backend, layer.mlp, *config_, part, workspace.scratch());
    backend.ScatterRows({.x = part, .rows = workspace.mlp_rows, .out = x});
  }
  if (!all) backend.ScatterRows({.x = x, .rows = workspace.cross_rows, .out = hidden});
}

void TextModel::RunHead(Backend& backend, std::span<const int32_t> rows,
                        TextWorkspace& workspace) const {
  const auto count = static_cast<int64_t>(rows.size());
  TESSERA_CHECK(count <= workspace.max_logits_rows,
                "Forward: logits rows: expected at most {}, got {}", workspace.max_logits_rows,
                count);
  const TensorView x = workspace.head_rows.view().Rows(0, count);
  backend.GatherRows({.x = workspace.hidden, .rows = rows, .out = x});
  backend.RmsNorm({.x = x, .weight = final_norm_, .eps = config_->norm_eps, .out = x});
  backend.MatMul({.x = x, .w = head_, .out = workspace.logits.view().Rows(0, count)});
}

void TextModel::TapAllLogits(Backend& backend, const Batch& batch, TextWorkspace& workspace,
                             Probe* probe) const {
  std::vector<int32_t> rows(static_cast<size_t>(batch.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<float> all;
  for (size_t begin = 0; begin < rows.size();) {
    const size_t count =
        std::min(rows.size() - begin, static_cast<size_t>(workspace.max_logits_rows));
    RunHead(backend, std::span(rows).subspan(begin, count), workspace);
    const std::vector<float> part =
        ToHost(backend, workspace.logits.view().Rows(0, static_cast<int64_t>(count)));
    all.insert(all.end(), part.begin(), part.end());
    begin += count;
  }
  probe->Take("logits", TensorView::Of(all.data(), DType::kF32, {batch.rows(), config_->vocab}));
}

}  // namespace tessera
