#include "media/exif.h"

#include <bit>
#include <cstring>

namespace tessera::media {
namespace {

constexpr uint16_t kOrientationTag = 0x0112;

// Bounds-checked reads of either byte order.
class TiffReader {
 public:
  TiffReader(std::span<const uint8_t> data, bool big_endian)
      : data_(data), big_endian_(big_endian) {}

  bool Has(uint64_t offset, uint64_t size) const {
    return offset <= data_.size() && size <= data_.size() - offset;
  }
  uint64_t Unsigned(uint64_t offset, int bytes) const {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) {
      const uint64_t byte = data_[offset + i];
      value |= byte << (8 * (big_endian_ ? bytes - 1 - i : i));
    }
    return value;
  }

 private:
  std::span<const uint8_t> data_;
  bool big_endian_;
};

int SizeOfType(unsigned type) {
  switch (type) {
    case 1:
    case 2:
    case 6:
    case 7: return 1;
    case 3:
    case 8: return 2;
    case 4:
    case 9:
    case 11:
    case 13: return 4;
    case 5:
    case 10:
    case 12:
    case 16: return 8;
    default: return 0;  // unknown: the entry is passed over
  }
}

int OrientationOf(double value) {
  return value >= 1 && value <= 8 && value == static_cast<int>(value) ? static_cast<int>(value) : 1;
}

// The first number of a value of that type; bytes and texts are no numbers to Pillow's table of
// transpositions.
double FirstNumber(const TiffReader& tiff, uint64_t offset, unsigned type) {
  switch (type) {
    case 3: return static_cast<double>(tiff.Unsigned(offset, 2));
    case 4:
    case 13: return static_cast<double>(tiff.Unsigned(offset, 4));
    case 16: return static_cast<double>(tiff.Unsigned(offset, 8));
    case 6: return static_cast<int8_t>(tiff.Unsigned(offset, 1));
    case 8: return static_cast<int16_t>(tiff.Unsigned(offset, 2));
    case 9: return static_cast<int32_t>(tiff.Unsigned(offset, 4));
    case 11: return std::bit_cast<float>(static_cast<uint32_t>(tiff.Unsigned(offset, 4)));
    case 12: return std::bit_cast<double>(tiff.Unsigned(offset, 8));
    case 5:
    case 10: {
      const double numerator = static_cast<double>(tiff.Unsigned(offset, 4));
      const double denominator = static_cast<double>(tiff.Unsigned(offset + 4, 4));
      return denominator == 0 ? 0 : numerator / denominator;
    }
    default: return 0;
  }
}

std::span<const uint8_t> WithoutPrefix(std::span<const uint8_t> exif) {
  constexpr char kPrefix[] = {'E', 'x', 'i', 'f', 0, 0};
  for (int i = 0; i < 2; ++i) {
    if (exif.size() >= sizeof kPrefix && std::memcmp(exif.data(), kPrefix, sizeof kPrefix) == 0) {
      exif = exif.subspan(sizeof kPrefix);
    }
  }
  return exif;
}

}  // namespace

std::optional<int> ExifOrientation(std::span<const uint8_t> exif) {
  const std::span<const uint8_t> data = WithoutPrefix(exif);
  if (data.empty()) return std::nullopt;
  if (data.size() < 8) return 1;
  const bool big_endian = data[0] == 'M' && data[1] == 'M';
  if (!big_endian && !(data[0] == 'I' && data[1] == 'I')) return 1;
  // Pillow takes 42 in either byte order.
  if (!(data[2] == 42 && data[3] == 0) && !(data[2] == 0 && data[3] == 42)) return 1;
  const TiffReader tiff(data, big_endian);
  uint64_t entry = tiff.Unsigned(4, 4);
  if (!tiff.Has(entry, 2)) return std::nullopt;
  const uint64_t count = tiff.Unsigned(entry, 2);
  entry += 2;
  for (uint64_t i = 0; i < count && tiff.Has(entry, 12); ++i, entry += 12) {
    if (tiff.Unsigned(entry, 2) != kOrientationTag) continue;
    const auto type = static_cast<unsigned>(tiff.Unsigned(entry + 2, 2));
    const uint64_t size = tiff.Unsigned(entry + 4, 4) * static_cast<uint64_t>(SizeOfType(type));
    if (size == 0) continue;
    const uint64_t value = size > 4 ? tiff.Unsigned(entry + 8, 4) : entry + 8;
    if (!tiff.Has(value, size)) continue;
    return OrientationOf(FirstNumber(tiff, value, type));
  }
  return std::nullopt;
}

std::optional<int> XmpOrientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = xmp.find(kName); at != std::string_view::npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = xmp.substr(at + kName.size());
    if (rest.starts_with("=\""))
      rest.remove_prefix(2);
    else if (rest.starts_with(">"))
      rest.remove_prefix(1);
    else
      continue;
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return OrientationOf(rest[0] - '0');
  }
  return std::nullopt;
}

}  // namespace tessera::media
