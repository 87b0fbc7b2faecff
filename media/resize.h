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
#include <optional>
#include <span>
#include <vector>

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

// Returns [height, width, 3]. Thread-safe; runs on the calling thread. All sizes must be at least 1
// (a programmer error otherwise). Memory besides the result: the picture between the passes, at
// most max(width * image.height, image.width * height) * 3 bytes, and the coefficient tables, about
// 8 * support bytes per source column and row.
std::vector<uint8_t> Resize(RgbView image, int width, int height, Resample resample);

}  // namespace tessera
