// Who is calling. Until keys exist there is one tenant, but every call already has a tenant and
// every cache key its salt.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/error.h"

namespace tessera {

struct Tenant {
  std::string id;
  Digest cache_salt;  // mixed into the keys of prefix and picture caches; never from the wire
};

// A value of the call's metadata, by its lower-case key.
using MetadataLookup = std::function<std::optional<std::string_view>(std::string_view key)>;

// Thread-safe.
class Authenticator {
 public:
  virtual ~Authenticator() = default;
  // kUnauthenticated where the caller is nobody we know.
  virtual Result<Tenant> Authenticate(const MetadataLookup& metadata) const = 0;
};

// Everybody is the same tenant. The salt is drawn at start, so that keys cannot be computed
// outside.
class SingleTenant final : public Authenticator {
 public:
  SingleTenant();
  Result<Tenant> Authenticate(const MetadataLookup&) const override { return tenant_; }

 private:
  Tenant tenant_;
};

}  // namespace tessera
