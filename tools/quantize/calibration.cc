#include "tools/quantize/calibration.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <tuple>

#include "model/model.h"
#include "server/engine/kv_pool.h"
#include "text/tokenizer.h"
#include "tools/quantize/recording_backend.h"

namespace tessera::quantize {
namespace {

using Key = std::tuple<Group, int, Slot>;

// The tensors of each packed matrix, in the order in which a model packs them (model/weights.cc).
std::map<Key, std::vector<const BoundTensor*>> MatricesOf(const std::vector<BoundTensor>& tensors) {
  std::map<Key, std::vector<const BoundTensor*>> slots;
  for (const BoundTensor& tensor : tensors) {
    const PackRule rule = tensor.expected.row->rule;
    if (rule == PackRule::kVector || rule == PackRule::kRows || rule == PackRule::kGate) continue;
    slots[{tensor.expected.group, tensor.expected.layer, tensor.expected.row->slot}].push_back(
        &tensor);
  }
  return slots;
}

Batch WindowOf(std::span<const int32_t> ids) {
  Batch batch;
  batch.tokens.assign(ids.begin(), ids.end());
  const auto count = static_cast<int32_t>(ids.size());
  for (int32_t i = 0; i < count; ++i) {
    batch.positions.push_back(i);
    batch.self_slots.push_back(i);  // page p holds positions 16 p and on
    if (i % kKvBlockTokens == 0) batch.self_pages.push_back(i / kKvBlockTokens);
  }
  batch.sequences.push_back({.row_begin = 0, .row_count = count});
  batch.logits_rows = {count - 1};
  return batch;
}

}  // namespace

Result<std::map<std::string, std::vector<float>>> Calibrate(
    const CalibrationSettings& settings, const std::vector<BoundTensor>& tensors) {
  std::ifstream file(settings.text);
  if (!file)
    return Invalid("the text cannot be read",
                   {.field = "calibration", .value = settings.text.string()});
  std::ostringstream text;
  text << file.rdbuf();
  TESSERA_TRY(const auto tokenizer, Tokenizer::Load(settings.model));
  std::vector<int32_t> ids = tokenizer->Encode(text.str(), SpecialParsing::kAsText, false);
  ids.resize(std::min(ids.size(), static_cast<size_t>(settings.tokens)));
  if (ids.size() < 64)
    return Invalid("the text is too short", {.field = "calibration",
                                             .limit = "at least 64 tokens",
                                             .value = std::to_string(ids.size())});

  TESSERA_TRY(std::unique_ptr<Backend> cpu, MakeBackend(settings.backend));
  RecordingBackend backend(std::move(cpu));
  TESSERA_TRY(const std::unique_ptr<const Model> model,
              LoadModel(settings.model, backend, {.format = settings.weights}));
  const int window = std::min(settings.window, model->info().max_context);
  TESSERA_TRY(
      const KvPool pool,
      KvPool::Make(backend, model->info(),
                   {.self_pages = window / kKvBlockTokens + 1,
                    .cross_pages = model->info().has_vision() ? model->info().max_tiles : 0}));
  TESSERA_TRY(const std::unique_ptr<Workspace> workspace,
              model->MakeWorkspace(backend, {.max_rows = window, .max_logits_rows = 1}));
  for (size_t begin = 0; begin < ids.size(); begin += static_cast<size_t>(window)) {
    const size_t count = std::min(ids.size() - begin, static_cast<size_t>(window));
    model->Forward(backend, WindowOf(std::span(ids).subspan(begin, count)), pool.views(),
                   *workspace, nullptr);
  }

  std::map<std::string, std::vector<float>> importance;
  size_t next = 0;
  for (const auto& [key, parts] : MatricesOf(tensors)) {
    if (next == backend.records().size()) break;  // a head that is the embedding
    const RecordingBackend::Record& record = backend.records()[next++];
    if (record.rows == 0) continue;
    std::vector<float> mean;
    for (const double sum : record.squares)
      mean.push_back(static_cast<float>(sum / static_cast<double>(record.rows)));
    for (const BoundTensor* part : parts) {
      const int64_t columns = part->expected.elements() / part->expected.shape.front();
      if (columns == record.k) importance[part->entry->name] = mean;
    }
  }
  return importance;
}

}  // namespace tessera::quantize
