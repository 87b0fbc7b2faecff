#include "media/tier.h"

#include <algorithm>

#include "base/cpu_features.h"

namespace tessera {

std::vector<MediaTier> MediaTiers() {
  std::vector<MediaTier> tiers;
  for (const MediaTier tier : {MediaTier::kPlain, MediaTier::kAvx2, MediaTier::kAvx512})
    if (tier <= BestMediaTier()) tiers.push_back(tier);
  return tiers;
}

MediaTier BestMediaTier() {
  static const CpuFeatures features = DetectCpuFeatures();
  if (features.avx512 && features.avx512_vbmi && features.avx512_vnni) return MediaTier::kAvx512;
  return features.avx2 ? MediaTier::kAvx2 : MediaTier::kPlain;
}

MediaTier MediaTierOf(std::string_view cpu_isa) {
  const MediaTier wanted = cpu_isa == "reference" ? MediaTier::kPlain
                           : cpu_isa == "avx2"    ? MediaTier::kAvx2
                                                  : MediaTier::kAvx512;
  return std::min(wanted, BestMediaTier());
}

}  // namespace tessera
