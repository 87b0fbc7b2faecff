// PNG rows through libpng, from the parts of the file that png_chunks.cc found good.
#include <png.h>

#include <array>
#include <csetjmp>
#include <cstring>

#include "base/check.h"
#include "media/codec.h"
#include "media/png_chunks.h"

namespace tessera::media {
namespace {

// libpng's own buffers: a few rows at most 8 bytes a pixel, inflate's window, the structs.
constexpr int64_t kFixedBytes = int64_t{1} << 20;
constexpr int64_t kBytesPerColumn = 64;

// A small PNG made of the checked parts: signature, IHDR, a palette of the right length, the file's
// IDAT chunks, IEND.
struct Input {
  std::array<std::span<const uint8_t>, 5>
      parts;  // head, whole IDATs, head and data of a last one cut short, tail
  size_t part = 0;
  size_t offset = 0;
  char message[96] = "";
};

[[noreturn]] void OnError(png_structp png, png_const_charp message) {
  auto* input = static_cast<Input*>(png_get_error_ptr(png));
  std::strncpy(input->message, message, sizeof input->message - 1);
  png_longjmp(png, 1);
}

void OnWarning(png_structp, png_const_charp) {}

void OnRead(png_structp png, png_bytep out, size_t size) {
  auto* input = static_cast<Input*>(png_get_io_ptr(png));
  while (size > 0) {
    if (input->part == input->parts.size()) png_error(png, "Not enough data");
    const std::span<const uint8_t> part = input->parts[input->part];
    const size_t step = std::min(size, part.size() - input->offset);
    if (step > 0) std::memcpy(out, part.data() + input->offset, step);
    out += step;
    size -= step;
    input->offset += step;
    if (input->offset == part.size()) {
      ++input->part;
      input->offset = 0;
    }
  }
}

void AppendBe32(std::vector<uint8_t>& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(value >> shift));
}

void AppendText(std::vector<uint8_t>& out, std::string_view text) {
  for (const char c : text) out.push_back(static_cast<uint8_t>(c));
}

// Without its checksum: those of the file are checked already, and libpng is told not to look.
void AppendChunk(std::vector<uint8_t>& out, std::string_view name, std::span<const uint8_t> data) {
  AppendBe32(out, static_cast<uint32_t>(data.size()));
  AppendText(out, name);
  for (const uint8_t byte : data) out.push_back(byte);
  AppendBe32(out, 0);
}

std::vector<uint8_t> MakeHead(const PngStructure& png) {
  std::vector<uint8_t> out, header;
  AppendText(out, "\x89PNG\r\n\x1a\n");
  AppendBe32(header, png.width);
  AppendBe32(header, png.height);
  header.push_back(static_cast<uint8_t>(png.bit_depth));
  header.push_back(static_cast<uint8_t>(png.colour_type));
  header.push_back(0);  // compression: deflate
  header.push_back(0);  // filters: the five
  header.push_back(png.interlaced ? 1 : 0);
  AppendChunk(out, "IHDR", header);
  if (png.colour_type == 3)
    AppendChunk(out, "PLTE", std::vector<uint8_t>(size_t{3} << png.bit_depth));
  return out;
}

// Pillow's palette: what the file gives, and black for indices past it.
std::array<std::array<uint8_t, 3>, 256> PaletteOf(std::span<const uint8_t> bytes) {
  std::array<std::array<uint8_t, 3>, 256> palette{};
  for (size_t i = 0; i < palette.size(); ++i) {
    if (3 * i + 2 < bytes.size()) palette[i] = {bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]};
  }
  return palette;
}

class PngCodec final : public Codec {
 public:
  explicit PngCodec(std::span<const uint8_t> file) : file_(file) {}
  ~PngCodec() override { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngCodec(const PngCodec&) = delete;
  PngCodec& operator=(const PngCodec&) = delete;

  Result<Header> ReadHeader() override;
  Result<void> Decode(std::span<uint8_t> rgb, const std::stop_token& stop) override;

 private:
  // One setjmp each; no object with a destructor lives in them.
  bool Start();
  bool ReadRows(uint8_t* pixels, size_t stride);

  const std::span<const uint8_t> file_;
  PngStructure structure_;
  Input input_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

Result<Header> PngCodec::ReadHeader() {
  TESSERA_TRY(structure_, ReadPngChunks(file_));
  return Header{
      .width = structure_.width,
      .height = structure_.height,
      .orientation = OrientationFrom(structure_.exif, structure_.xmp),
      .animated = structure_.animated,
      .working_bytes = kFixedBytes + kBytesPerColumn * int64_t{structure_.width} +
                       static_cast<int64_t>(structure_.exif.size() + structure_.xmp.size())};
}

bool PngCodec::Start() {
  png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &input_, OnError, OnWarning);
  if (png_ == nullptr) return false;
  if (setjmp(png_jmpbuf(png_)) != 0) return false;
  info_ = png_create_info_struct(png_);
  if (info_ == nullptr) return false;
  png_set_read_fn(png_, &input_, OnRead);
  png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
  png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // ours are checked already
  png_set_check_for_invalid_index(png_, 0);
  png_set_compression_buffer_size(
      png_, 65536);  // as Pillow feeds zlib: what it sees of the stream's end depends on it
  png_read_info(png_, info_);
  if (structure_.bit_depth == 16) png_set_strip_16(png_);  // keeps the high byte
  switch (structure_.colour_type) {
    case 0:
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_gray_to_rgb(png_);
      break;
    case 3: png_set_packing(png_); break;  // indices, one a byte
    case 4:
      png_set_strip_alpha(png_);
      png_set_gray_to_rgb(png_);
      break;
    case 6: png_set_strip_alpha(png_); break;
    default: break;
  }
  return true;
}

// Row by row; interlaced pictures are visited once a pass, and libpng puts each pass's pixels in
// their places.
bool PngCodec::ReadRows(uint8_t* pixels, size_t stride) {
  if (setjmp(png_jmpbuf(png_)) != 0) return false;
  const int passes = png_set_interlace_handling(png_);
  png_read_update_info(png_, info_);
  if (png_get_rowbytes(png_, info_) != stride) png_error(png_, "unexpected row size");
  for (int pass = 0; pass < passes; ++pass) {
    for (uint32_t y = 0; y < structure_.height; ++y)
      png_read_row(png_, pixels + y * stride, nullptr);
  }
  return true;
}

Result<void> PngCodec::Decode(std::span<uint8_t> rgb, const std::stop_token&) {
  const size_t width = structure_.width, height = structure_.height;
  TESSERA_CHECK(rgb.size() == width * height * 3, "rgb of {} bytes", rgb.size());
  const std::vector<uint8_t> head = MakeHead(structure_);
  std::vector<uint8_t> last_head, tail;
  const size_t last_size = structure_.last_pixels.size();
  if (last_size > 0) {
    AppendBe32(last_head, static_cast<uint32_t>(last_size));
    AppendText(last_head, "IDAT");
    AppendBe32(tail, 0);
  }
  AppendChunk(tail, "IEND", {});
  input_.parts = {head, structure_.pixels, last_head, structure_.last_pixels, tail};
  const bool indexed = structure_.colour_type == 3;
  // Indices are read into the end of each row's place and spread from its front.
  const size_t stride = indexed ? width : 3 * width;
  uint8_t* const pixels = rgb.data() + rgb.size() - stride * height;
  if (!Start() || !ReadRows(pixels, stride)) {
    if (std::strstr(input_.message, "Not enough") != nullptr)
      return Incomplete("PNG", "pixel data ends early");
    return Fail(
        ErrorCode::kInvalidArgument, "image is damaged",
        {.field = "image", .limit = "a readable file", .value = "PNG", .detail = input_.message});
  }
  // Whole rows before a chunk that is cut short: Pillow misses that chunk's rest when it looks for
  // the end.
  if (last_size > 0 && input_.part < 3) return Truncated("PNG", "a chunk longer than the file");
  if (indexed) {
    const auto palette = PaletteOf(structure_.palette);
    // The write position 3 i never passes the read position 2 n + i before that index has been
    // read.
    for (size_t i = 0; i < width * height; ++i) {
      const std::array<uint8_t, 3> colour = palette[pixels[i]];
      std::memcpy(rgb.data() + 3 * i, colour.data(), 3);
    }
  }
  return {};
}

}  // namespace

std::unique_ptr<Codec> MakePngCodec(std::span<const uint8_t> file, const DecodeLimits&) {
  return std::make_unique<PngCodec>(file);
}

std::string PngVersion() { return std::string("libpng ") + png_get_libpng_ver(nullptr); }

}  // namespace tessera::media
