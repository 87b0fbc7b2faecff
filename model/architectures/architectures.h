// What an architecture's wiring is made from. One file an architecture; model/registry.cc lists
// them.
#pragma once

#include <memory>

#include "base/error.h"
#include "model/config.h"
#include "model/model.h"
#include "model/weights.h"

namespace tessera {

struct LoadedParts {
  ModelConfig config;
  ModelInfo info;
  Weights weights;
  double encode_unit_flops = 0;
};

Result<std::unique_ptr<const Model>> MakeLlama(LoadedParts parts, Backend& backend);
Result<std::unique_ptr<const Model>> MakeMllama(LoadedParts parts, Backend& backend);

}  // namespace tessera
