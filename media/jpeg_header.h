// The segments of a JPEG file before its first scan, read as Pillow's JpegImagePlugin reads them.
// Internal to media/.
//
// libjpeg reads the same bytes again when it decodes; this pass exists because sizes must be known
// before libjpeg allocates, because the metadata lies here, and because Pillow refuses files at
// this stage that libjpeg would take.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tessera::media {

struct JpegHeader {
  int width = 0;
  int height = 0;
  int components = 0;  // 1, 3 or 4
  bool progressive = false;
  int first_scan_components = 0;  // fewer than components: several scans even if not progressive
  struct Sampling {
    int horizontal = 1;
    int vertical = 1;
  };
  std::array<Sampling, 4> sampling{};
  std::vector<uint8_t> exif;  // of all EXIF segments, joined
  std::string_view xmp;       // points into the file

  // Bytes of the coefficient arrays that libjpeg keeps for progressive and multi-scan files, 0 for
  // others.
  int64_t CoefficientBytes() const;
};

// kInvalidArgument: damaged, truncated, or of a kind that Pillow does not read (12-bit, two
// components, no scan).
Result<JpegHeader> ReadJpegHeader(std::span<const uint8_t> file);

}  // namespace tessera::media
