// The one thing of a picture's metadata that changes its pixels: the orientation, from EXIF or XMP.
// All functions are thread-safe, allocate nothing and never fail: what cannot be read orients
// nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tessera::media {

// The value of tag 0x0112 in the first directory of a TIFF structure, which may follow one or two
// "Exif\0\0" prefixes, as Pillow reads it: the first entry of that tag with a known type and data
// in range counts, whatever its number type. Values other than 1..8 come back as 1, for they orient
// nothing; so does a structure that is no TIFF at all. nullopt: no such tag, and XMP may have one.
std::optional<int> ExifOrientation(std::span<const uint8_t> exif);

// The first `tiff:Orientation="N"` or `tiff:Orientation>N` of an XMP packet; nullopt if there is
// none.
std::optional<int> XmpOrientation(std::string_view xmp);

}  // namespace tessera::media
