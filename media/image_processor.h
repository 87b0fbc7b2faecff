// From decoded RGB to what a vision tower reads: the part of Hugging Face's image processors that a
// model directory chooses by preprocessor_config.json.
//
// A processor keeps pictures as resized and padded uint8: rescaling and normalising are a look-up
// of 256 values per channel, done where the model needs floats, so a waiting picture costs a
// quarter of its float tensor. A new processor is one file and one row of the registry in
// image_processor.cc.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "media/digest.h"
#include "media/resize.h"
#include "media/tier.h"

namespace tessera {

// [channel][level]: the exact float32 pixel value of each uint8 level.
using PixelLut = std::array<std::array<float, 256>, 3>;

// One processed picture. Copyable; plain data.
struct ProcessedImage {
  std::vector<uint8_t>
      tiles;  // [tiles_used, 3, tile_height, tile_width], tiles row by row from the top left
  int tile_height = 0;
  int tile_width = 0;
  int tiles_high = 0;
  int tiles_wide = 0;
  int max_tiles =
      0;  // the model's: tiles_used .. max_tiles - 1 are padding tiles, 0.0 in every pixel
  int aspect_ratio_id = 0;  // mllama: 1-based number of (tiles_high, tiles_wide); else 0
  PixelLut lut{};
  MediaTier tier = BestMediaTier();  // the loops of PixelValues

  int tiles_used() const { return tiles_high * tiles_wide; }
  // mllama's aspect_ratio_mask, [max_tiles]: 1 for used tiles.
  std::vector<int64_t> AspectRatioMask() const;
  // Floats of all max_tiles tiles, [max_tiles, 3, tile_height, tile_width]: Hugging Face's
  // pixel_values of this picture.
  std::vector<float> PixelValues() const;
  // The same into memory of the caller's, of that size.
  void PixelValues(std::span<float> out) const;
};

// What is known of a picture from its size alone, so that a request can be priced before it is
// decoded.
struct TileLayout {
  int tiles_high = 0;
  int tiles_wide = 0;
  int resized_height = 0;  // of the picture within the tiles, before padding
  int resized_width = 0;
  int aspect_ratio_id = 0;
};

// Thread-safe: const. use_tier is for who has just made it.
class ImageProcessor {
 public:
  virtual ~ImageProcessor() = default;

  virtual std::string_view type() const = 0;  // "MllamaImageProcessor"
  virtual int max_tiles() const = 0;
  virtual int tile_height() const = 0;
  virtual int tile_width() const = 0;
  // SHA-256 of the type and every effective setting: two processors with one fingerprint treat
  // pictures alike.
  virtual const Digest& fingerprint() const = 0;
  // Which loops: one of MediaTiers(). The pixels are the same.
  MediaTier tier() const { return tier_; }
  void use_tier(MediaTier tier) { tier_ = tier; }

  // Sizes at least 1. kInvalidArgument where this processor cannot take a picture of that size.
  virtual Result<TileLayout> LayoutOf(int width, int height) const = 0;
  // Pixels of a DecodedImage. Errors are LayoutOf's.
  Result<ProcessedImage> Process(RgbView image) const {
    TESSERA_TRY(const TileLayout layout, LayoutOf(image.width, image.height));
    return Process(image, layout);
  }
  // The same where the picture was decoded smaller than it is: `layout` is that of its full size.
  virtual ProcessedImage Process(RgbView image, const TileLayout& layout) const = 0;

 private:
  MediaTier tier_ = BestMediaTier();
};

// The settings as a JSON object, `image_processor_type` among them (with or without Hugging Face's
// suffixes Fast and Pil; the old `feature_extractor_type` too). `model_type` (config.json's)
// decides where the settings name no type. Errors name the JSON key, what is allowed and what was
// found; an unknown type lists those this build has.
Result<std::unique_ptr<ImageProcessor>> MakeImageProcessor(const nlohmann::ordered_json& settings,
                                                           std::string_view model_type = {});

// From a model directory: processor_config.json's `image_processor` if it has one, else
// preprocessor_config.json, as transformers 5 looks for them. kNotFound where the directory has
// neither.
Result<std::unique_ptr<ImageProcessor>> LoadImageProcessor(const std::filesystem::path& model_dir);

// The types of the registry: {"MllamaImageProcessor", ...}.
std::vector<std::string_view> ImageProcessorTypes();

}  // namespace tessera
