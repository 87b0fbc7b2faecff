// Holds a model to its golden, through the product's own path (docs/fidelity.md).
#pragma once

#include <filesystem>

#include "base/error.h"
#include "kernels/dtype.h"
#include "kernels/factory.h"
#include "server/golden/report.h"

namespace tessera::verify {

struct ModelCaseOptions {
  std::filesystem::path model;
  std::filesystem::path golden;  // empty: the model's directory
  BackendOptions backend;
  WeightFormat weights = WeightFormat::kAuto;
};

// Adds a row per case and stage. An error: model or golden cannot be loaded.
Result<void> CheckModelCases(const ModelCaseOptions& options, Report& report);

}  // namespace tessera::verify
