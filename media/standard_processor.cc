// Hugging Face's CLIPImageProcessor (LLaVA's too) and ViTImageProcessor, Pillow variants: resize,
// crop at the centre, one tile. They differ in defaults alone.
#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "media/processor_settings.h"

namespace tessera::media {
namespace {

struct Settings {
  bool do_resize = true;
  SizeSetting size;
  bool square = true;  // a bare number means both sides
  Resample resample = Resample::kBilinear;
  bool do_center_crop = false;
  SizeSetting crop;
  PixelSettings pixels;
};

class StandardProcessor final : public ImageProcessor {
 public:
  StandardProcessor(std::string_view type, const Settings& settings, int height, int width)
      : type_(type),
        settings_(settings),
        height_(height),
        width_(width),
        lut_(settings.pixels.MakeLut()) {
    DigestBuilder digest;
    digest.Add(type)
        .Add(int64_t{settings.do_resize})
        .Add(static_cast<int64_t>(settings.resample))
        .Add(int64_t{settings.do_center_crop});
    for (const SizeSetting* size : {&settings.size, &settings.crop}) {
      for (const auto& side :
           {size->height, size->width, size->shortest_edge, size->longest_edge}) {
        digest.Add(int64_t{side.value_or(0)});
      }
    }
    settings.pixels.AddTo(digest);
    fingerprint_ = digest.Finish();
  }

  std::string_view type() const override { return type_; }
  int max_tiles() const override { return 1; }
  int tile_height() const override { return height_; }
  int tile_width() const override { return width_; }
  const Digest& fingerprint() const override { return fingerprint_; }
  Result<TileLayout> LayoutOf(int width, int height) const override;
  using ImageProcessor::Process;
  ProcessedImage Process(RgbView image, const TileLayout& layout) const override;

 private:
  const std::string_view type_;  // the registry's
  const Settings settings_;
  const int height_;
  const int width_;
  const PixelLut lut_;
  Digest fingerprint_;
};

// The short side gets `edge`, the long one int(edge * long / short); with a longest edge both
// shrink until it holds.
TileLayout ResizedByEdge(int width, int height, int edge, std::optional<int> longest) {
  const double shorter = std::min(width, height), longer = std::max(width, height);
  double exact = edge;
  int size = edge;
  if (longest && longer / shorter * edge > *longest) {
    exact = *longest * shorter / longer;
    size = static_cast<int>(std::nearbyint(exact));
  }
  TileLayout out{.tiles_high = 1, .tiles_wide = 1};
  if (std::min(width, height) == size) {
    out.resized_height = height;
    out.resized_width = width;
  } else if (width < height) {
    out.resized_width = size;
    out.resized_height = static_cast<int>(exact * height / width);
  } else {
    out.resized_height = size;
    out.resized_width = static_cast<int>(exact * width / height);
  }
  return out;
}

Result<TileLayout> StandardProcessor::LayoutOf(int width, int height) const {
  TESSERA_CHECK(width >= 1 && height >= 1, "picture of {}x{}", width, height);
  TileLayout layout{
      .tiles_high = 1, .tiles_wide = 1, .resized_height = height, .resized_width = width};
  if (settings_.do_resize && settings_.size.height) {
    layout.resized_height = *settings_.size.height;
    layout.resized_width = *settings_.size.width;
  } else if (settings_.do_resize) {
    // A very long picture whose short side is enlarged to `edge` would become huge before most of
    // it is cropped away.
    const double longer = std::max(width, height), shorter = std::min(width, height);
    const double pixels =
        longer / shorter * *settings_.size.shortest_edge * *settings_.size.shortest_edge;
    constexpr double kMostPixels = double{1 << 26};
    if (!settings_.size.longest_edge && pixels > kMostPixels) {
      return Fail(ErrorCode::kInvalidArgument, "image is too long for its width for this model",
                  {.field = "image",
                   .limit = fmt::format("{:.0f} pixels after resizing", kMostPixels),
                   .value = fmt::format("{:.0f} pixels", pixels)});
    }
    layout =
        ResizedByEdge(width, height, *settings_.size.shortest_edge, settings_.size.longest_edge);
  }
  if (layout.resized_height < 1 || layout.resized_width < 1) {
    return Fail(ErrorCode::kInvalidArgument, "image vanishes when it is resized for this model",
                {.field = "image",
                 .limit = "1 pixel a side after resizing",
                 .value = fmt::format("{}x{}", layout.resized_width, layout.resized_height)});
  }
  if (!settings_.do_center_crop &&
      (layout.resized_height != height_ || layout.resized_width != width_)) {
    return Fail(ErrorCode::kInvalidArgument, "image does not get the size that this model needs",
                {.field = "image",
                 .limit = fmt::format("{}x{}", width_, height_),
                 .value = fmt::format("{}x{}", layout.resized_width, layout.resized_height)});
  }
  return layout;
}

// Where a side of `size` lies in a crop of `crop`: the first source position, or a negative number
// of padding pixels. Larger pictures lose (size - crop) / 2 rounded down before, smaller ones gain
// (crop - size) / 2 rounded up.
int CropStart(int size, int crop) {
  return size >= crop ? (size - crop) / 2 : -((crop - size + 1) / 2);
}

ProcessedImage StandardProcessor::Process(RgbView image, const TileLayout& layout) const {
  std::vector<uint8_t> resized;
  if (layout.resized_width != image.width || layout.resized_height != image.height) {
    resized =
        Resize(image, layout.resized_width, layout.resized_height, settings_.resample, tier());
    image = {layout.resized_width, layout.resized_height, resized};
  }
  const int top = CropStart(image.height, height_), left = CropStart(image.width, width_);
  ProcessedImage out;
  const size_t plane = static_cast<size_t>(height_) * static_cast<size_t>(width_);
  out.tiles.resize(3 * plane);
  for (int y = std::max(0, -top); y < std::min(height_, image.height - top); ++y) {
    const uint8_t* in =
        image.pixels.data() + static_cast<size_t>(y + top) * static_cast<size_t>(image.width) * 3;
    uint8_t* row = out.tiles.data() + static_cast<size_t>(y) * static_cast<size_t>(width_);
    for (int x = std::max(0, -left); x < std::min(width_, image.width - left); ++x) {
      const uint8_t* pixel = in + static_cast<size_t>(x + left) * 3;
      for (size_t channel = 0; channel < 3; ++channel)
        row[channel * plane + static_cast<size_t>(x)] = pixel[channel];
    }
  }
  out.tile_height = height_;
  out.tile_width = width_;
  out.tiles_high = out.tiles_wide = out.max_tiles = 1;
  out.lut = lut_;
  out.tier = tier();
  return out;
}

Result<std::unique_ptr<ImageProcessor>> Make(std::string_view type, const Json& json,
                                             Settings settings) {
  TESSERA_TRY([[maybe_unused]] const bool convert_rgb, ReadFlag(json, "do_convert_rgb", true));
  TESSERA_TRY(settings.do_resize, ReadFlag(json, "do_resize", settings.do_resize));
  TESSERA_TRY(settings.do_center_crop, ReadFlag(json, "do_center_crop", settings.do_center_crop));
  TESSERA_TRY(settings.size, ReadSize(json, "size", settings.square, settings.size));
  TESSERA_TRY(settings.crop, ReadSize(json, "crop_size", true, settings.crop));
  TESSERA_TRY(settings.resample, ReadResample(json, settings.resample));
  TESSERA_TRY(settings.pixels, ReadPixelSettings(json, settings.pixels));
  TESSERA_TRY(const bool pad, ReadFlag(json, "do_pad", false));
  if (pad) {
    return Invalid("bad value in the image processor's settings",
                   {.field = "do_pad", .limit = "false for this processor", .value = "true"});
  }
  const SizeSetting& last = settings.do_center_crop ? settings.crop : settings.size;
  if (!last.height || !last.width || (!settings.do_center_crop && !settings.do_resize)) {
    return Invalid(
        "the image processor's settings leave the picture's size open",
        {.field = settings.do_center_crop ? "crop_size" : "size",
         .limit = "height and width",
         .value = settings.do_center_crop || settings.do_resize ? "edges"
                                                                : "neither resizing nor cropping"});
  }
  return std::make_unique<StandardProcessor>(type, settings, *last.height, *last.width);
}

}  // namespace

Result<std::unique_ptr<ImageProcessor>> MakeClipProcessor(std::string_view type,
                                                          const Json& settings) {
  Settings defaults{.size = {.shortest_edge = 224},
                    .square = false,
                    .resample = Resample::kBicubic,
                    .do_center_crop = true,
                    .crop = {.height = 224, .width = 224}};
  defaults.pixels.mean = {0.48145466, 0.4578275, 0.40821073};
  defaults.pixels.std = {0.26862954, 0.26130258, 0.27577711};
  return Make(type, settings, defaults);
}

Result<std::unique_ptr<ImageProcessor>> MakeVitProcessor(std::string_view type,
                                                         const Json& settings) {
  return Make(type, settings, {.size = {.height = 224, .width = 224}});
}

}  // namespace tessera::media
