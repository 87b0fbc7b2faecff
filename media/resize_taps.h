// The weights of Pillow's resize: for each output position the input positions that it reads, in
// fixed point. Internal to media/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "media/resize.h"

namespace tessera::media {

// 8 bits of the result and 2 of headroom for negative lobes leave 22 for the fraction.
inline constexpr int kFractionBits = 32 - 8 - 2;
inline constexpr int32_t kHalf = 1 << (kFractionBits - 1);

struct Taps {
  struct Span {
    int first;  // input position; never less than that of the span before
    int count;
    size_t weights;  // index of its first weight
  };
  std::vector<Span> spans;  // of each output position
  std::vector<int32_t> weights;
  int most = 0;  // the largest count

  std::span<const int32_t> WeightsOf(const Span& of) const {
    return std::span(weights).subspan(of.weights, static_cast<size_t>(of.count));
  }
};

// Any filter but kNearest, which has no weights. Sizes at least 1.
Taps MakeTaps(int in_size, int out_size, Resample resample);

}  // namespace tessera::media
