// A Model is a frozen config, strictly bound weights and their wiring; const after load and shared
// by engines.
//
// It knows rows, pages and pictures (batch.h), never a sequence or a request. All memory of a step
// lies in a Workspace made beforehand: Forward and EncodeMedia allocate nothing. One thread at a
// time per Workspace.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/backend.h"
#include "model/batch.h"
#include "model/probe.h"

namespace tessera {

// What rows that see no picture do in cross-attention layers (docs/fidelity.md).
enum class UnseenRows : uint8_t {
  kZero,    // as the model was trained by Meta: the layer leaves them unchanged
  kAttend,  // as Hugging Face transformers computes them: they attend to every picture of the
            // request
};

// What engine and server need to know of a model.
struct ModelInfo {
  std::string family;        // "mllama", "llama"
  std::string architecture;  // "MllamaForConditionalGeneration"
  int vocab_size = 0;        // V, width of the logits
  int embedding_rows = 0;    // ids in [0, embedding_rows) may appear in a prompt
  int max_context = 0;       // tokens, prompt and answer together
  int layers = 0;
  int64_t parameters = 0;
  std::vector<int32_t> eos_ids;  // from config.json
  KvGeometry self_kv;            // page_tokens = kKvBlockTokens
  // Vision; cross_kv.layers == 0 for text models.
  KvGeometry cross_kv;  // page_tokens = tokens of a tile
  int max_tiles = 0;
  int max_aspect_ratio_id =
      0;  // MediaPixels::aspect_ratio_id is 1..this; a processor may know more
  int tile_height = 0, tile_width = 0;
  int32_t image_token_id = -1;
  UnseenRows unseen_rows = UnseenRows::kZero;
  bool skips_padding_tiles = false;  // an approximation, see LoadOptions
  bool has_vision() const { return cross_kv.layers > 0; }
  // Estimates for the scheduler's budget.
  double flops_per_token = 0;  // one row through the text model, cross layers included
};

struct KvPools {
  std::vector<KvLayerView> self;   // one per self-attention layer, in order
  std::vector<KvLayerView> cross;  // one per cross-attention layer, in order
};

struct WorkspaceLimits {
  int max_rows = 0;         // R of a step
  int max_logits_rows = 0;  // L of a step
  int encode_slots = 1;     // pictures that may be half-encoded at the same time
};

// What a workspace will hold, before there is one: numbers of the activation dtype, but for logits.
struct WorkspaceNeed {
  int64_t row = 0;           // for each of max_rows
  int64_t logits_row = 0;    // for each of max_logits_rows, beside its logits
  int64_t logits_width = 0;  // fp32, for each of max_logits_rows
  int64_t encode_slot = 0;   // for each of encode_slots
  int64_t block = 0;         // for the vision tower's block of rows
  int64_t Bytes(const WorkspaceLimits& limits, DType activations) const;
};

class Workspace {
 public:
  virtual ~Workspace() = default;
  virtual size_t bytes() const = 0;
  virtual TensorView logits()
      const = 0;  // [max_logits_rows, V] fp32; rows [0, L) are filled by Forward
};

struct EncodePlan {
  int units = 0;
  double flops_per_unit = 0;
  int cross_kv_begin =
      0;  // units from here on project cross-attention K/V (timed apart from the vision tower)
  int kept_tiles = 0;  // cross pages needed
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;
  virtual size_t weight_bytes() const = 0;
  virtual WeightFormat weight_format() const = 0;  // kAuto where matrices differ

  virtual Result<std::unique_ptr<Workspace>> MakeWorkspace(Backend& backend,
                                                           const WorkspaceLimits& limits) const = 0;

  // Runs all layers over the rows of `batch` and leaves the logits of batch.logits_rows in
  // workspace.logits().
  virtual void Forward(Backend& backend, const Batch& batch, const KvPools& pools,
                       Workspace& workspace, Probe* probe) const = 0;

  // Text models have none: PlanEncode and EncodeMedia are programmer errors there.
  virtual EncodePlan PlanEncode(const MediaPixels& pixels) const = 0;
  virtual void EncodeMedia(Backend& backend, const EncodeSlice& slice, const KvPools& pools,
                           Workspace& workspace, Probe* probe) const = 0;
};

struct LoadOptions {
  WeightFormat format = WeightFormat::kAuto;
  // Unset: tessera.json in the model's directory, else zero.
  std::optional<UnseenRows> unseen_rows;
  // Padding tiles of a picture do not go through the vision tower: faster, and not what the model
  // computes. Not with unseen_rows = attend, which reads them; text models have none.
  bool skip_padding_tiles = false;
  // Where packed weights are kept for the next start, see weight_cache.h; empty: nowhere.
  std::filesystem::path cache_dir;
  DType kv_dtype = DType::kF32;
  // Work of one unit of picture encoding, about and at most that of 16 rows of text: the finest
  // grain at which it can be spread over steps.
  double encode_unit_flops = 4e9;
  // Called now and then with the share of bytes packed, 0..1; may be empty.
  std::function<void(double)> progress;
  // Called with a line that operators should read, e.g. what became of quantised weights; may be
  // empty.
  std::function<void(std::string_view)> note;
};

// Loads a Hugging Face directory: config.json and safetensors. Every missing, extra or wrongly
// shaped tensor, every unknown architecture, rope type or value out of range is one named error.
// Nothing is allocated by a number that the file has not earned. `backend` must outlive the model.
Result<std::unique_ptr<const Model>> LoadModel(const std::filesystem::path& directory,
                                               Backend& backend, const LoadOptions& options);

// Reads config.json alone and checks it, and where weights are quantised the headers of the files:
// for --check-config and for planning memory before anything is allocated.
struct ModelPlan {
  ModelInfo info;
  size_t weight_bytes = 0;  // after packing in the given format
  WorkspaceNeed workspace;
  std::string stored;  // how quantised weights are stored; empty: they are not
};
Result<ModelPlan> PlanModel(const std::filesystem::path& directory, const LoadOptions& options);

}  // namespace tessera
