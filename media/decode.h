// From a file's bytes to 8-bit RGB: JPEG, PNG and WebP, told apart by their first bytes.
//
// The samples are those of Pillow's Image.open, ImageOps.exif_transpose and convert("RGB"), which
// is what Hugging Face's load_image does: EXIF (or XMP) orientation applied, alpha dropped and not
// composited, palettes resolved, CMYK turned as Adobe stores it, of an animation the first frame;
// 16-bit samples are cut to their high byte.
//
// Refused: what Pillow refuses with LOAD_TRUNCATED_IMAGES off, every file in which pixel data is
// missing although the library would paint the hole grey, and what exceeds a limit. Limits are
// checked on the header, before any pixel is allocated. Accepted: trailing bytes, odd application
// segments and other blemishes beside the picture.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "media/bytes.h"
#include "media/decode_budget.h"

namespace tessera {

enum class ImageFormat { kJpeg, kPng, kWebp };
std::string_view ImageFormatName(ImageFormat format);  // "JPEG", "PNG", "WEBP", as Pillow says

struct DecodeLimits {
  int64_t max_pixels = int64_t{64}
                       << 20;    // width x height of one picture (of a WebP: of its canvas)
  int64_t max_side = 1'000'000;  // of either side: bounds the tables of a resize
  int max_progressive_scans =
      100;  // each scan of a progressive JPEG costs a pass over its coefficients
  int64_t max_scanned_pixels =
      int64_t{1} << 30;  // in all scans of a JPEG together: 16 passes over the largest picture
};

struct ImageInfo {
  ImageFormat format = ImageFormat::kJpeg;
  int width = 0;  // after orientation
  int height = 0;
  int orientation = 1;       // EXIF 1..8, already applied to width and height
  bool animated = false;     // more than one frame
  int64_t decode_bytes = 0;  // an upper bound of what DecodeImage allocates
};

// The least size, in pixels, that a picture of `width` x `height` (after orientation) may be
// decoded to. With it a JPEG whose sides are at least 2, 4 or 8 times that comes at 1/2, 1/4 or 1/8
// of its size, by inverse transforms of fewer points: much faster, and an approximation, for what
// follows works on pixels averaged by another filter. Empty: every picture as it is.
struct PictureSize {
  int width = 0;
  int height = 0;
};
using LeastSize = std::function<PictureSize(int width, int height)>;

// One decoded picture. Move-only: `memory` keeps its bytes counted in the budget as long as it
// lives.
struct DecodedImage {
  int width = 0;
  int height = 0;
  PixelBytes rgb;  // [height, width, 3], rows from the top, no padding
  ImageFormat format = ImageFormat::kJpeg;
  int orientation = 1;
  bool animated = false;
  PictureSize full;    // what the file holds, after orientation
  int reduced_by = 1;  // 2, 4 or 8: width and height are those divided, rounded up
  DecodeBudget::Lease memory;
};

// Thread-safe, as all here. Reads headers only; allocates no pixels, and for metadata at most the
// file's size and 64 MiB. Errors as DecodeImage's, as far as headers show them.
Result<ImageInfo> ProbeImage(std::span<const uint8_t> file, const DecodeLimits& limits = {});

// Every error has field "image". kInvalidArgument: empty, unknown or named other format (GIF, BMP,
// TIFF, HEIC, AVIF ...), too large, damaged, truncated, incomplete. From the budget:
// kResourceExhausted, kDeadlineExceeded, kCancelled.
Result<DecodedImage> DecodeImage(std::span<const uint8_t> file, const DecodeLimits& limits,
                                 DecodeBudget& budget, const DecodeWait& wait = {},
                                 const LeastSize& least = {});

// Name and version of each codec, as linked: {"libjpeg-turbo 2.1.5", ...}, for the table a server
// prints at start.
std::vector<std::string> CodecVersions();

}  // namespace tessera
