#include "server/wire/auth.h"

#include <random>

#include "media/digest.h"

namespace tessera {

SingleTenant::SingleTenant() {
  std::random_device random;
  DigestBuilder builder;
  builder.Add("tessera cache salt").Add(tenant_.id);
  for (int i = 0; i < 8; ++i) builder.Add(static_cast<int64_t>(random()));
  tenant_.cache_salt = builder.Finish();
}

}  // namespace tessera
