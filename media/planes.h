// What happens to each pixel after the resize: channels apart, levels to floats. Internal to
// media/.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "media/tier.h"

namespace tessera::media {

// 3 * count bytes RGBRGB... to three planes. The tier is one that the machine has.
void SplitChannels(const uint8_t* rgb, size_t count, uint8_t* red, uint8_t* green, uint8_t* blue,
                   MediaTier tier = BestMediaTier());

// out[i] = values[levels[i]].
void LookUp(const std::array<float, 256>& values, const uint8_t* levels, size_t count, float* out,
            MediaTier tier = BestMediaTier());

}  // namespace tessera::media
