// Who may call what: every method of every service this server has, in one table. A method that is
// not in the table is not served, and a test walks all services by their descriptors.
//
// Thread safety: constant data.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tessera {

enum class Access : uint8_t {
  kOpen,        // anybody: health, which probes ask without credentials
  kTenant,      // needs a tenant from the Authenticator
  kReflection,  // served by gRPC's own plugin, only on loopback or by --reflection
};

enum class Admission : uint8_t {
  kAlways,   // also while loading and draining
  kServing,  // only while a model is there and the server takes work
  kQueue,    // and only while there is room in the queue
};

struct MethodPolicy {
  std::string_view method;  // "/package.Service/Method"
  Access access;
  Admission admission;
};

std::span<const MethodPolicy> MethodPolicies();
const MethodPolicy* FindPolicy(std::string_view method);  // nullptr: not served

}  // namespace tessera
