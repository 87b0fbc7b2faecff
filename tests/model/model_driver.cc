#include "tests/model/model_driver.h"

#include <algorithm>

#include "base/check.h"
#include "model/probe_tap.h"

namespace tessera::test {

bool RecordingProbe::Wants(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

void RecordingProbe::Take(std::string_view name, const TensorView& host) {
  std::vector<float>& values = taken[std::string(name)];
  values.insert(values.end(), host.As<float>(), host.As<float>() + host.size());
}

ModelDriver::ModelDriver(const DriverOptions& options, std::unique_ptr<Backend> backend,
                         std::unique_ptr<const Model> model)
    : options_(options), backend_(std::move(backend)), model_(std::move(model)) {}

Result<std::unique_ptr<ModelDriver>> ModelDriver::Load(const std::filesystem::path& directory,
                                                       const DriverOptions& options) {
  TESSERA_TRY(std::unique_ptr<Backend> backend, MakeBackend(options.backend));
  TESSERA_TRY(std::unique_ptr<const Model> model, LoadModel(directory, *backend, options.load));
  std::unique_ptr<ModelDriver> driver(
      new ModelDriver(options, std::move(backend), std::move(model)));
  TESSERA_TRY(driver->workspace_,
              driver->model_->MakeWorkspace(
                  *driver->backend_,
                  {.max_rows = options.max_rows, .max_logits_rows = 5, .encode_slots = 2}));
  TESSERA_RETURN_IF_ERROR(driver->MakePools());
  return driver;
}

Result<void> ModelDriver::MakePools() {
  const ModelInfo& info = model_->info();
  const int pages = (options_.max_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  const auto make = [&](const KvGeometry& geometry, int count,
                        std::vector<KvLayerView>& layers) -> Result<void> {
    for (int layer = 0; layer < geometry.layers; ++layer) {
      KvLayerView view{.geometry = geometry};
      for (void** half : {&view.k, &view.v}) {
        TESSERA_TRY(Tensor tensor,
                    backend_->AllocateTensor(geometry.dtype, {count * geometry.page_elements()}));
        *half = tensor.view().data;
        storage_.push_back(std::move(tensor));
      }
      layers.push_back(view);
    }
    return {};
  };
  TESSERA_RETURN_IF_ERROR(make(info.self_kv, pages, pools_.self));
  if (info.has_vision()) {
    TESSERA_RETURN_IF_ERROR(
        make(info.cross_kv, options_.max_images * info.max_tiles, pools_.cross));
  }
  // Pages from the back and the front in turn
  for (int page = 0; page < pages; ++page)
    self_pages_.push_back(page % 2 == 0 ? pages - 1 - page / 2 : page / 2);
  return {};
}

void ModelDriver::Encode(const GoldenCase& c, int slice, PromptResult& result) {
  tile_pages_.clear();
  int next_page = 0;
  for (int image = 0; image < c.images; ++image) {
    const MediaPixels& pixels = c.pixels[static_cast<size_t>(image)];
    const EncodePlan plan = model_->PlanEncode(pixels);
    std::vector<int32_t>& pages = tile_pages_.emplace_back();
    for (int tile = 0; tile < plan.kept_tiles; ++tile) pages.push_back(next_page++);
    std::reverse(pages.begin(), pages.end());
    RecordingProbe probe({"vision_hidden", "projected"});
    const int step = slice == 0 ? plan.units : slice;
    for (int unit = 0; unit < plan.units; unit += step) {
      model_->EncodeMedia(*backend_,
                          {.slot = image % 2,
                           .pixels = &pixels,
                           .unit_begin = unit,
                           .unit_end = std::min(unit + step, plan.units),
                           .cross_pages = pages},
                          pools_, *workspace_, &probe);
    }
    result.kept_tiles.push_back(plan.kept_tiles);
    const auto append = [&](std::string_view name, std::vector<float>& to) {
      const std::vector<float>& from = probe.taken.find(name)->second;
      to.insert(to.end(), from.begin(), from.end());
    };
    append("vision_hidden", result.vision_hidden);
    append("projected", result.projected);
  }
}

// As the engine decides it: a row that sees pictures reads their used tiles; one that sees none is
// left out (zero) or reads all tiles of all pictures without the MLP (attend). Generated rows are
// like the prompt's last.
void ModelDriver::AddCrossRow(const GoldenCase& c, int row, int position, Batch& batch) const {
  const size_t mask_row = std::min<size_t>(static_cast<size_t>(position), c.input_ids.size() - 1);
  CrossRowInput input{.row = row,
                      .tiles_begin = static_cast<int32_t>(batch.cross_tile_pages.size())};
  for (int image = 0; image < c.images; ++image) {
    if (!c.seen(mask_row, image)) continue;
    const auto& pages = tile_pages_[static_cast<size_t>(image)];
    const int used = c.pixels[static_cast<size_t>(image)].used_tiles;
    batch.cross_tile_pages.insert(batch.cross_tile_pages.end(), pages.begin(),
                                  pages.begin() + used);
  }
  input.tiles_end = static_cast<int32_t>(batch.cross_tile_pages.size());
  if (input.tiles_end == input.tiles_begin) {
    if (model_->info().unseen_rows == UnseenRows::kZero) return;
    input.mlp = false;
    for (const auto& pages : tile_pages_)
      batch.cross_tile_pages.insert(batch.cross_tile_pages.end(), pages.begin(), pages.end());
    input.tiles_end = static_cast<int32_t>(batch.cross_tile_pages.size());
  }
  batch.cross_rows.push_back(input);
}

void ModelDriver::AddRows(const GoldenCase& c, std::span<const int32_t> tokens, int first_position,
                          Batch& batch) const {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int position = first_position + static_cast<int>(i);
    batch.tokens.push_back(tokens[i]);
    batch.positions.push_back(position);
    batch.self_slots.push_back(
        int64_t{self_pages_[static_cast<size_t>(position / kKvBlockTokens)]} * kKvBlockTokens +
        position % kKvBlockTokens);
    if (c.images > 0) AddCrossRow(c, static_cast<int>(i), position, batch);
  }
  batch.sequences.push_back({.row_begin = 0,
                             .row_count = static_cast<int32_t>(tokens.size()),
                             .first_position = first_position,
                             .page_begin = 0});
  batch.self_pages = self_pages_;
  batch.logits_rows.push_back(static_cast<int32_t>(tokens.size()) - 1);
}

PromptResult ModelDriver::Run(const GoldenCase& c, int new_tokens, int chunk, int slice) {
  PromptResult result;
  if (c.images > 0) Encode(c, slice, result);
  const int vocab = model_->info().vocab_size;
  const auto last_logits = [&] { return ToHost(*backend_, workspace_->logits().Rows(0, 1)); };
  RecordingProbe probe({"logits"});
  const int length = static_cast<int>(c.input_ids.size());
  for (int begin = 0; begin < length; begin += chunk) {
    Batch batch;
    AddRows(c,
            std::span(c.input_ids)
                .subspan(static_cast<size_t>(begin),
                         static_cast<size_t>(std::min(chunk, length - begin))),
            begin, batch);
    model_->Forward(*backend_, batch, pools_, *workspace_, &probe);
  }
  result.logits = std::move(probe.taken.find("logits")->second);
  for (int step = 0; step < new_tokens; ++step) {
    result.greedy_last_logits = last_logits();
    const auto best =
        std::max_element(result.greedy_last_logits.begin(), result.greedy_last_logits.end());
    result.greedy_ids.push_back(static_cast<int32_t>(best - result.greedy_last_logits.begin()));
    if (step == new_tokens - 1) break;
    Batch batch;
    AddRows(c, std::span(result.greedy_ids).last(1), length + step, batch);
    model_->Forward(*backend_, batch, pools_, *workspace_, nullptr);
  }
  TESSERA_CHECK(result.logits.size() == c.input_ids.size() * static_cast<size_t>(vocab),
                "driver: logits of {} rows", result.logits.size() / static_cast<size_t>(vocab));
  return result;
}

}  // namespace tessera::test
