// MllamaForConditionalGeneration (Llama 3.2 Vision): vision tower, projector, text model with
// cross-attention layers.
#include "base/check.h"
#include "model/architectures/architectures.h"
#include "model/text_model.h"
#include "model/vision_model.h"

namespace tessera {
namespace {

class MllamaWorkspace final : public Workspace {
 public:
  MllamaWorkspace(TextWorkspace text, VisionWorkspace vision)
      : text(std::move(text)), vision(std::move(vision)) {}
  size_t bytes() const override { return text.bytes() + vision.bytes(); }
  TensorView logits() const override { return text.logits; }

  TextWorkspace text;
  VisionWorkspace vision;
};

class MllamaModel final : public Model {
 public:
  static Result<std::unique_ptr<const Model>> Make(LoadedParts parts, Backend& backend) {
    std::unique_ptr<MllamaModel> model(new MllamaModel(std::move(parts)));
    const ModelConfig& config = model->parts_.config;
    TESSERA_TRY(TextModel text, TextModel::Make(backend, config.text, model->parts_.weights));
    model->text_.emplace(std::move(text));
    model->vision_.emplace(*config.vision, config.text, model->parts_.weights,
                           model->parts_.encode_unit_flops, model->parts_.info.skips_padding_tiles);
    return model;
  }

  const ModelInfo& info() const override { return parts_.info; }
  size_t weight_bytes() const override { return parts_.weights.bytes() + text_->table_bytes(); }
  WeightFormat weight_format() const override { return parts_.weights.format(); }

  Result<std::unique_ptr<Workspace>> MakeWorkspace(Backend& backend,
                                                   const WorkspaceLimits& limits) const override {
    const ModelConfig& config = parts_.config;
    ScratchLimits scratch;
    TextModel::AddScratchLimits(config.text, limits, scratch);
    VisionModel::AddScratchLimits(*config.vision, config.text, scratch);
    TESSERA_RETURN_IF_ERROR(backend.Reserve(scratch));
    TESSERA_TRY(TextWorkspace text, TextWorkspace::Make(backend, config.text, limits));
    TESSERA_TRY(VisionWorkspace vision,
                VisionWorkspace::Make(backend, *config.vision, config.text, limits.encode_slots));
    return std::make_unique<MllamaWorkspace>(std::move(text), std::move(vision));
  }

  void Forward(Backend& backend, const Batch& batch, const KvPools& pools, Workspace& workspace,
               Probe* probe) const override {
    text_->Forward(backend, batch, pools, static_cast<MllamaWorkspace&>(workspace).text, probe);
  }

  EncodePlan PlanEncode(const MediaPixels& pixels) const override {
    const VisionSchedule& schedule = ScheduleOf(pixels);
    return {.units = schedule.units(),
            .flops_per_unit = schedule.flops() / schedule.units(),
            .cross_kv_begin = schedule.cross_kv_begin(),
            .kept_tiles = schedule.kept_tiles()};
  }

  void EncodeMedia(Backend& backend, const EncodeSlice& slice, const KvPools& pools,
                   Workspace& workspace, Probe* probe) const override {
    const VisionConfig& config = *parts_.config.vision;
    const MediaPixels& pixels = *slice.pixels;
    TESSERA_CHECK(pixels.height == config.tile_size && pixels.width == config.tile_size,
                  "EncodeMedia: tile: expected {0}x{0}, got {1}x{2}", config.tile_size,
                  pixels.height, pixels.width);
    TESSERA_CHECK(pixels.aspect_ratio_id >= 1 && pixels.aspect_ratio_id <= config.aspect_ratios,
                  "EncodeMedia: aspect ratio id: expected 1..{}, got {}", config.aspect_ratios,
                  pixels.aspect_ratio_id);
    vision_->Encode(backend, slice, ScheduleOf(pixels), text_->cross_layers(), pools,
                    static_cast<MllamaWorkspace&>(workspace).vision, probe);
  }

 private:
  explicit MllamaModel(LoadedParts parts) : parts_(std::move(parts)) {}

  // Rows that see no picture attend to padding tiles too (as transformers computes it), so those
  // are kept then.
  const VisionSchedule& ScheduleOf(const MediaPixels& pixels) const {
    const bool all = parts_.info.unseen_rows == UnseenRows::kAttend;
    return vision_->schedule(all ? parts_.config.vision->max_tiles : pixels.used_tiles);
  }

  const LoadedParts parts_;
  std::optional<TextModel> text_;  // both point into parts_; set once by Make
  std::optional<VisionModel> vision_;
};

}  // namespace

Result<std::unique_ptr<const Model>> MakeMllama(LoadedParts parts, Backend& backend) {
  return MllamaModel::Make(std::move(parts), backend);
}

}  // namespace tessera
