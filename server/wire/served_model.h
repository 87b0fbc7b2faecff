// A model as the wire sees it: its name, what prepares its requests, the engine that runs them, and
// facts for GetModel.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>

#include "base/error.h"
#include "server/engine/engine.h"
#include "server/prepare/frontend.h"

namespace tessera {

// An engine that can be stopped while calls still hold it. Thread-safe.
class EngineHandle {
 public:
  explicit EngineHandle(std::unique_ptr<Engine> engine)
      : engine_(std::move(engine)), stats_(engine_->stats()) {}

  Result<RequestHandle> Submit(std::shared_ptr<const PreparedRequest> request,
                               std::shared_ptr<EventStream> stream) {
    const std::shared_lock lock(mu_);
    if (engine_ == nullptr) return Fail(ErrorCode::kUnavailable, "the server is shutting down");
    return engine_->Submit(std::move(request), std::move(stream));
  }
  void Cancel(RequestHandle handle) {
    const std::shared_lock lock(mu_);
    if (engine_ != nullptr) engine_->Cancel(handle);
  }
  void BeginDrain() {
    const std::shared_lock lock(mu_);
    if (engine_ != nullptr) engine_->BeginDrain();
  }
  bool Drained() const {
    const std::shared_lock lock(mu_);
    return engine_ == nullptr || engine_->Drained();
  }
  bool healthy() const {
    const std::shared_lock lock(mu_);
    return engine_ != nullptr && engine_->healthy();
  }
  EngineStats stats() const {  // after Stop: the last ones
    const std::shared_lock lock(mu_);
    return engine_ != nullptr ? engine_->stats() : stats_;
  }
  // Everybody in flight gets one UNAVAILABLE.
  void Stop() {
    const std::unique_lock lock(mu_);
    if (engine_ == nullptr) return;
    stats_ = engine_->stats();
    engine_.reset();
  }

 private:
  mutable std::shared_mutex mu_;
  std::unique_ptr<Engine> engine_;  // guarded by mu_
  EngineStats stats_;               // guarded by mu_
};

struct ModelFacts {
  std::string device, tier, gemm, graphs;
  int threads = 0;
  std::string weights, activations, kv_dtype;
  bool batch_invariant = true;
  int64_t weight_bytes = 0;
  int64_t self_pool_bytes = 0, cross_pool_bytes = 0;
};

struct ServedModel {
  std::string name;
  std::shared_ptr<const Frontend> frontend;
  std::shared_ptr<EngineHandle> engine;
  ModelFacts facts;
};

}  // namespace tessera
