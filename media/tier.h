// The instructions that loops over pixels are made of; the results are the same bits.
#pragma once

#include <string_view>
#include <vector>

namespace tessera {

enum class MediaTier {
  kPlain,
  kAvx2,
  kAvx512,  // BW, VL, VBMI and VNNI
};

// What this machine has, the fastest last.
std::vector<MediaTier> MediaTiers();
// The last of them.
MediaTier BestMediaTier();
// That of --cpu-isa: "auto", "reference", "avx2", "avx512" or "amx". At most what this machine has.
MediaTier MediaTierOf(std::string_view cpu_isa);

}  // namespace tessera
