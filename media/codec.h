// What decode.cc asks of each codec. Internal to media/.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "media/decode.h"

namespace tessera::media {

// What the headers of one file say, before orientation.
struct Header {
  int64_t width = 0;
  int64_t height = 0;
  int orientation = 1;
  bool animated = false;
  int64_t working_bytes = 0;  // what decoding allocates at most, besides the rgb result
};

// One file being decoded. Not thread-safe. `file` outlives it.
class Codec {
 public:
  virtual ~Codec() = default;
  // Reads headers and metadata and checks all that needs no pixels. The caller checks the size
  // limits.
  virtual Result<Header> ReadHeader() = 0;
  // After ReadHeader: lets Decode give a picture whose sides are the file's divided by the result,
  // rounded up, and at least these. A codec that cannot answers 1.
  virtual int Shrink(int64_t least_width, int64_t least_height) {
    static_cast<void>(least_width);
    static_cast<void>(least_height);
    return 1;
  }
  // Once, after ReadHeader. `rgb` holds width * height * 3 bytes, all written on success.
  virtual Result<void> Decode(std::span<uint8_t> rgb, const std::stop_token& stop) = 0;
};

std::unique_ptr<Codec> MakeJpegCodec(std::span<const uint8_t> file, const DecodeLimits& limits);
std::unique_ptr<Codec> MakePngCodec(std::span<const uint8_t> file, const DecodeLimits& limits);
std::unique_ptr<Codec> MakeWebpCodec(std::span<const uint8_t> file, const DecodeLimits& limits);

// "libjpeg-turbo 2.1.5" and so on, of the library that is linked.
std::string JpegVersion();
std::string PngVersion();
std::string WebpVersion();

// Errors of a file. `format` and `why` are compile-time texts; `why` is for logs at start and for
// tests.
inline tl::unexpected<Error> Damaged(Literal format, Literal why) {
  return Fail(ErrorCode::kInvalidArgument, "image is damaged",
              {.field = "image",
               .limit = "a readable file",
               .value = std::string(format.view()),
               .detail = std::string(why.view())});
}
inline tl::unexpected<Error> Truncated(Literal format, Literal why) {
  return Fail(ErrorCode::kInvalidArgument, "image is truncated",
              {.field = "image",
               .limit = "a whole file",
               .value = std::string(format.view()),
               .detail = std::string(why.view())});
}
// The library could go on and paint what is missing; Tessera never shows half a picture.
inline tl::unexpected<Error> Incomplete(Literal format, Literal why) {
  return Fail(ErrorCode::kInvalidArgument, "image data is incomplete",
              {.field = "image",
               .limit = "all pixels of the picture",
               .value = std::string(format.view()),
               .detail = std::string(why.view())});
}

// EXIF where it has an orientation, else XMP.
int OrientationFrom(std::span<const uint8_t> exif, std::string_view xmp);

// Big-endian reads; the caller has checked the range.
inline uint32_t Be16(const uint8_t* p) { return static_cast<uint32_t>(p[0]) << 8 | p[1]; }
inline uint32_t Be32(const uint8_t* p) { return Be16(p) << 16 | Be16(p + 2); }

}  // namespace tessera::media
