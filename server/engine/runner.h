// ModelRunner: all that the engine asks of a model and its device. The real one (model_runner.h)
// owns pools and workspace; tests inject a fake one, whose answers show whether pages, positions
// and pictures were right.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "model/batch.h"
#include "model/model.h"

namespace tessera {

// The token of a row that was not known when the step was built: the step before this one draws it.
struct DrawnToken {
  int32_t row = 0;   // index into Batch::tokens
  int32_t draw = 0;  // index into Step::sample of the step before
};

struct Step {
  std::vector<EncodeSlice> encode;
  Batch batch;
  std::vector<SampleRow> sample;  // logits_row counts in batch.logits_rows
  std::vector<DrawnToken> drawn;  // ascending by row
};

struct StepResult {
  std::vector<SampleResult> samples;   // as Step::sample
  std::vector<double> encode_seconds;  // as Step::encode: vision tower
  std::vector<double> cross_kv_seconds;
  double forward_seconds = 0;  // layers, head and drawing
  double sample_seconds = 0;   // drawing alone; 0 where steps run behind: not known apart there
  std::optional<Error> error;  // the device is lost: everyone in flight gets UNAVAILABLE
};

using StepHandle = uint64_t;

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  virtual const ModelInfo& info() const = 0;
  virtual int self_pages() const = 0;   // size of the self-attention K/V pool
  virtual int cross_pages() const = 0;  // size of the cross-attention K/V pool, in tiles
  virtual int max_rows() const = 0;     // R of a step
  virtual int max_logits_rows() const = 0;
  virtual int encode_slots() const = 0;
  virtual EncodePlan PlanEncode(const MediaPixels& pixels) const = 0;

  // Whether Submit returns before the step is done, so that another may be submitted meanwhile.
  virtual bool runs_behind() const { return false; }

  // `step` and what its spans point to must live until Wait returns. Steps run in the order of
  // Submit, and are waited for in that order; where runs_behind() is false Submit computes and Wait
  // returns at once. At most two steps are in flight. Either may throw what the step throws; a step
  // whose `drawn` tokens were never drawn throws too. A token that was drawn invalid stands as 0.
  virtual StepHandle Submit(const Step& step) = 0;
  virtual StepResult Wait(StepHandle handle) = 0;
};

}  // namespace tessera
