// A SHA-256 digest as a key. Never truncated: a collision would show one picture's keys to a
// question about another.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>

namespace tessera {

struct Digest {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const Digest&) const = default;
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
