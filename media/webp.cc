// WebP through libwebp: the first frame of any file, drawn on its canvas as WebPAnimDecoder would
// draw it.
#include <fmt/format.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>

#include "base/check.h"
#include "media/codec.h"

namespace tessera::media {
namespace {

struct DemuxerDeleter {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

class WebpCodec final : public Codec {
 public:
  explicit WebpCodec(std::span<const uint8_t> file) : file_(file) {}
  ~WebpCodec() override {
    if (frame_found_) WebPDemuxReleaseIterator(&frame_);
  }
  WebpCodec(const WebpCodec&) = delete;
  WebpCodec& operator=(const WebpCodec&) = delete;

  Result<Header> ReadHeader() override;
  Result<void> Decode(std::span<uint8_t> rgb, const std::stop_token& stop) override;

 private:
  std::span<const uint8_t> Chunk(const char* name) const;

  const std::span<const uint8_t> file_;
  std::unique_ptr<WebPDemuxer, DemuxerDeleter> demuxer_;
  WebPIterator frame_{};
  bool frame_found_ = false;
  bool whole_canvas_ = false;  // the frame covers the canvas and has no alpha: decoded in place
  int width_ = 0;
  int height_ = 0;
};

std::span<const uint8_t> WebpCodec::Chunk(const char* name) const {
  WebPChunkIterator chunk{};
  std::span<const uint8_t> found;
  if (WebPDemuxGetChunk(demuxer_.get(), name, 1, &chunk))
    found = {chunk.chunk.bytes, chunk.chunk.size};
  WebPDemuxReleaseChunkIterator(&chunk);  // the bytes are the file's own
  return found;
}

Result<Header> WebpCodec::ReadHeader() {
  // Pillow knows a WebP by its first chunk.
  if (file_.size() < 16) return Truncated("WEBP", "no first chunk");
  const std::string_view first(reinterpret_cast<const char*>(file_.data()) + 12, 4);
  if (first != "VP8 " && first != "VP8L" && first != "VP8X")
    return Damaged("WEBP", "unknown first chunk");
  // Later releases of libwebp insist on the size of the extended header; ours might read on in the
  // wrong place.
  if (first == "VP8X" && (file_.size() < 20 || file_[16] != 10 || file_[17] != 0 ||
                          file_[18] != 0 || file_[19] != 0)) {
    return Damaged("WEBP", "extended header of a wrong size");
  }
  const WebPData data{file_.data(), file_.size()};
  demuxer_.reset(WebPDemux(&data));
  if (demuxer_ == nullptr) {
    WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
    WebPDemuxer* const partial = WebPDemuxPartial(&data, &state);
    WebPDemuxDelete(partial);
    if (state == WEBP_DEMUX_PARSING_HEADER || state == WEBP_DEMUX_PARSED_HEADER) {
      return Truncated("WEBP", "chunks are missing");
    }
    return Damaged("WEBP", "broken container");
  }
  width_ = static_cast<int>(WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_WIDTH));
  height_ = static_cast<int>(WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_HEIGHT));
  frame_found_ = WebPDemuxGetFrame(demuxer_.get(), 1, &frame_) != 0;
  if (!frame_found_) return Damaged("WEBP", "no frame");
  if (!frame_.complete) return Truncated("WEBP", "the first frame is not whole");
  whole_canvas_ = !frame_.has_alpha && frame_.x_offset == 0 && frame_.y_offset == 0 &&
                  frame_.width == width_ && frame_.height == height_;
  const std::span<const uint8_t> xmp = Chunk("XMP ");
  // RGBA of the frame unless decoded in place; inside libwebp 32-bit pixels of a lossless picture,
  // or an alpha plane.
  const int64_t frame_pixels = int64_t{frame_.width} * frame_.height;
  return Header{.width = width_,
                .height = height_,
                .orientation = OrientationFrom(
                    Chunk("EXIF"), {reinterpret_cast<const char*>(xmp.data()), xmp.size()}),
                .animated = WebPDemuxGetI(demuxer_.get(), WEBP_FF_FRAME_COUNT) > 1,
                .working_bytes = frame_pixels * (whole_canvas_ ? 5 : 9) +
                                 256 * int64_t{frame_.width} + (int64_t{1} << 20)};
}

Result<void> WebpCodec::Decode(std::span<uint8_t> rgb, const std::stop_token&) {
  const size_t canvas_stride = size_t{3} * static_cast<size_t>(width_);
  TESSERA_CHECK(rgb.size() == canvas_stride * static_cast<size_t>(height_), "rgb of {} bytes",
                rgb.size());
  // The canvas is not shown by any pixel of a frame that lies elsewhere on it.
  if (frame_.x_offset < 0 || frame_.y_offset < 0 || frame_.width > width_ - frame_.x_offset ||
      frame_.height > height_ - frame_.y_offset) {
    return Damaged("WEBP", "a frame outside the canvas");
  }
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) {
    return Fail(ErrorCode::kInternal, "libwebp at run time is not the one compiled against");
  }
  std::vector<uint8_t> rgba;
  config.output.is_external_memory = 1;
  if (whole_canvas_) {
    config.output.colorspace = MODE_RGB;
    config.output.u.RGBA = {rgb.data(), static_cast<int>(canvas_stride), rgb.size()};
  } else {
    // With its alpha, although that is dropped: a broken alpha plane makes a broken file.
    const size_t stride = size_t{4} * static_cast<size_t>(frame_.width);
    rgba.resize(stride * static_cast<size_t>(frame_.height));
    config.output.colorspace = MODE_RGBA;
    config.output.u.RGBA = {rgba.data(), static_cast<int>(stride), rgba.size()};
  }
  const VP8StatusCode status = WebPDecode(frame_.fragment.bytes, frame_.fragment.size, &config);
  switch (status) {
    case VP8_STATUS_OK: break;
    case VP8_STATUS_OUT_OF_MEMORY:
      return Fail(ErrorCode::kResourceExhausted, "out of memory while decoding an image",
                  {.field = "image"});
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA: return Truncated("WEBP", "the first frame's data ends early");
    default: return Damaged("WEBP", "the first frame cannot be decoded");
  }
  if (whole_canvas_) return {};
  std::fill(rgb.begin(), rgb.end(), uint8_t{0});  // transparent black around the frame
  for (int y = 0; y < frame_.height; ++y) {
    const uint8_t* in =
        rgba.data() + size_t{4} * static_cast<size_t>(frame_.width) * static_cast<size_t>(y);
    uint8_t* out = rgb.data() + canvas_stride * static_cast<size_t>(frame_.y_offset + y) +
                   size_t{3} * static_cast<size_t>(frame_.x_offset);
    for (int x = 0; x < frame_.width; ++x) {
      out[3 * x] = in[4 * x];
      out[3 * x + 1] = in[4 * x + 1];
      out[3 * x + 2] = in[4 * x + 2];
    }
  }
  return {};
}

}  // namespace

std::unique_ptr<Codec> MakeWebpCodec(std::span<const uint8_t> file, const DecodeLimits&) {
  return std::make_unique<WebpCodec>(file);
}

std::string WebpVersion() {
  const int version = WebPGetDecoderVersion();
  return fmt::format("libwebp {}.{}.{}", version >> 16, version >> 8 & 255, version & 255);
}

}  // namespace tessera::media
