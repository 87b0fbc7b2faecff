// grpc.health.v1: whether this server takes work, as a question (Check) and as a subscription
// (Watch).
//
// Our own rather than gRPC's default service, so that a server that is still loading is NOT_SERVING
// from its first microsecond, and every method goes through one policy table.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string_view>

#include "base/error.h"
#include "server/wire/call.h"

namespace tessera {

class HealthWatch;

// Thread-safe. Known services: "" (the whole server) and "tessera.v1.Tessera", always in the same
// state.
class Health {
 public:
  // Starts NOT_SERVING. Tells everybody who watches; after Shutdown it stays NOT_SERVING.
  void SetServing(bool serving);
  void Shutdown();
  bool serving() const;

  std::shared_ptr<CallHandler> Check(std::shared_ptr<Call> call);
  std::shared_ptr<CallHandler> Watch(std::shared_ptr<Call> call);

  static bool Known(std::string_view service);

 private:
  friend class HealthWatch;
  void Set(bool serving, bool for_good);

  mutable std::mutex mu_;
  bool serving_ = false;                           // guarded by mu_
  bool for_good_ = false;                          // guarded by mu_
  std::list<std::weak_ptr<HealthWatch>> watches_;  // guarded by mu_
};

}  // namespace tessera
