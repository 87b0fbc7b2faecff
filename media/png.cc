// PNG rows through libpng, from the parts of the file that png_chunks.cc found good.
#include <array>
#include <csetjmp>
#include <cstring>

#include <png.h>

#include "base/check.h"
#include "media/codec.h"
#include "media/png_chunks.h"

namespace tessera::media {
namespace {

// libpng's own buffers: a few rows at most 8 bytes a pixel, inflate's window, the structs.
constexpr int64_t kFixedBytes = int64_t{1} << 20;
constexpr int64_t kBytesPerColumn = 64;

// A small PNG made of the checked parts: signature, IHDR, a palette of the right length, one IDAT of all pixel data, IEND.
struct Input {
  std::vector<std::span<const uint8_t>> parts;
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

void Append(std::vector<uint8_t>& out, const char* name, uint32_t length, std::span<const uint8_t> data) {
  const auto be32 = [&](uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(value >> shift));
  };
  be32(length);
  out.insert(out.end(), name, name + 4);
  if (data.empty()) return;  // pixels follow
  out.insert(out.end(), data.begin(), data.end());
  be32(0);  // checksums are checked already; libpng is told not to
}

// The checksum of IDAT, which nobody reads, and IEND.
constexpr std::array<uint8_t, 16> kTail = {0, 0, 0, 0, 0, 0, 0, 0, 'I', 'E', 'N', 'D', 0, 0, 0, 0};

std::vector<uint8_t> MakeHead(const PngStructure& png, uint32_t pixel_bytes) {
  std::vector<uint8_t> out = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  std::array<uint8_t, 13> header{};
  for (int i = 0; i < 4; ++i) {
    header[i] = static_cast<uint8_t>(png.width >> (24 - 8 * i));
    header[4 + i] = static_cast<uint8_t>(png.height >> (24 - 8 * i));
  }
  header[8] = static_cast<uint8_t>(png.bit_depth);
  header[9] = static_cast<uint8_t>(png.colour_type);
  header[12] = png.interlaced ? 1 : 0;
  Append(out, "IHDR", header.size(), header);
  if (png.colour_type == 3) {
    const std::vector<uint8_t> placeholder(size_t{3} << png.bit_depth);
    Append(out, "PLTE", static_cast<uint32_t>(placeholder.size()), placeholder);
  }
  Append(out, "IDAT", pixel_bytes, {});
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
  return Header{.width = structure_.width,
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
  png_read_info(png_, info_);
  if (structure_.bit_depth == 16) png_set_strip_16(png_);  // keeps the high byte
  switch (structure_.colour_type) {
    case 0: png_set_expand_gray_1_2_4_to_8(png_); png_set_gray_to_rgb(png_); break;
    case 3: png_set_packing(png_); break;  // indices, one a byte
    case 4: png_set_strip_alpha(png_); png_set_gray_to_rgb(png_); break;
    case 6: png_set_strip_alpha(png_); break;
    default: break;
  }
  return true;
}

// Row by row; interlaced pictures are visited once a pass, and libpng puts each pass's pixels in their places.
bool PngCodec::ReadRows(uint8_t* pixels, size_t stride) {
  if (setjmp(png_jmpbuf(png_)) != 0) return false;
  const int passes = png_set_interlace_handling(png_);
  png_read_update_info(png_, info_);
  if (png_get_rowbytes(png_, info_) != stride) png_error(png_, "unexpected row size");
  for (int pass = 0; pass < passes; ++pass) {
    for (uint32_t y = 0; y < structure_.height; ++y) png_read_row(png_, pixels + y * stride, nullptr);
  }
  return true;
}

Result<void> PngCodec::Decode(std::span<uint8_t> rgb, const std::stop_token&) {
  const size_t width = structure_.width, height = structure_.height;
  TESSERA_CHECK(rgb.size() == width * height * 3, "rgb of {} bytes", rgb.size());
  size_t pixel_bytes = 0;
  for (const auto& part : structure_.pixels) pixel_bytes += part.size();
  if (pixel_bytes > PNG_UINT_31_MAX) return Damaged("PNG", "more than 2 GiB of pixel data");
  const std::vector<uint8_t> head = MakeHead(structure_, static_cast<uint32_t>(pixel_bytes));
  input_.parts.push_back(head);
  input_.parts.insert(input_.parts.end(), structure_.pixels.begin(), structure_.pixels.end());
  input_.parts.push_back(kTail);
  const bool indexed = structure_.colour_type == 3;
  // Indices are read into the end of each row's place and spread from its front.
  const size_t stride = indexed ? width : 3 * width;
  uint8_t* const pixels = rgb.data() + rgb.size() - stride * height;
  if (!Start() || !ReadRows(pixels, stride)) {
    if (std::strstr(input_.message, "Not enough") != nullptr) return Incomplete("PNG", "pixel data ends early");
    return Fail(ErrorCode::kInvalidArgument, "image is damaged",
                {.field = "image", .limit = "a readable file", .value = "PNG", .detail = input_.message});
  }
  if (indexed) {
    const auto palette = PaletteOf(structure_.palette);
    // The write position 3 i never passes the read position 2 n + i before that index has been read.
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
