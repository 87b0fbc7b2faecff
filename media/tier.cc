#include "media/tier.h"

namespace tessera {
namespace {

bool HasAvx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

bool HasAvx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace

std::vector<MediaTier> MediaTiers() {
  std::vector<MediaTier> tiers;
  for (const MediaTier tier : {MediaTier::kPlain, MediaTier::kAvx2, MediaTier::kAvx512})
    if (tier <= BestMediaTier()) tiers.push_back(tier);
  return tiers;
}

MediaTier BestMediaTier() {
  if (!HasAvx2()) return MediaTier::kPlain;
  return HasAvx512() ? MediaTier::kAvx512 : MediaTier::kAvx2;
}

}  // namespace tessera
