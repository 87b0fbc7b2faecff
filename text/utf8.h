// UTF-8 in and out. Valid means Unicode's table 3-7: no overlong forms, no surrogates, nothing
// above U+10FFFF.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tessera {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

// Linear, eight bytes at a time over ASCII.
bool IsValidUtf8(std::string_view text);

// The length of the valid prefix of `text`.
size_t ValidUtf8Prefix(std::string_view text);

struct DecodedChar {
  char32_t code_point;
  uint32_t length;  // bytes, at least 1
};

// What stands at the start of `text`, which must not be empty. An invalid sequence is U+FFFD with
// the length of its maximal subpart (Unicode 3.9, as the Rust and WHATWG decoders do).
DecodedChar DecodeUtf8(std::string_view text);

// True if `text` is not empty and could become one valid character with more bytes.
bool IsIncompleteUtf8(std::string_view text);

void AppendUtf8(std::string& out, char32_t code_point);

}  // namespace tessera
