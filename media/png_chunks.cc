#include "media/png_chunks.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "media/codec.h"

namespace tessera::media {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr size_t kMostInflated = size_t{1} << 20;  // of one chunk, Pillow's MAX_TEXT_CHUNK
constexpr size_t kMostText = size_t{64} << 20;     // of all text chunks, Pillow's MAX_TEXT_MEMORY
constexpr size_t kMostInflatedInAll = size_t{64} << 20;  // ours: colour profiles count too

std::string_view AsText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Splits at the first zero byte; false if there is none.
bool SplitAtZero(Bytes whole, Bytes& before, Bytes& after) {
  const size_t at = AsText(whole).find('\0');
  if (at == std::string_view::npos) return false;
  before = whole.first(at);
  after = whole.subspan(at + 1);
  return true;
}

// Code points of well-formed UTF-8 (Unicode table 3-7), nullopt otherwise.
std::optional<size_t> Utf8Length(Bytes text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++count) {
    const unsigned lead = text[i++];
    if (lead < 0x80) continue;
    if (lead < 0xc2 || lead > 0xf4) return std::nullopt;
    unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (int following = lead >= 0xf0   ? 3
                         : lead >= 0xe0 ? 2
                                        : 1;
         following > 0; --following, low = 0x80, high = 0xbf) {
      if (i >= text.size() || text[i] < low || text[i] > high) return std::nullopt;
      ++i;
    }
  }
  return count;
}

tl::unexpected<Error> TooMuchText() {
  return Fail(ErrorCode::kInvalidArgument, "image has too much compressed metadata",
              {.field = "image", .limit = "1 MiB a chunk, 64 MiB in all", .value = "more"});
}

class Walker {
 public:
  explicit Walker(Bytes file) : file_(file) {}
  Result<PngStructure> Run();

 private:
  struct Chunk {
    std::string_view name;
    uint64_t length = 0;  // as the file says, maybe more than it holds
    size_t start = 0;     // of the data
  };

  bool NextChunk(Chunk& chunk, bool& bad_name);
  bool Whole(const Chunk& chunk) const { return chunk.length <= file_.size() - chunk.start; }
  Bytes Data(const Chunk& chunk) const { return file_.subspan(chunk.start, chunk.length); }

  Result<void> BeforePixels();
  Result<void> CollectPixels();
  Result<void> AfterPixels();
  Result<void> Handle(const Chunk& chunk);  // any chunk but IDAT, IEND, fdAT; whole
  Result<void> HandleHeader(Bytes data);
  Result<void> HandleText(std::string_view name, Bytes data);
  Result<void> HandleInternationalText(Bytes data);
  Result<void> HandleFrame(Bytes data);
  Result<void> CountText(size_t length);
  // nullopt: not a zlib stream, or a broken one; an error: too long.
  Result<std::optional<std::vector<uint8_t>>> Inflate(Bytes data);

  const Bytes file_;
  size_t at_ = 8;
  PngStructure png_;
  bool header_seen_ = false;
  bool in_tail_ = false;
  size_t text_ = 0;
  size_t inflated_ = 0;
  std::optional<uint32_t> frames_;  // of acTL
  std::optional<uint32_t> sequence_;
  bool frame_control_ = false;  // an fcTL stood before the pixels
  bool frame_is_canvas_ = true;
  std::string xmp_text_;   // of the text chunk that has Adobe's key
  std::string xmp_bytes_;  // of an iTXt whose text was not valid UTF-8
  std::string raw_exif_;   // ImageMagick's "Raw profile type exif"
};

// False at the end of the file.
bool Walker::NextChunk(Chunk& chunk, bool& bad_name) {
  if (file_.size() - at_ < 8) return false;
  chunk.length = Be32(&file_[at_]);
  chunk.name = AsText(file_.subspan(at_ + 4, 4));
  at_ += 8;
  chunk.start = at_;
  bad_name = false;
  for (const char c : chunk.name) {
    bad_name |=
        !((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_');
  }
  return true;
}

Result<std::optional<std::vector<uint8_t>>> Walker::Inflate(Bytes data) {
  if (inflated_ > kMostInflatedInAll) return TooMuchText();
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) {
    return Fail(ErrorCode::kResourceExhausted, "out of memory while decoding an image",
                {.field = "image"});
  }
  std::vector<uint8_t> out;
  stream.next_in = const_cast<uint8_t*>(data.data());
  stream.avail_in = static_cast<uInt>(data.size());
  int status = Z_OK;
  while (status == Z_OK && out.size() < kMostInflated) {
    std::array<uint8_t, 16384> piece;
    const size_t step = std::min(piece.size(), kMostInflated - out.size());
    stream.next_out = piece.data();
    stream.avail_out = static_cast<uInt>(step);
    status = inflate(&stream, Z_SYNC_FLUSH);
    out.insert(out.end(), piece.data(), stream.next_out);
    if (status == Z_OK && stream.avail_out > 0)
      break;  // wants more input: Pillow takes what there is
  }
  const bool input_left = status != Z_STREAM_END && stream.avail_in > 0;
  inflateEnd(&stream);
  inflated_ += out.size();
  if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) return std::nullopt;
  if (input_left) return TooMuchText();
  return out;
}

Result<void> Walker::CountText(size_t length) {
  text_ += length;
  if (text_ > kMostText) return TooMuchText();
  return {};
}

Result<void> Walker::HandleHeader(Bytes data) {
  if (data.size() < 13) return Damaged("PNG", "short header");
  if (!in_tail_) {
    png_.width = Be32(&data[0]);
    png_.height = Be32(&data[4]);
    png_.bit_depth = data[8];
    png_.colour_type = data[9];
    png_.interlaced |= data[12] != 0;
    header_seen_ = true;
  }
  if (data[11] != 0) return Damaged("PNG", "unknown filter method");
  return {};
}

Result<void> Walker::HandleText(std::string_view name, Bytes data) {
  Bytes key = data, text;
  if (!SplitAtZero(data, key, text)) {
    key = data;
    text = {};
  }
  std::vector<uint8_t> inflated;
  if (name == "zTXt") {
    if (!text.empty() && text[0] != 0) return Damaged("PNG", "unknown text compression");
    TESSERA_TRY(auto out, Inflate(text.empty() ? text : text.subspan(1)));
    inflated = std::move(out).value_or(std::vector<uint8_t>());
    text = inflated;
  }
  if (key.empty()) return {};
  const std::string_view key_text = AsText(key);
  if (key_text == "exif" && name == "tEXt") png_.exif.assign(text.begin(), text.end());
  if (key_text == "XML:com.adobe.xmp") xmp_text_ = AsText(text);
  if (key_text == "Raw profile type exif") raw_exif_ = AsText(text);
  return CountText(text.size());
}

Result<void> Walker::HandleInternationalText(Bytes data) {
  Bytes key, rest, language, translated, text;
  if (!SplitAtZero(data, key, rest) || rest.size() < 2) return {};
  const bool compressed = rest[0] != 0;
  const int method = rest[1];
  if (!SplitAtZero(rest.subspan(2), language, rest) || !SplitAtZero(rest, translated, text))
    return {};
  std::vector<uint8_t> inflated;
  if (compressed) {
    if (method != 0) return {};
    TESSERA_TRY(auto out, Inflate(text));
    if (!out) return {};
    inflated = *std::move(out);
    text = inflated;
  }
  const bool is_xmp = AsText(key) == "XML:com.adobe.xmp";
  if (is_xmp) xmp_bytes_ = AsText(text);
  const auto length = Utf8Length(text);
  if (!length || !Utf8Length(language) || !Utf8Length(translated)) return {};
  if (is_xmp) xmp_text_ = AsText(text);
  if (AsText(key) == "Raw profile type exif") raw_exif_ = AsText(text);
  return CountText(*length);
}

Result<void> Walker::HandleFrame(Bytes data) {
  if (data.size() < 26) return Damaged("PNG", "short frame control");
  const uint32_t number = Be32(&data[0]);
  if (number != (sequence_ ? *sequence_ + uint64_t{1} : uint64_t{0}))
    return Damaged("PNG", "frames out of order");
  sequence_ = number;
  const uint64_t width = Be32(&data[4]), height = Be32(&data[8]), x = Be32(&data[12]),
                 y = Be32(&data[16]);
  if (x + width > png_.width || y + height > png_.height)
    return Damaged("PNG", "a frame outside the canvas");
  if (!in_tail_) {
    frame_control_ = true;
    frame_is_canvas_ = x == 0 && y == 0 && width == png_.width && height == png_.height;
  }
  return {};
}

Result<void> Walker::Handle(const Chunk& chunk) {
  const Bytes data = Data(chunk);
  const std::string_view name = chunk.name;
  const auto at_least = [&](size_t size) -> Result<void> {
    if (data.size() < size) return Damaged("PNG", "short chunk");
    return {};
  };
  if (name == "IHDR") return HandleHeader(data);
  if (name == "PLTE") {
    if (!in_tail_ && header_seen_ && png_.colour_type == 3) png_.palette = data;
    return {};
  }
  if (name == "tRNS") {
    if (png_.colour_type == 0 && header_seen_) return at_least(2);
    if (png_.colour_type == 2 && png_.bit_depth <= 16) return at_least(6);
    return {};
  }
  if (name == "iCCP") {
    const size_t zero = AsText(data).find('\0');
    const size_t method = zero == std::string_view::npos ? 0 : zero + 1;
    if (method >= data.size()) return Damaged("PNG", "short colour profile");
    if (data[method] != 0) return Damaged("PNG", "unknown colour profile compression");
    TESSERA_TRY([[maybe_unused]] const auto profile, Inflate(data.subspan(method + 1)));
    return {};
  }
  if (name == "gAMA") return at_least(4);
  if (name == "cHRM") return at_least(32);
  if (name == "sRGB") return at_least(1);
  if (name == "pHYs") return at_least(9);
  if (name == "tEXt" || name == "zTXt") return HandleText(name, data);
  if (name == "iTXt") return HandleInternationalText(data);
  if (name == "eXIf") {
    png_.exif.assign(data.begin(), data.end());
    return {};
  }
  if (name == "acTL") {
    TESSERA_RETURN_IF_ERROR(at_least(8));
    const uint32_t frames = Be32(&data[0]);
    if (frames_)
      frames_.reset();
    else if (frames != 0 && frames <= 0x80000000u)
      frames_ = frames;
    return {};
  }
  if (name == "fcTL") return HandleFrame(data);
  return {};
}

// Up to the first IDAT. Every chunk's checksum counts here, ancillary ones' too, as in Pillow.
Result<void> Walker::BeforePixels() {
  while (true) {
    Chunk chunk;
    bool bad_name;
    if (!NextChunk(chunk, bad_name)) return Truncated("PNG", "no pixel data");
    if (bad_name) return Damaged("PNG", "broken chunk name");
    if (chunk.name == "IDAT") {
      at_ = chunk.start - 8;
      return {};
    }
    if (chunk.name == "IEND" || chunk.name == "fdAT") return Damaged("PNG", "no pixel data");
    if (!Whole(chunk) || file_.size() - chunk.start - chunk.length < 4) {
      return Truncated("PNG", "a chunk longer than the file");
    }
    TESSERA_RETURN_IF_ERROR(Handle(chunk));
    const size_t end = chunk.start + chunk.length;
    const uLong checksum = crc32(0, &file_[chunk.start - 4], static_cast<uInt>(chunk.length + 4));
    if (checksum != Be32(&file_[end])) return Damaged("PNG", "wrong checksum");
    at_ = end + 4;
  }
}

// The run of IDAT chunks. A last one that the file cuts short may still hold all rows; decoding
// finds out.
Result<void> Walker::CollectPixels() {
  const size_t first = at_;
  while (true) {
    const size_t before = at_;
    Chunk chunk;
    bool bad_name;
    if (!NextChunk(chunk, bad_name) || chunk.name != "IDAT") {
      at_ = before;
      png_.pixels = file_.subspan(first, before - first);
      return {};
    }
    if (!Whole(chunk) || file_.size() - chunk.start - chunk.length < 4) {
      at_ = file_.size();
      png_.pixels = file_.subspan(first, before - first);
      png_.last_pixels =
          file_.subspan(chunk.start, std::min<size_t>(chunk.length, file_.size() - chunk.start));
      return {};
    }
    at_ = chunk.start + chunk.length + 4;
  }
}

// What follows the pixels may hold the orientation. No checksums count, and the end of the file may
// be missing, but not the rest of a chunk that has begun.
Result<void> Walker::AfterPixels() {
  in_tail_ = true;
  while (true) {
    Chunk chunk;
    bool bad_name;
    if (!NextChunk(chunk, bad_name) || bad_name || chunk.name == "IEND") return {};
    if (chunk.name == "fcTL" && png_.animated) return {};
    if (!Whole(chunk)) return Truncated("PNG", "a chunk longer than the file");
    if (chunk.name == "fdAT") {
      if (chunk.length < 4) return Damaged("PNG", "short frame data");
      const uint32_t number = Be32(&file_[chunk.start]);
      if (!sequence_ || number != *sequence_ + uint64_t{1})
        return Damaged("PNG", "frames out of order");
      sequence_ = number;
    } else if (chunk.name != "IDAT") {
      TESSERA_RETURN_IF_ERROR(Handle(chunk));
    }
    const size_t end = chunk.start + chunk.length;
    at_ = end + std::min<size_t>(file_.size() - end, 4);
  }
}

// ImageMagick's profile: two lines and a length, then hexadecimal digits.
std::vector<uint8_t> BytesOfRawProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  std::vector<uint8_t> out;
  int high = -1;
  for (const char c : text) {
    if (c == '\n' || c == ' ') continue;
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return {};
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<uint8_t>(high << 4 | digit));
      high = -1;
    }
  }
  return out;
}

Result<PngStructure> Walker::Run() {
  TESSERA_RETURN_IF_ERROR(BeforePixels());
  const bool known = [&] {
    switch (png_.colour_type) {
      case 0:
        return png_.bit_depth == 1 || png_.bit_depth == 2 || png_.bit_depth == 4 ||
               png_.bit_depth == 8 || png_.bit_depth == 16;
      case 3:
        return png_.bit_depth == 1 || png_.bit_depth == 2 || png_.bit_depth == 4 ||
               png_.bit_depth == 8;
      case 2:
      case 4:
      case 6: return png_.bit_depth == 8 || png_.bit_depth == 16;
      default: return false;
    }
  }();
  if (!header_seen_ || !known) return Damaged("PNG", "unknown kind of pixels");
  // The default picture of an animation that has no frame control before it counts as one frame
  // more.
  const uint64_t frames = frames_ ? uint64_t{*frames_} + (frame_control_ ? 0 : 1) : 1;
  png_.animated = frames > 1;
  if (png_.colour_type == 3 && png_.palette.size() / 3 > 256)
    return Damaged("PNG", "more than 256 colours");
  if (!frame_is_canvas_) return Incomplete("PNG", "the first frame does not cover the picture");
  TESSERA_RETURN_IF_ERROR(CollectPixels());
  TESSERA_RETURN_IF_ERROR(AfterPixels());
  if (png_.exif.empty() && !raw_exif_.empty()) png_.exif = BytesOfRawProfile(raw_exif_);
  png_.xmp = xmp_text_.empty() ? std::move(xmp_bytes_) : std::move(xmp_text_);
  return std::move(png_);
}

}  // namespace

Result<PngStructure> ReadPngChunks(std::span<const uint8_t> file) { return Walker(file).Run(); }

}  // namespace tessera::media
