// Hugging Face's MllamaImageProcessor, Pillow variant: the picture is fitted into the arrangement
// of square tiles that shrinks it least, padded with zeros at the right and bottom, and cut into
// tiles.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "media/processor_settings.h"

namespace tessera::media {
namespace {

// The model's tables grow with the square of it; Llama 3.2 has 4.
constexpr int64_t kMostTiles = 64;

struct Arrangement {
  int high;
  int wide;
};

// In the order of the aspect ratio ids: id = index + 1.
std::vector<Arrangement> Arrangements(int max_tiles) {
  std::vector<Arrangement> out;
  for (int high = 1; high <= max_tiles; ++high) {
    for (int wide = 1; high * wide <= max_tiles; ++wide) out.push_back({high, wide});
  }
  return out;
}

class MllamaProcessor final : public ImageProcessor {
 public:
  MllamaProcessor(int tile, int max_tiles, Resample resample, const PixelSettings& pixels)
      : tile_(tile),
        max_tiles_(max_tiles),
        resample_(resample),
        lut_(pixels.MakeLut()),
        arrangements_(Arrangements(max_tiles)) {
    DigestBuilder digest;
    digest.Add(type())
        .Add(int64_t{tile})
        .Add(int64_t{max_tiles})
        .Add(static_cast<int64_t>(resample));
    pixels.AddTo(digest);
    fingerprint_ = digest.Finish();
  }

  std::string_view type() const override { return "MllamaImageProcessor"; }
  int max_tiles() const override { return max_tiles_; }
  int tile_height() const override { return tile_; }
  int tile_width() const override { return tile_; }
  const Digest& fingerprint() const override { return fingerprint_; }
  Result<TileLayout> LayoutOf(int width, int height) const override;
  using ImageProcessor::Process;
  ProcessedImage Process(RgbView image, const TileLayout& layout) const override;

 private:
  size_t BestArrangement(int width, int height) const;

  const int tile_;
  const int max_tiles_;
  const Resample resample_;
  const PixelLut lut_;
  const std::vector<Arrangement> arrangements_;
  Digest fingerprint_;
};

// The least enlargement of those that do not shrink the picture, else the least shrinking; of
// equals the smallest canvas, of equal canvases the first.
size_t MllamaProcessor::BestArrangement(int width, int height) const {
  std::vector<double> scales;
  for (const auto [high, wide] : arrangements_) {
    const double scale_high = static_cast<double>(high * tile_) / height;
    const double scale_wide = static_cast<double>(wide * tile_) / width;
    scales.push_back(scale_wide > scale_high ? scale_high : scale_wide);
  }
  const auto better = [](double a, double b) {  // a is preferred to b
    if ((a >= 1) != (b >= 1)) return a >= 1;
    return a >= 1 ? a < b : a > b;
  };
  size_t best = 0;
  for (size_t i = 1; i < scales.size(); ++i) {
    const auto area = [&](size_t k) { return arrangements_[k].high * arrangements_[k].wide; };
    if (better(scales[i], scales[best]) || (scales[i] == scales[best] && area(i) < area(best)))
      best = i;
  }
  return best;
}

Result<TileLayout> MllamaProcessor::LayoutOf(int width, int height) const {
  TESSERA_CHECK(width >= 1 && height >= 1, "picture of {}x{}", width, height);
  const size_t best = BestArrangement(width, height);
  const auto [high, wide] = arrangements_[best];
  // At least a tile, at most the canvas; the smaller scale wins and the other side follows, rounded
  // down.
  const int target_width = std::clamp(width, tile_, wide * tile_);
  const int target_height = std::clamp(height, tile_, high * tile_);
  const double scale_high = static_cast<double>(target_height) / height;
  const double scale_wide = static_cast<double>(target_width) / width;
  const auto follow = [](int side, double scale, int most) {
    const int followed = static_cast<int>(std::floor(side * scale));
    return std::min(followed == 0 ? 1 : followed, most);
  };
  TileLayout layout{
      .tiles_high = high, .tiles_wide = wide, .aspect_ratio_id = static_cast<int>(best) + 1};
  if (scale_wide < scale_high) {
    layout.resized_width = target_width;
    layout.resized_height = follow(height, scale_wide, target_height);
  } else {
    layout.resized_height = target_height;
    layout.resized_width = follow(width, scale_high, target_width);
  }
  return layout;
}

ProcessedImage MllamaProcessor::Process(RgbView image, const TileLayout& layout) const {
  TileWriter tiles(layout.tiles_high, layout.tiles_wide, tile_, tile_, tier());
  ResizeRows(
      image, layout.resized_width, layout.resized_height, resample_,
      [&](int y, const uint8_t* row) { tiles.Write(y, row, layout.resized_width); }, tier());
  ProcessedImage out;
  out.tiles = tiles.Take();
  out.tile_height = out.tile_width = tile_;
  out.tiles_high = layout.tiles_high;
  out.tiles_wide = layout.tiles_wide;
  out.max_tiles = max_tiles_;
  out.aspect_ratio_id = layout.aspect_ratio_id;
  out.lut = lut_;
  out.tier = tier();
  return out;
}

}  // namespace

Result<std::unique_ptr<ImageProcessor>> MakeMllamaProcessor(std::string_view,
                                                            const Json& settings) {
  for (const char* key : {"do_resize", "do_pad"}) {
    TESSERA_TRY(const bool flag, ReadFlag(settings, key, true));
    if (!flag) {
      return Invalid("bad value in the image processor's settings",
                     {.field = key, .limit = "true: a tile has one size", .value = "false"});
    }
  }
  // Decoded pictures are RGB already, whatever this says; only its type is checked.
  TESSERA_TRY([[maybe_unused]] const bool convert_rgb, ReadFlag(settings, "do_convert_rgb", true));
  TESSERA_TRY(const SizeSetting size,
              ReadSize(settings, "size", true, {.height = 224, .width = 224}));
  if (!size.height || !size.width || *size.height != *size.width) {
    return Invalid(
        "bad value in the image processor's settings",
        {.field = "size",
         .limit = "equal height and width",
         .value = size.height ? fmt::format("{}x{}", *size.height, *size.width) : "edges"});
  }
  TESSERA_TRY(const int max_tiles, ReadCount(settings, "max_image_tiles", 4, kMostTiles));
  TESSERA_TRY(const Resample resample, ReadResample(settings, Resample::kBilinear));
  TESSERA_TRY(const PixelSettings pixels, ReadPixelSettings(settings, {}));
  return std::make_unique<MllamaProcessor>(*size.height, max_tiles, resample, pixels);
}

}  // namespace tessera::media
