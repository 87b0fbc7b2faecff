// A model that a device serves as the server runs it, and requests for it.
#pragma once

#include <cstdint>
#include <memory>

#include "base/error.h"
#include "kernels/factory.h"
#include "model/model.h"
#include "server/engine/model_runner.h"
#include "server/engine/request.h"

namespace tessera::testing {

// mllama-odd, on the emulated GPU.
Result<std::unique_ptr<ModelRunner>> LoadServed(const BackendOptions& options = {
                                                    .device = "cuda-emulated"});

struct ServedWant {
  bool picture = false;
  int tokens = 3;
};
// Words and picture are functions of `seed`.
std::shared_ptr<PreparedRequest> ServedRequest(const ModelInfo& info, uint64_t seed,
                                               const ServedWant& want);

}  // namespace tessera::testing
