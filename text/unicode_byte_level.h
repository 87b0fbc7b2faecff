// GPT-2's mapping of bytes to printable characters, with which byte-level vocabularies are written:
// a byte that is a printable Latin-1 character stands for itself, the 68 others are U+0100 onwards
// (Radford et al. 2019, encoder.py).
//
// Thread safety: pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/utf8.h"

namespace tessera {

inline constexpr std::array<char16_t, 256> kByteLevelChars = [] {
  std::array<char16_t, 256> chars{};
  char16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    chars[byte] = printable ? static_cast<char16_t>(byte) : next++;
  }
  return chars;
}();

// The byte of a character, or -1.
inline constexpr std::array<int16_t, 0x144> kByteLevelBytes = [] {
  std::array<int16_t, 0x144> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kByteLevelChars[byte]] = static_cast<int16_t>(byte);
  return bytes;
}();

inline void AppendByteLevel(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) AppendUtf8(out, kByteLevelChars[static_cast<uint8_t>(byte)]);
}

// The bytes that the characters of `token` stand for; if one of them stands for none, the token
// itself.
inline std::string ByteLevelBytes(std::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size();) {
    const DecodedChar c = DecodeUtf8(token.substr(i));
    if (c.code_point >= kByteLevelBytes.size() || kByteLevelBytes[c.code_point] < 0)
      return std::string(token);
    bytes += static_cast<char>(kByteLevelBytes[c.code_point]);
    i += c.length;
  }
  return bytes;
}

}  // namespace tessera
