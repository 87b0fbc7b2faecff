// The vertical pass in plain C++, which compilers turn into vectors of the width that they are
// told. Internal to media/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "media/resize_taps.h"

namespace tessera::media {

[[gnu::always_inline]] inline uint8_t Clip(int32_t sum) {
  return static_cast<uint8_t>(
      std::clamp(sum >> kFractionBits, 0, 255));  // the shift rounds down, as Pillow's does
}

// `kLanes` bytes from `at` on.
template <size_t kLanes>
[[gnu::always_inline]] inline void VerticalLanes(std::span<const uint8_t* const> rows,
                                                 const int32_t* weights, size_t at, uint8_t* out) {
  int32_t sums[kLanes];
  for (size_t i = 0; i < kLanes; ++i) sums[i] = kHalf;
  for (size_t j = 0; j < rows.size(); ++j) {
    const uint8_t* in = rows[j] + at;
    const int32_t weight = weights[j];
    for (size_t i = 0; i < kLanes; ++i) sums[i] += weight * in[i];
  }
  for (size_t i = 0; i < kLanes; ++i) out[at + i] = Clip(sums[i]);
}

[[gnu::always_inline]] inline void VerticalBody(std::span<const uint8_t* const> rows,
                                                const int32_t* weights, size_t bytes,
                                                uint8_t* out) {
  size_t i = 0;
  for (; i + 64 <= bytes; i += 64) VerticalLanes<64>(rows, weights, i, out);
  for (; i + 8 <= bytes; i += 8) VerticalLanes<8>(rows, weights, i, out);
  for (; i < bytes; ++i) VerticalLanes<1>(rows, weights, i, out);
}

}  // namespace tessera::media
