// The service tessera.v1.Tessera and health, behind the transport: which calls are let in, which
// handler each gets, which models there are.
//
// States: loading (no model yet), serving, draining. Calls that need a model are UNAVAILABLE
// outside of serving.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/error.h"
#include "server/prepare/preparer.h"
#include "server/wire/call.h"
#include "server/wire/event_pump.h"
#include "server/wire/health.h"
#include "server/wire/request_record.h"
#include "server/wire/served_model.h"

namespace tessera {

struct ServiceOptions {
  int max_queue = 256;  // requests in preparation and waiting in the engine
  int64_t max_pending_bytes = int64_t{1} << 30;  // request messages in preparation, together
};

// Thread-safe. `preparer` must outlive it. Destroy it after the transport is shut down and the
// engines are stopped; the destructor waits for the handlers that are left.
class Service {
 public:
  Service(const ServiceOptions& options, Preparer& preparer, RequestSink sink);
  ~Service();

  // For the transport.
  HandlerFactory Handlers();

  // From loading to serving.
  void SetModel(std::shared_ptr<const ServedModel> model);
  // NOT_SERVING for good; calls are still let in until StopAccepting.
  void AnnounceDrain();
  void StopAccepting();
  // The engine lost its device.
  void SetUnhealthy() { health_.SetServing(false); }

  // Generate calls that are not over: in preparation, and all.
  int preparing() const { return preparing_; }
  int in_flight() const;

  // ---- for handlers
  Result<std::shared_ptr<const ServedModel>> FindModel(const std::string& name) const;
  std::vector<std::shared_ptr<const ServedModel>> models() const;
  // Why a call that needs a model is refused now.
  Result<void> CheckServing() const;
  // Takes a message's bytes into the count of those in preparation; kResourceExhausted beyond the
  // limit.
  Result<void> Reserve(int64_t bytes);
  void Release(int64_t bytes) { pending_bytes_ -= bytes; }
  void Record(const RequestRecord& record);
  void CountRefused() { ++refused_; }
  int64_t refused() const { return refused_; }
  void Enter();
  void Leave();
  void EndPreparation() { --preparing_; }
  Preparer& preparer() { return preparer_; }
  EventPump& pump() { return pump_; }
  const ServiceOptions& options() const { return options_; }

 private:
  Result<std::shared_ptr<CallHandler>> Make(const MethodPolicy& method, std::shared_ptr<Call> call);
  Result<void> Admit(const MethodPolicy& method);

  const ServiceOptions options_;
  Preparer& preparer_;
  const RequestSink sink_;
  Health health_;
  std::atomic<int> preparing_{0};
  std::atomic<int64_t> pending_bytes_{0};
  std::atomic<int64_t> refused_{0};

  mutable std::mutex mu_;
  mutable std::condition_variable left_;
  std::vector<std::shared_ptr<const ServedModel>> models_;  // guarded by mu_
  bool draining_ = false;                                   // guarded by mu_
  int in_flight_ = 0;                                       // guarded by mu_
  EventPump pump_;                                          // last: its thread uses the others
};

}  // namespace tessera
