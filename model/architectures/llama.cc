// LlamaForCausalLM: the text model alone.
#include "base/check.h"
#include "model/architectures/architectures.h"
#include "model/text_model.h"

namespace tessera {
namespace {

class LlamaWorkspace final : public Workspace {
 public:
  explicit LlamaWorkspace(TextWorkspace text) : text(std::move(text)) {}
  size_t bytes() const override { return text.bytes(); }
  TensorView logits() const override { return text.logits; }

  TextWorkspace text;
};

class LlamaModel final : public Model {
 public:
  static Result<std::unique_ptr<const Model>> Make(LoadedParts parts, Backend& backend) {
    std::unique_ptr<LlamaModel> model(new LlamaModel(std::move(parts)));
    TESSERA_TRY(TextModel text,
                TextModel::Make(backend, model->parts_.config.text, model->parts_.weights));
    model->text_.emplace(std::move(text));
    return model;
  }

  const ModelInfo& info() const override { return parts_.info; }
  size_t weight_bytes() const override { return parts_.weights.bytes() + text_->table_bytes(); }
  WeightFormat weight_format() const override { return parts_.weights.format(); }

  Result<std::unique_ptr<Workspace>> MakeWorkspace(Backend& backend,
                                                   const WorkspaceLimits& limits) const override {
    ScratchLimits scratch;
    TextModel::AddScratchLimits(parts_.config.text, limits, scratch);
    TESSERA_RETURN_IF_ERROR(backend.Reserve(scratch));
    TESSERA_TRY(TextWorkspace text, TextWorkspace::Make(backend, parts_.config.text, limits));
    return std::make_unique<LlamaWorkspace>(std::move(text));
  }

  void Forward(Backend& backend, const Batch& batch, const KvPools& pools, Workspace& workspace,
               Probe* probe) const override {
    TESSERA_CHECK(batch.cross_rows.empty(), "LlamaForCausalLM: cross rows: expected none, got {}",
                  batch.cross_rows.size());
    text_->Forward(backend, batch, pools, static_cast<LlamaWorkspace&>(workspace).text, probe);
  }

  EncodePlan PlanEncode(const MediaPixels&) const override {
    TESSERA_CHECK(false, "LlamaForCausalLM encodes no pictures");
    return {};
  }
  void EncodeMedia(Backend&, const EncodeSlice&, const KvPools&, Workspace&,
                   Probe*) const override {
    TESSERA_CHECK(false, "LlamaForCausalLM encodes no pictures");
  }

 private:
  explicit LlamaModel(LoadedParts parts) : parts_(std::move(parts)) {}

  const LoadedParts parts_;
  std::optional<TextModel> text_;  // points into parts_; set once by Make
};

}  // namespace

Result<std::unique_ptr<const Model>> MakeLlama(LoadedParts parts, Backend& backend) {
  return LlamaModel::Make(std::move(parts), backend);
}

}  // namespace tessera
