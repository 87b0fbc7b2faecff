#include "media/decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "media/codec.h"
#include "media/exif.h"

namespace tessera {
namespace {

using media::Codec;
using media::Header;

constexpr char kTakes[] = "JPEG, PNG or WebP";

bool HasBytes(std::span<const uint8_t> file, size_t offset, std::string_view bytes) {
  return file.size() >= offset + bytes.size() &&
         std::memcmp(file.data() + offset, bytes.data(), bytes.size()) == 0;
}

using std::string_view_literals::operator""sv;

// A name for what people send although it is not taken, empty if the bytes tell nothing.
std::string_view OtherFormat(std::span<const uint8_t> file) {
  if (HasBytes(file, 0, "GIF8")) return "GIF";
  if (HasBytes(file, 4, "ftyp")) {
    for (const std::string_view brand : {"avif", "avis"}) {
      if (HasBytes(file, 8, brand)) return "AVIF";
    }
    for (const std::string_view brand :
         {"heic", "heix", "hevc", "hevx", "heim", "heis", "hevm", "hevs", "mif1", "msf1"}) {
      if (HasBytes(file, 8, brand)) return "HEIC";
    }
    return "a video or another ISO media file";
  }
  if (HasBytes(file, 0, "II*\0"sv) || HasBytes(file, 0, "MM\0*"sv) ||
      HasBytes(file, 0, "II+\0"sv) || HasBytes(file, 0, "MM\0+"sv)) {
    return "TIFF";
  }
  if (HasBytes(file, 0, "BM")) return "BMP";
  if (HasBytes(file, 0, "\0\0\0\x0cjP  "sv) || HasBytes(file, 0, "\xff\x4f\xff\x51"))
    return "JPEG 2000";
  if (HasBytes(file, 0, "\xff\x0a") || HasBytes(file, 0, "\0\0\0\x0cJXL "sv)) return "JPEG XL";
  if (HasBytes(file, 0, "\0\0\1\0"sv)) return "ICO";
  if (HasBytes(file, 0, "8BPS")) return "PSD";
  if (HasBytes(file, 0, "%PDF")) return "PDF";
  if (HasBytes(file, 0, "<svg") || HasBytes(file, 0, "<?xml")) return "SVG or XML";
  return {};
}

struct Opened {
  ImageFormat format;
  std::unique_ptr<Codec> codec;
  Header header;
};

Result<Opened> Open(std::span<const uint8_t> file, const DecodeLimits& limits) {
  if (file.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "image is empty",
                {.field = "image", .limit = kTakes, .value = "0 bytes"});
  }
  Opened opened{};
  if (HasBytes(file, 0, "\xff\xd8\xff")) {
    opened.format = ImageFormat::kJpeg;
    opened.codec = media::MakeJpegCodec(file, limits);
  } else if (HasBytes(file, 0, "\x89PNG\r\n\x1a\n")) {
    opened.format = ImageFormat::kPng;
    opened.codec = media::MakePngCodec(file, limits);
  } else if (HasBytes(file, 0, "RIFF") && HasBytes(file, 8, "WEBP")) {
    opened.format = ImageFormat::kWebp;
    opened.codec = media::MakeWebpCodec(file, limits);
  } else if (const std::string_view other = OtherFormat(file); !other.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "image format is not supported",
                {.field = "image", .limit = kTakes, .value = std::string(other)});
  } else {
    return Fail(ErrorCode::kInvalidArgument, "image format is unknown",
                {.field = "image", .limit = kTakes, .value = "none of them"});
  }
  TESSERA_TRY(opened.header, opened.codec->ReadHeader());
  const int64_t width = opened.header.width, height = opened.header.height;
  if (width <= 0 || height <= 0) {
    return Fail(ErrorCode::kInvalidArgument, "image has no pixels",
                {.field = "image",
                 .limit = "1 pixel or more",
                 .value = fmt::format("{}x{}", width, height)});
  }
  // Both are below 2^32, so the product fits 64 bits unsigned.
  const uint64_t pixels = static_cast<uint64_t>(width) * static_cast<uint64_t>(height);
  if (pixels > static_cast<uint64_t>(limits.max_pixels)) {
    return Fail(ErrorCode::kInvalidArgument, "image has too many pixels",
                {.field = "image",
                 .limit = fmt::format("{} pixels", limits.max_pixels),
                 .value = fmt::format("{} pixels", pixels)});
  }
  if (std::max(width, height) > limits.max_side) {
    return Fail(ErrorCode::kInvalidArgument, "image is too long or too wide",
                {.field = "image",
                 .limit = fmt::format("{} pixels a side", limits.max_side),
                 .value = fmt::format("{} pixels", std::max(width, height))});
  }
  return opened;
}

int64_t RgbBytes(const Header& header) { return header.width * header.height * 3; }

// The oriented copy exists beside the original, but not beside the codec's buffers.
int64_t DecodeBytes(const Header& header) {
  const int64_t rotation = header.orientation >= 2 ? RgbBytes(header) : 0;
  return RgbBytes(header) + std::max(rotation, header.working_bytes);
}

struct Pixel {
  uint8_t r, g, b;
};

// EXIF orientations as ImageOps.exif_transpose has them; `in` is [height, width], the result the
// oriented picture.
PixelBytes Oriented(const PixelBytes& in, int64_t width, int64_t height, int orientation) {
  PixelBytes out(in.size());
  const auto* source = reinterpret_cast<const Pixel*>(in.data());
  auto* target = reinterpret_cast<Pixel*>(out.data());
  const bool swapped = orientation >= 5;
  const int64_t out_width = swapped ? height : width, out_height = swapped ? width : height;
  // Where output pixel (x, y) comes from, as start + x * step_x + y * step_y.
  int64_t start = 0, step_x = 1, step_y = width;
  switch (orientation) {
    case 2:
      start = width - 1;
      step_x = -1;
      step_y = width;
      break;
    case 3:
      start = width * height - 1;
      step_x = -1;
      step_y = -width;
      break;
    case 4:
      start = width * (height - 1);
      step_x = 1;
      step_y = -width;
      break;
    case 5:
      start = 0;
      step_x = width;
      step_y = 1;
      break;
    case 6:
      start = width * (height - 1);
      step_x = -width;
      step_y = 1;
      break;
    case 7:
      start = width * height - 1;
      step_x = -width;
      step_y = -1;
      break;
    case 8:
      start = width - 1;
      step_x = width;
      step_y = -1;
      break;
  }
  // Square blocks, so that a transposition does not touch a new cache line for every pixel it
  // reads.
  constexpr int64_t kBlock = 32;
  for (int64_t y0 = 0; y0 < out_height; y0 += kBlock) {
    for (int64_t x0 = 0; x0 < out_width; x0 += kBlock) {
      for (int64_t y = y0; y < std::min(y0 + kBlock, out_height); ++y) {
        for (int64_t x = x0; x < std::min(x0 + kBlock, out_width); ++x) {
          target[y * out_width + x] = source[start + x * step_x + y * step_y];
        }
      }
    }
  }
  return out;
}

}  // namespace

namespace media {

int OrientationFrom(std::span<const uint8_t> exif, std::string_view xmp) {
  if (const auto orientation = ExifOrientation(exif)) return *orientation;
  return XmpOrientation(xmp).value_or(1);
}

}  // namespace media

std::string_view ImageFormatName(ImageFormat format) {
  switch (format) {
    case ImageFormat::kJpeg: return "JPEG";
    case ImageFormat::kPng: return "PNG";
    case ImageFormat::kWebp: return "WEBP";
  }
  return "unknown";
}

Result<ImageInfo> ProbeImage(std::span<const uint8_t> file, const DecodeLimits& limits) {
  TESSERA_TRY(const Opened opened, Open(file, limits));
  const Header& header = opened.header;
  const bool swapped = header.orientation >= 5;
  return ImageInfo{.format = opened.format,
                   .width = static_cast<int>(swapped ? header.height : header.width),
                   .height = static_cast<int>(swapped ? header.width : header.height),
                   .orientation = header.orientation,
                   .animated = header.animated,
                   .decode_bytes = DecodeBytes(header)};
}

namespace {

Result<DecodedImage> Decode(std::span<const uint8_t> file, const DecodeLimits& limits,
                            DecodeBudget& budget, const DecodeWait& wait, const LeastSize& least) {
  TESSERA_TRY(Opened opened, Open(file, limits));
  Header header = opened.header;
  const bool swapped = header.orientation >= 5;
  const auto oriented = [&] {
    return PictureSize{.width = static_cast<int>(swapped ? header.height : header.width),
                       .height = static_cast<int>(swapped ? header.width : header.height)};
  };
  DecodedImage image;
  image.full = oriented();
  if (least) {
    const PictureSize size = least(image.full.width, image.full.height);
    const int64_t divisor = opened.codec->Shrink(swapped ? size.height : size.width,
                                                 swapped ? size.width : size.height);
    header.width = (header.width + divisor - 1) / divisor;
    header.height = (header.height + divisor - 1) / divisor;
    image.reduced_by = static_cast<int>(divisor);
  }
  TESSERA_TRY(image.memory, budget.Acquire(DecodeBytes(header), wait));
  image.rgb.resize(static_cast<size_t>(RgbBytes(header)));
  TESSERA_RETURN_IF_ERROR(opened.codec->Decode(image.rgb, wait.stop));
  opened.codec.reset();  // its buffers, before the oriented copy is made
  if (header.orientation >= 2)
    image.rgb = Oriented(image.rgb, header.width, header.height, header.orientation);
  image.memory.ShrinkTo(RgbBytes(header));
  image.width = oriented().width;
  image.height = oriented().height;
  image.format = opened.format;
  image.orientation = header.orientation;
  image.animated = header.animated;
  return image;
}

}  // namespace

Result<DecodedImage> DecodeImage(std::span<const uint8_t> file, const DecodeLimits& limits,
                                 DecodeBudget& budget, const DecodeWait& wait,
                                 const LeastSize& least) {
  try {
    return Decode(file, limits, budget, wait, least);
  } catch (const std::bad_alloc&) {  // a budget larger than the machine; nothing of it has passed
                                     // through C code
    return Fail(ErrorCode::kResourceExhausted, "out of memory while decoding an image",
                {.field = "image"});
  }
}

std::vector<std::string> CodecVersions() {
  return {media::JpegVersion(), media::PngVersion(), media::WebpVersion()};
}

}  // namespace tessera
