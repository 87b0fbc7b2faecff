// Runs a model alone over one prompt at a time, without an engine: its own pools and block tables,
// prefill in chunks, then greedy decoding. Tests use it to hold models to their goldens.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/backend.h"
#include "kernels/factory.h"
#include "model/model.h"
#include "tests/model/golden_data.h"

namespace tessera::test {

struct DriverOptions {
  BackendOptions backend{.device = "cpu"};
  LoadOptions load;
  int max_rows = 64;
  int max_tokens = 256;  // of a sequence, prompt and answer
  int max_images = 4;
};

// Keeps the tensors whose names it was asked for.
class RecordingProbe final : public Probe {
 public:
  explicit RecordingProbe(std::vector<std::string> names) : names_(std::move(names)) {}
  bool Wants(std::string_view name) const override;
  void Take(std::string_view name, const TensorView& host) override;  // appends

  std::map<std::string, std::vector<float>, std::less<>> taken;

 private:
  std::vector<std::string> names_;
};

struct PromptResult {
  std::vector<float> logits;         // [T, V], every position of the prompt
  std::vector<float> vision_hidden;  // [images, kept, P, C_v]
  std::vector<float> projected;      // [images, kept, P, C]
  std::vector<int> kept_tiles;       // of each image
  std::vector<int32_t> greedy_ids;
  std::vector<float> greedy_last_logits;  // [V]
};

class ModelDriver {
 public:
  static Result<std::unique_ptr<ModelDriver>> Load(const std::filesystem::path& directory,
                                                   const DriverOptions& options);

  // `chunk`: rows of a prefill step; `slice`: units of an EncodeSlice, 0: all at once.
  PromptResult Run(const GoldenCase& c, int new_tokens, int chunk, int slice);

  const Model& model() const { return *model_; }
  Backend& backend() { return *backend_; }

 private:
  ModelDriver(const DriverOptions& options, std::unique_ptr<Backend> backend,
              std::unique_ptr<const Model> model);
  Result<void> MakePools();
  void Encode(const GoldenCase& c, int slice, PromptResult& result);
  void AddRows(const GoldenCase& c, std::span<const int32_t> tokens, int first_position,
               Batch& batch) const;
  void AddCrossRow(const GoldenCase& c, int row, int position, Batch& batch) const;

  const DriverOptions options_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<const Model> model_;
  std::unique_ptr<Workspace> workspace_;
  std::vector<Tensor> storage_;
  KvPools pools_;
  std::vector<int32_t> self_pages_;               // of the one sequence, deliberately not in order
  std::vector<std::vector<int32_t>> tile_pages_;  // of each image of the current prompt
};

}  // namespace tessera::test
