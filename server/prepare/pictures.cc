#include "server/prepare/pictures.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "media/digest.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;
double Seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::span<const uint8_t> Bytes(const std::string& file) {
  return {reinterpret_cast<const uint8_t*>(file.data()), file.size()};
}

// media speaks of "image"; the client wants to know which.
tl::unexpected<Error> Named(Error error, const InputImage& image) {
  error.field = image.field;
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace

Result<void> CheckPicture(const Frontend& frontend, const InputImage& image,
                          const DecodeLimits& limits) {
  const auto info = ProbeImage(Bytes(image.file), limits);
  if (!info) return Named(info.error(), image);
  if (const auto layout = frontend.processor()->LayoutOf(info->width, info->height); !layout)
    return Named(layout.error(), image);
  return {};
}

Result<PreparedPicture> PreparePicture(const Frontend& frontend, const InputImage& image,
                                       const Digest& salt, const DecodeLimits& limits,
                                       DecodeBudget& budget, const DecodeWait& wait,
                                       bool approximate_jpeg) {
  const auto begin = Clock::now();
  const ImageProcessor& processor = *frontend.processor();
  // Where there is no layout the picture is refused below, for its full size.
  const LeastSize least = [&](int width, int height) {
    const auto layout = processor.LayoutOf(width, height);
    return layout ? PictureSize{.width = layout->resized_width, .height = layout->resized_height}
                  : PictureSize{.width = width, .height = height};
  };
  auto decoded =
      DecodeImage(Bytes(image.file), limits, budget, wait, approximate_jpeg ? least : LeastSize{});
  if (!decoded) return Named(std::move(decoded).error(), image);
  const auto after_decode = Clock::now();
  const auto layout = processor.LayoutOf(decoded->full.width, decoded->full.height);
  if (!layout) return Named(layout.error(), image);
  ProcessedImage processed = processor.Process(
      {.width = decoded->width, .height = decoded->height, .pixels = decoded->rgb}, *layout);

  PreparedPicture out;
  out.first_frame_only = decoded->animated;
  out.reduced_by = decoded->reduced_by;
  const std::string_view salt_bytes(reinterpret_cast<const char*>(salt.bytes.data()),
                                    salt.bytes.size());
  out.media.digest =
      DigestOf(salt_bytes, frontend.fingerprint(), processor.fingerprint(), processed);
  auto pixels = std::make_shared<MediaPixels>();
  pixels->used_tiles = processed.tiles_used();
  pixels->height = processed.tile_height;
  pixels->width = processed.tile_width;
  pixels->tiles_high = processed.tiles_high;
  pixels->tiles_wide = processed.tiles_wide;
  pixels->aspect_ratio_id = processed.aspect_ratio_id;
  pixels->lut = processed.lut;
  pixels->tiles = std::move(processed.tiles);
  out.media.pixels = std::move(pixels);
  out.decode_seconds = Seconds(begin, after_decode);
  out.preprocess_seconds = Seconds(after_decode, Clock::now());
  return out;
}

}  // namespace tessera
