// How much each column of a model's matrices counts, from running a text through the model.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/factory.h"
#include "model/tensor_table.h"

namespace tessera::quantize {

struct CalibrationSettings {
  std::filesystem::path model, text;
  int tokens = 8192, window = 512;  // of the text, and that see each other
  // Of the model that runs: int4 takes no more memory than the result will.
  WeightFormat weights = WeightFormat::kInt4;
  BackendOptions backend;
};

// Mean squares of the activations that meet each column, by tensor name. Matrices that the text
// never meets (a vision tower's) are not there. Errors: what loading the model says; a text that
// cannot be read or is too short.
Result<std::map<std::string, std::vector<float>>> Calibrate(
    const CalibrationSettings& settings, const std::vector<BoundTensor>& tensors);

}  // namespace tessera::quantize
