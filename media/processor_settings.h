// Typed reading of preprocessor_config.json, with errors that name the key. Internal to media/.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "media/image_processor.h"
#include "media/resize.h"

namespace tessera::media {

using Json = nlohmann::ordered_json;

// Sides that a tensor of a vision tower may have; more is a broken file.
inline constexpr int64_t kMostSide = 8192;

// `size` or `crop_size` in the forms transformers knows. Unset members were not given.
struct SizeSetting {
  std::optional<int> height, width, shortest_edge, longest_edge;
};

// Absent keys and nulls take the default, as in transformers' _set_attributes.
Result<bool> ReadFlag(const Json& settings, const char* key, bool fallback);
Result<int> ReadCount(const Json& settings, const char* key, int fallback, int64_t most);
Result<double> ReadNumber(const Json& settings, const char* key, double fallback);
Result<Resample> ReadResample(const Json& settings, Resample fallback);
// `square`: what a bare number means, both sides or the shortest edge.
Result<SizeSetting> ReadSize(const Json& settings, const char* key, bool square,
                             const SizeSetting& fallback);

// The steps after the picture has its size, common to all processors.
struct PixelSettings {
  bool do_rescale = true;
  double rescale_factor = 1.0 / 255;
  bool do_normalize = true;
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::array<double, 3> std{0.5, 0.5, 0.5};

  // float32 values as numpy computes them: level * factor in float64, rounded; then (value - mean)
  // / std in float32.
  PixelLut MakeLut() const;
  void AddTo(DigestBuilder& digest) const;
};

// `defaults` hold the processor class's own mean and std.
Result<PixelSettings> ReadPixelSettings(const Json& settings, const PixelSettings& defaults);

// Rows of a picture, interleaved and from the top, into planar tiles [tiles_high * tiles_wide, 3,
// tile_height, tile_width], the picture at the top left, zeros elsewhere.
class TileWriter {
 public:
  TileWriter(int tiles_high, int tiles_wide, int tile_height, int tile_width, MediaTier tier);
  // Row `y` of the picture, which fits into the tiles.
  void Write(int y, const uint8_t* rgb, int width);
  std::vector<uint8_t> Take() { return std::move(tiles_); }

 private:
  const int tiles_wide_, tile_height_, tile_width_;
  const MediaTier tier_;
  std::vector<uint8_t> tiles_;
};

// Makers of the registry. `type` is the canonical name.
Result<std::unique_ptr<ImageProcessor>> MakeMllamaProcessor(std::string_view type,
                                                            const Json& settings);
Result<std::unique_ptr<ImageProcessor>> MakeClipProcessor(std::string_view type,
                                                          const Json& settings);
Result<std::unique_ptr<ImageProcessor>> MakeVitProcessor(std::string_view type,
                                                         const Json& settings);

}  // namespace tessera::media
