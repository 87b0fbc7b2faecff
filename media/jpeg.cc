// JPEG through libjpeg-turbo's libjpeg interface, set up as Pillow sets it up: accurate integer
// DCT, smooth chroma upsampling, a data source that suspends at the end of the file instead of
// inventing an end marker.
#include <fmt/format.h>
#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "media/codec.h"
#include "media/jpeg_header.h"

namespace tessera::media {
namespace {

// libjpeg's row buffers, Huffman tables and upsampling workspace.
constexpr int64_t kFixedBytes = int64_t{1} << 20;
constexpr int64_t kBytesPerColumn = 512;

// Why libjpeg was left by longjmp, where it was not libjpeg's own error.
enum class Stop { kNone, kScans, kScannedPixels, kCancelled, kDataMissing };

// All that libjpeg's callbacks see. The base structs come first, so that libjpeg's pointers lead
// back here.
struct Callbacks {
  jpeg_error_mgr error{};
  jpeg_progress_mgr progress{};
  jpeg_source_mgr source{};
  std::jmp_buf jump{};
  const std::stop_token* stop = nullptr;
  int max_scans = 0;
  int64_t max_scanned_pixels = 0;
  int last_scan = 0;
  int64_t scanned_pixels = 0;  // width x height of each scan, by its share of the components
  Stop reason = Stop::kNone;
  unsigned components_seen = 0;  // bit i: component i stood in some scan
};

Callbacks& Of(j_common_ptr common) { return *static_cast<Callbacks*>(common->client_data); }

[[noreturn]] void OnError(j_common_ptr common) { std::longjmp(Of(common).jump, 1); }

[[noreturn]] void Leave(j_common_ptr common, Stop reason) {
  Of(common).reason = reason;
  std::longjmp(Of(common).jump, 1);
}

// Warnings and traces. Where coded data is missing libjpeg would go on and fill the hole with grey,
// however large the picture; leaving at once keeps the work in proportion to the file.
void OnMessage(j_common_ptr common, int level) {
  if (level >= 0) return;  // a trace
  ++common->err->num_warnings;
  if (common->err->msg_code == JWRN_HIT_MARKER || common->err->msg_code == JWRN_JPEG_EOF)
    Leave(common, Stop::kDataMissing);
}

void Nothing(j_decompress_ptr) {}
void NoOutput(j_common_ptr) {}
boolean OutOfData(j_decompress_ptr) { return FALSE; }

void SkipInput(j_decompress_ptr cinfo, long count) {
  if (count <= 0) return;
  const size_t held = cinfo->src->bytes_in_buffer;
  const size_t step = std::min(static_cast<size_t>(count), held);
  cinfo->src->next_input_byte += step;
  cinfo->src->bytes_in_buffer -= step;
}

// libjpeg's own way to go on after a wrong restart marker; here it is only judged whether that
// loses a segment. Only a marker far from the expected one is taken for a damaged number with all
// data present.
boolean Resync(j_decompress_ptr cinfo, int desired) {
  const int marker = cinfo->unread_marker;
  const bool restart = marker >= 0xd0 && marker <= 0xd7;
  const int ahead = (marker - 0xd0 - desired) & 7;
  if (!restart || ahead == 1 || ahead == 2 || ahead == 6 || ahead == 7) {
    Leave(reinterpret_cast<j_common_ptr>(cinfo), Stop::kDataMissing);
  }
  return jpeg_resync_to_restart(cinfo, desired);
}

// Called before each piece of input is consumed.
void OnProgress(j_common_ptr common) {
  Callbacks& callbacks = Of(common);
  const auto* cinfo = reinterpret_cast<j_decompress_ptr>(common);
  if (cinfo->input_scan_number > callbacks.max_scans) Leave(common, Stop::kScans);
  if (cinfo->input_scan_number != callbacks.last_scan) {
    callbacks.last_scan = cinfo->input_scan_number;
    callbacks.scanned_pixels += int64_t{cinfo->image_width} * cinfo->image_height *
                                cinfo->comps_in_scan / cinfo->num_components;
    if (callbacks.scanned_pixels > callbacks.max_scanned_pixels)
      Leave(common, Stop::kScannedPixels);
  }
  if (callbacks.stop != nullptr && callbacks.stop->stop_requested())
    Leave(common, Stop::kCancelled);
  for (int i = 0; i < cinfo->comps_in_scan; ++i) {
    callbacks.components_seen |= 1u << cinfo->cur_comp_info[i]->component_index;
  }
}

// The result of one visit to libjpeg. Errors by longjmp end in kFailed.
enum class Step { kDone, kOutOfData, kFailed };

class JpegCodec final : public Codec {
 public:
  JpegCodec(std::span<const uint8_t> file, const DecodeLimits& limits)
      : file_(file), limits_(limits) {}
  ~JpegCodec() override {
    if (created_) jpeg_destroy_decompress(&cinfo_);
  }
  JpegCodec(const JpegCodec&) = delete;
  JpegCodec& operator=(const JpegCodec&) = delete;

  Result<Header> ReadHeader() override;
  int Shrink(int64_t least_width, int64_t least_height) override;
  Result<void> Decode(std::span<uint8_t> rgb, const std::stop_token& stop) override;

 private:
  int64_t LibraryBytes() const {
    return header_.CoefficientBytes() + kFixedBytes + kBytesPerColumn * int64_t{header_.width};
  }
  Result<void> Explain(Step step) const;
  bool AllCoefficientsSeen() const;

  // Each runs inside one setjmp: no object with a destructor lives in them.
  Step Create();
  Step ReadLibraryHeader();
  Step Start();
  Step ReadRows(uint8_t* rgb, uint8_t* row);
  Step Finish();

  const std::span<const uint8_t> file_;
  const DecodeLimits limits_;
  JpegHeader header_;
  unsigned divisor_ = 1;
  Callbacks callbacks_;
  jpeg_decompress_struct cinfo_{};
  bool created_ = false;
};

Result<Header> JpegCodec::ReadHeader() {
  TESSERA_TRY(header_, ReadJpegHeader(file_));
  return Header{.width = header_.width,
                .height = header_.height,
                .orientation = OrientationFrom(header_.exif, header_.xmp),
                .animated = false,
                .working_bytes = LibraryBytes() + 4 * int64_t{header_.width}};
}

// Halves, quarters and eighths alone: libjpeg-turbo has vector code for the first two, and the last
// reads one coefficient of a block.
int JpegCodec::Shrink(int64_t least_width, int64_t least_height) {
  while (divisor_ < 8 && header_.width >= 2 * int64_t{divisor_} * least_width &&
         header_.height >= 2 * int64_t{divisor_} * least_height) {
    divisor_ *= 2;
  }
  return static_cast<int>(divisor_);
}

Step JpegCodec::Create() {
  cinfo_.err = jpeg_std_error(&callbacks_.error);
  callbacks_.error.error_exit = OnError;
  callbacks_.error.emit_message = OnMessage;
  callbacks_.error.output_message = NoOutput;
  cinfo_.client_data = &callbacks_;
  if (setjmp(callbacks_.jump) != 0) return Step::kFailed;
  jpeg_create_decompress(&cinfo_);
  created_ = true;
  cinfo_.client_data = &callbacks_;
  callbacks_.source.init_source = Nothing;
  callbacks_.source.fill_input_buffer = OutOfData;
  callbacks_.source.skip_input_data = SkipInput;
  callbacks_.source.resync_to_restart = Resync;
  callbacks_.source.term_source = Nothing;
  callbacks_.source.next_input_byte = file_.data();
  callbacks_.source.bytes_in_buffer = file_.size();
  cinfo_.src = &callbacks_.source;
  callbacks_.progress.progress_monitor = OnProgress;
  cinfo_.progress = &callbacks_.progress;
  cinfo_.mem->max_memory_to_use = static_cast<long>(LibraryBytes());
  return Step::kDone;
}

Step JpegCodec::ReadLibraryHeader() {
  if (setjmp(callbacks_.jump) != 0) return Step::kFailed;
  int status;
  do {
    status = jpeg_read_header(&cinfo_, FALSE);
  } while (status == JPEG_HEADER_TABLES_ONLY);
  if (status == JPEG_SUSPENDED) return Step::kOutOfData;
  switch (header_.components) {
    case 1: cinfo_.out_color_space = JCS_GRAYSCALE; break;
    case 3: cinfo_.out_color_space = JCS_RGB; break;
    default: cinfo_.out_color_space = JCS_CMYK; break;
  }
  cinfo_.scale_num = 1;
  cinfo_.scale_denom = divisor_;
  return Step::kDone;
}

Step JpegCodec::Start() {
  if (setjmp(callbacks_.jump) != 0) return Step::kFailed;
  return jpeg_start_decompress(&cinfo_) ? Step::kDone : Step::kOutOfData;
}

// Inverted CMYK, as Adobe writes it, to RGB by Pillow's integer arithmetic: what is left of white
// after ink and black.
void CmykRowToRgb(const uint8_t* cmyk, uint8_t* rgb, int width) {
  for (int x = 0; x < width; ++x) {
    const int black = cmyk[4 * x + 3];  // inverted: 255 is no black
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[4 * x + c]) * black + 128;
      const int value = black - (((product >> 8) + product) >> 8);
      rgb[3 * x + c] = static_cast<uint8_t>(std::max(value, 0));
    }
  }
}

Step JpegCodec::ReadRows(uint8_t* rgb, uint8_t* row) {
  if (setjmp(callbacks_.jump) != 0) return Step::kFailed;
  const auto width = static_cast<int>(cinfo_.output_width);
  while (cinfo_.output_scanline < cinfo_.output_height) {
    uint8_t* const out = rgb + size_t{cinfo_.output_scanline} * static_cast<size_t>(width) * 3;
    JSAMPROW target = header_.components == 3 ? out : row;
    if (jpeg_read_scanlines(&cinfo_, &target, 1) != 1) return Step::kOutOfData;
    if (header_.components == 1) {
      for (int x = 0; x < width; ++x) out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = row[x];
    } else if (header_.components == 4) {
      CmykRowToRgb(row, out, width);
    }
  }
  return Step::kDone;
}

Step JpegCodec::Finish() {
  if (setjmp(callbacks_.jump) != 0) return Step::kFailed;
  jpeg_finish_decompress(&cinfo_);  // all rows are there: an absent end marker does not matter
  return Step::kDone;
}

Result<void> JpegCodec::Explain(Step step) const {
  if (step == Step::kDone) return {};
  if (step == Step::kOutOfData) return Truncated("JPEG", "the file ends within the picture");
  switch (callbacks_.reason) {
    case Stop::kScans:
      return Fail(ErrorCode::kInvalidArgument, "image has too many progressive scans",
                  {.field = "image",
                   .limit = fmt::format("{} scans", limits_.max_progressive_scans),
                   .value = fmt::format("{} scans or more", cinfo_.input_scan_number)});
    case Stop::kScannedPixels:
      return Fail(ErrorCode::kInvalidArgument, "image has too many progressive scans for its size",
                  {.field = "image",
                   .limit = fmt::format("{} pixels in all scans", limits_.max_scanned_pixels),
                   .value = fmt::format("{} pixels or more", callbacks_.scanned_pixels)});
    case Stop::kCancelled: return Fail(ErrorCode::kCancelled, "cancelled while decoding an image");
    case Stop::kDataMissing: return Incomplete("JPEG", "coded data ends before the picture");
    case Stop::kNone: break;
  }
  if (callbacks_.error.msg_code == JERR_SOF_UNSUPPORTED ||
      callbacks_.error.msg_code == JERR_ARITH_NOTIMPL) {
    return Fail(ErrorCode::kInvalidArgument, "image has an unsupported JPEG process",
                {.field = "image", .limit = "baseline, extended or progressive", .value = "JPEG"});
  }
  if (callbacks_.error.msg_code == JERR_OUT_OF_MEMORY) {
    return Fail(ErrorCode::kResourceExhausted, "out of memory while decoding an image",
                {.field = "image"});
  }
  char message[JMSG_LENGTH_MAX] = "";
  auto* common = reinterpret_cast<j_common_ptr>(const_cast<jpeg_decompress_struct*>(&cinfo_));
  cinfo_.err->format_message(common, message);
  return Fail(ErrorCode::kInvalidArgument, "image is damaged",
              {.field = "image", .limit = "a readable file", .value = "JPEG", .detail = message});
}

// After the last scan of a progressive picture every coefficient has been sent to its last bit;
// where the file was cut between scans, libjpeg would show a blurred picture.
bool JpegCodec::AllCoefficientsSeen() const {
  if (callbacks_.components_seen != (1u << header_.components) - 1) return false;
  if (!cinfo_.progressive_mode || cinfo_.coef_bits == nullptr) return true;
  for (int component = 0; component < header_.components; ++component) {
    for (int i = 0; i < DCTSIZE2; ++i) {
      if (cinfo_.coef_bits[component][i] != 0) return false;
    }
  }
  return true;
}

Result<void> JpegCodec::Decode(std::span<uint8_t> rgb, const std::stop_token& stop) {
  callbacks_.stop = &stop;
  callbacks_.max_scans = limits_.max_progressive_scans;
  callbacks_.max_scanned_pixels = limits_.max_scanned_pixels;
  TESSERA_RETURN_IF_ERROR(Explain(Create()));
  TESSERA_RETURN_IF_ERROR(Explain(ReadLibraryHeader()));
  if (static_cast<int64_t>(cinfo_.image_width) != header_.width ||
      static_cast<int64_t>(cinfo_.image_height) != header_.height ||
      cinfo_.num_components != header_.components) {
    return Damaged("JPEG", "two frame headers disagree");
  }
  TESSERA_RETURN_IF_ERROR(Explain(Start()));
  TESSERA_CHECK(rgb.size() == size_t{cinfo_.output_width} * cinfo_.output_height * 3,
                "rgb of {} bytes for {}x{}", rgb.size(), cinfo_.output_width, cinfo_.output_height);
  const bool several_scans = cinfo_.buffered_image == FALSE && jpeg_has_multiple_scans(&cinfo_);
  std::vector<uint8_t> row(
      header_.components == 3 ? 0 : size_t{4} * static_cast<size_t>(header_.width));
  TESSERA_RETURN_IF_ERROR(Explain(ReadRows(rgb.data(), row.data())));
  if (several_scans && !AllCoefficientsSeen()) return Incomplete("JPEG", "scans are missing");
  return Explain(Finish());
}

}  // namespace

std::unique_ptr<Codec> MakeJpegCodec(std::span<const uint8_t> file, const DecodeLimits& limits) {
  return std::make_unique<JpegCodec>(file, limits);
}

std::string JpegVersion() {
#define TESSERA_TEXT_INNER(x) #x
#define TESSERA_TEXT(x) TESSERA_TEXT_INNER(x)
  return "libjpeg-turbo " TESSERA_TEXT(LIBJPEG_TURBO_VERSION);
}

}  // namespace tessera::media
