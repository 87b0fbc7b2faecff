#include "media/jpeg_header.h"

#include <algorithm>
#include <cstring>

#include "media/codec.h"

namespace tessera::media {
namespace {

using Segment = std::span<const uint8_t>;
using std::string_view_literals::operator""sv;

bool StartsWith(Segment segment, std::string_view prefix) {
  return segment.size() >= prefix.size() &&
         std::memcmp(segment.data(), prefix.data(), prefix.size()) == 0;
}

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> file) : file_(file) {}
  Result<JpegHeader> Run();

 private:
  Result<Segment> NextSegment();
  Result<void> Frame(int marker, Segment segment);
  Result<void> Application(int marker, Segment segment);
  Result<void> Photoshop(Segment segment);
  Result<void> QuantizationTables(Segment segment);

  std::span<const uint8_t> file_;
  size_t at_ = 3;
  JpegHeader header_;
  size_t sampling_entries_ = 0;
  std::vector<Segment> icc_;
};

Result<Segment> Reader::NextSegment() {
  if (file_.size() - at_ < 2) return Truncated("JPEG", "segment without length");
  const size_t length = Be16(&file_[at_]);
  at_ += 2;
  if (length <= 2)
    return Segment{};  // too short a length reads nothing; what follows is then looked at as
                       // markers
  if (file_.size() - at_ < length - 2) return Truncated("JPEG", "segment longer than the file");
  const Segment segment = file_.subspan(at_, length - 2);
  at_ += length - 2;
  return segment;
}

Result<void> Reader::Frame(int marker, Segment segment) {
  if (segment.size() < 6) return Damaged("JPEG", "short frame header");
  header_.height = static_cast<int>(Be16(&segment[1]));
  header_.width = static_cast<int>(Be16(&segment[3]));
  if (segment[0] != 8) {
    return Fail(
        ErrorCode::kInvalidArgument, "image has an unsupported sample depth",
        {.field = "image", .limit = "8 bits", .value = std::to_string(segment[0]) + " bits"});
  }
  header_.components = segment[5];
  if (header_.components != 1 && header_.components != 3 && header_.components != 4) {
    return Fail(ErrorCode::kInvalidArgument, "image has an unsupported number of colour components",
                {.field = "image", .limit = "1, 3 or 4", .value = std::to_string(segment[5])});
  }
  if (marker == 0xc2 || marker == 0xc6 || marker == 0xca || marker == 0xce)
    header_.progressive = true;
  if (!icc_.empty()) {
    // Pillow sorts the profile's parts and looks at a byte that too short a part does not have.
    const auto least = std::min_element(icc_.begin(), icc_.end(), [](Segment a, Segment b) {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    });
    if (least->size() < 14) return Damaged("JPEG", "short colour profile segment");
    icc_.clear();
  }
  for (size_t i = 6; i < segment.size(); i += 3) {
    if (segment.size() - i < 3) return Damaged("JPEG", "broken component list");
    if (sampling_entries_ < header_.sampling.size()) {
      header_.sampling[sampling_entries_++] = {segment[i + 1] >> 4, segment[i + 1] & 15};
    }
  }
  return {};
}

// Pillow walks Photoshop's resource blocks; a name that starts past the end stops it with an error.
Result<void> Reader::Photoshop(Segment segment) {
  size_t at = 14;
  while (at <= segment.size() && StartsWith(segment.subspan(at), "8BIM")) {
    at += 4;
    if (segment.size() - at < 2) return {};
    const uint32_t code = Be16(&segment[at]);
    at += 2;
    if (at >= segment.size()) return Damaged("JPEG", "broken Photoshop segment");
    at += 1 + size_t{segment[at]};
    at += at & 1;
    if (at > segment.size() || segment.size() - at < 4) return {};
    const size_t size = Be32(&segment[at]);
    at += 4;
    const size_t held = std::min(size, segment.size() - at);
    if (code == 0x03ed && held < 14) return {};
    at += size;
    at += at & 1;
  }
  return {};
}

Result<void> Reader::Application(int marker, Segment segment) {
  if (marker == 0xe0 && StartsWith(segment, "JFIF")) {
    if (segment.size() < 7) return Damaged("JPEG", "short JFIF segment");
  } else if (marker == 0xe1 && StartsWith(segment, "Exif\0\0"sv)) {
    const Segment part = header_.exif.empty() ? segment : segment.subspan(6);
    header_.exif.insert(header_.exif.end(), part.begin(), part.end());
  } else if (constexpr std::string_view kXmp = "http://ns.adobe.com/xap/1.0/\0"sv;
             marker == 0xe1 && StartsWith(segment, kXmp)) {
    header_.xmp = {reinterpret_cast<const char*>(segment.data()) + kXmp.size(),
                   segment.size() - kXmp.size()};
  } else if (marker == 0xe2 && StartsWith(segment, "ICC_PROFILE\0"sv)) {
    icc_.push_back(segment);
  } else if (marker == 0xed && StartsWith(segment, "Photoshop 3.0\0"sv)) {
    return Photoshop(segment);
  } else if (marker == 0xee && StartsWith(segment, "Adobe")) {
    if (segment.size() < 7) return Damaged("JPEG", "short Adobe segment");
  }
  return {};
}

Result<void> Reader::QuantizationTables(Segment segment) {
  while (!segment.empty()) {
    const size_t size = 1 + (segment[0] >> 4 == 0 ? 64 : 128);
    if (segment.size() < size) return Damaged("JPEG", "bad quantization table");
    segment = segment.subspan(size);
  }
  return {};
}

Result<JpegHeader> Reader::Run() {
  bool marker_started = true;  // the third byte of the file, 0xff
  while (true) {
    if (at_ >= file_.size()) return Truncated("JPEG", "no scan");
    const int byte = file_[at_++];
    if (!marker_started) {
      marker_started = byte == 0xff;  // anything else between segments is passed over
      continue;
    }
    if (byte == 0xff) continue;  // fill byte
    marker_started = false;
    if (byte == 0) continue;
    if (byte < 0xc0) return Damaged("JPEG", "no marker where one must stand");
    const int marker = byte;
    if (marker == 0xc8 || (marker >= 0xd0 && marker <= 0xd9) || (marker >= 0xf0 && marker <= 0xfd))
      continue;
    TESSERA_TRY(const Segment segment, NextSegment());
    if (marker == 0xda) {
      if (header_.components == 0) return Damaged("JPEG", "scan before the frame header");
      header_.first_scan_components = segment.empty() ? 0 : segment[0];
      return std::move(header_);
    }
    if (marker == 0xdb) {
      TESSERA_RETURN_IF_ERROR(QuantizationTables(segment));
    } else if (marker >= 0xe0 && marker <= 0xef) {
      TESSERA_RETURN_IF_ERROR(Application(marker, segment));
    } else if ((marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xcc) ||
               marker == 0xde) {
      TESSERA_RETURN_IF_ERROR(Frame(marker, segment));
    }
  }
}

}  // namespace

int64_t JpegHeader::CoefficientBytes() const {
  if (!progressive && first_scan_components >= components) return 0;
  int64_t most_horizontal = 1, most_vertical = 1;
  for (int i = 0; i < components; ++i) {
    most_horizontal = std::max<int64_t>(most_horizontal, sampling[i].horizontal);
    most_vertical = std::max<int64_t>(most_vertical, sampling[i].vertical);
  }
  int64_t blocks = 0;
  for (int i = 0; i < components; ++i) {
    const auto count = [](int64_t size, int64_t factor, int64_t most) {
      factor = std::max<int64_t>(factor, 1);
      const int64_t needed = (size * factor + most * 8 - 1) / (most * 8);
      return (needed + factor - 1) / factor * factor;
    };
    blocks += count(width, sampling[i].horizontal, most_horizontal) *
              count(height, sampling[i].vertical, most_vertical);
  }
  return blocks * 64 * int64_t{sizeof(int16_t)};
}

Result<JpegHeader> ReadJpegHeader(std::span<const uint8_t> file) { return Reader(file).Run(); }

}  // namespace tessera::media
