// One call, without gRPC's types: what the transport (grpc_server.cc) and our handlers see of each
// other.
//
// Order of a call: a factory makes the handler as soon as the headers are there; OnRequest with the
// one message; any number of Write, each answered by OnWritten before the next; one Finish.
// OnCancelled may come at any time between.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "server/prepare/input.h"
#include "server/wire/payload.h"
#include "server/wire/policy.h"
#include "server/wire/status_map.h"

namespace tessera {

// The transport's half. Any thread; nothing here waits for the client.
class Call {
 public:
  virtual ~Call() = default;
  virtual const CallIdentity& identity() const = 0;
  // A serialised message. At most one outstanding. After Finish or a cancellation: does nothing,
  // and no OnWritten comes.
  virtual void Write(std::string message) = 0;
  // Ends the call, after a Write that is outstanding. The first one counts.
  virtual void Finish(const WireStatus& status) = 0;
};

// Our half. The transport calls it from its threads, OnRequest and OnWritten never at the same
// time. What it throws ends the call as INTERNAL.
class CallHandler {
 public:
  virtual ~CallHandler() = default;
  virtual void OnRequest(std::unique_ptr<Payload> payload) = 0;
  virtual void OnWritten() {}
  // The client went away or its deadline passed. The transport finishes the call; nothing more can
  // be sent.
  virtual void OnCancelled() {}
};

// Refuses a call by an error before its message is read, or makes its handler.
using HandlerFactory = std::function<Result<std::shared_ptr<CallHandler>>(
    const MethodPolicy& method, std::shared_ptr<Call> call)>;

}  // namespace tessera
