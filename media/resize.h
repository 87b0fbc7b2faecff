// Pillow's Image.resize, bit for bit, on 8-bit RGB.
//
// Antialiased convolution in two passes with the filter's support growing with the scale when
// shrinking; coefficients in fixed point with 22 fractional bits, results rounded and clamped to
// uint8 between the passes; a pass whose size does not change is left out. The horizontal pass
// comes first, except (from Pillow 13.0 on) where the height loses more than twice as many pixels
// as the width: the order shows in the rounding. `kNearest` samples pixel centres, convolving
// nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "media/tier.h"

namespace tessera {

// Pillow's numbers, as `resample` in a preprocessor_config.json has them.
enum class Resample {
  kNearest = 0,
  kLanczos = 1,
  kBilinear = 2,
  kBicubic = 3,
  kBox = 4,
  kHamming = 5
};

std::optional<Resample> ResampleFromId(int64_t id);

// A picture that somebody else owns. `pixels` holds height * width * 3 bytes, rows without padding.
struct RgbView {
  int width = 0;
  int height = 0;
  std::span<const uint8_t> pixels;
};

// Takes row y of the result, width * 3 bytes, which are gone when it returns.
using ResizedRow = std::function<void(int y, const uint8_t* row)>;

// Makes the rows of the result from the top, each once. Thread-safe; runs on the calling thread.
// All sizes must be at least 1 (a programmer error otherwise). Memory: as many rows as one row of
// the result reads of those between the passes (or four of the result), and the coefficient tables,
// about 8 * support bytes per source column and row.
void ResizeRows(RgbView image, int width, int height, Resample resample, const ResizedRow& take,
                MediaTier tier = BestMediaTier());

// All rows: [height, width, 3].
std::vector<uint8_t> Resize(RgbView image, int width, int height, Resample resample,
                            MediaTier tier = BestMediaTier());

}  // namespace tessera
