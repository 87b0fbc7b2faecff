// The gRPC server: sockets, HTTP/2 limits, metadata, deadlines, statuses. The only header of
// server/wire behind which gRPC lives; handlers see server/wire/call.h.
//
// All methods are dispatched by name through the policy table (policy.h), so that none can be
// served without a policy; unknown ones get UNIMPLEMENTED with a message. Messages are read only
// after a call has been let in, and only for a limited time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "server/wire/auth.h"
#include "server/wire/call.h"

namespace tessera {

struct GrpcServerOptions {
  std::string address = "127.0.0.1:0";  // port 0: any free one
  bool reflection = true;
  std::chrono::milliseconds default_deadline{120'000};  // where the client sets none
  std::chrono::milliseconds message_timeout{30'000};    // from headers to the whole request message
  int64_t memory = int64_t{1} << 30;  // gRPC's buffers of all connections together
};

class GrpcServer {
 public:
  // Listens. Errors: the address cannot be bound (kUnavailable). `authenticator` must outlive the
  // server.
  static Result<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options,
                                                   const Authenticator& authenticator,
                                                   HandlerFactory handlers);
  // Shuts down at once, if Shutdown has not been called.
  ~GrpcServer();

  int port() const;
  // Stops accepting, gives calls in flight `grace` to finish, then cancels them. Returns when all
  // are done.
  void Shutdown(std::chrono::milliseconds grace);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// "1.51.1".
std::string GrpcVersion();

}  // namespace tessera
