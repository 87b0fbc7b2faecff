// The chunks of a PNG file, read and judged as Pillow's PngImagePlugin does. Internal to media/.
//
// libpng is then given only what this pass found good: header, palette and the compressed rows. So
// ancillary chunks, where libpng and Pillow differ most in what they refuse, never reach libpng.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace tessera::media {

struct PngStructure {
  uint32_t width = 0;
  uint32_t height = 0;
  int bit_depth = 0;
  int colour_type = 0;  // as in the file: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA
  bool interlaced = false;
  std::span<const uint8_t> palette;  // PLTE's bytes, empty if none; points into the file
  // The first run of IDAT chunks, their heads and checksums included; points into the file. Where
  // the file cuts the last chunk short, `pixels` ends before its head, and `last_pixels` are the
  // bytes of its data that exist.
  std::span<const uint8_t> pixels;
  std::span<const uint8_t> last_pixels;
  bool animated = false;
  std::vector<uint8_t> exif;  // empty if none
  std::string xmp;            // empty if none
};

// Checks checksums of all chunks before the pixels, as Pillow does, and the structure of all
// chunks. Memory: what of compressed text is kept is at most 1 MiB a chunk; all inflating together
// at most 64 MiB, then the file is refused.
Result<PngStructure> ReadPngChunks(std::span<const uint8_t> file);

}  // namespace tessera::media
