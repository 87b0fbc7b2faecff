// A SHA-256 digest as a key. Never truncated: a collision would show one picture's keys to a
// question about another.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

namespace tessera {

struct Digest {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const Digest&) const = default;

  // 64 lower-case digits.
  std::string Hex() const {
    constexpr char digits[] = "0123456789abcdef";
    std::string out;
    out.reserve(2 * bytes.size());
    for (const uint8_t byte : bytes) out += digits[byte >> 4], out += digits[byte & 15];
    return out;
  }
};

}  // namespace tessera

template <>
struct std::hash<tessera::Digest> {
  size_t operator()(const tessera::Digest& digest) const noexcept {
    size_t value;  // the bytes are uniform already
    std::memcpy(&value, digest.bytes.data(), sizeof value);
    return value;
  }
};
