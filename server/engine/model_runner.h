// The product's ModelRunner: a loaded model on a backend, with its pools and workspace.
#pragma once

#include <memory>

#include "base/error.h"
#include "kernels/backend.h"
#include "model/model.h"
#include "server/engine/kv_pool.h"
#include "server/engine/runner.h"

namespace tessera {

struct ModelRunnerOptions {
  PoolSizes pools;
  int max_rows = 512;        // R of a step
  int max_logits_rows = 64;  // L of a step: choices that can run at the same time
  Probe* probe = nullptr;    // must outlive the runner; called on the engine's thread
  // Steps on a thread of their own, so that the engine plans the next one and puts the answers of
  // the last one together meanwhile (engine_ahead.cc); not where somebody probes.
  bool run_behind = false;
};

// Allocates everything that steps need; afterwards nothing is allocated on the device. The model
// was loaded with `backend`. info().max_context is the model's, or what the self pool holds if that
// is less. Errors: RESOURCE_EXHAUSTED with the sizes.
Result<std::unique_ptr<ModelRunner>> MakeModelRunner(std::unique_ptr<Backend> backend,
                                                     std::shared_ptr<const Model> model,
                                                     const ModelRunnerOptions& options);

}  // namespace tessera
