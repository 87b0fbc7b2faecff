// The horizontal pass of Resize on processors with AVX2: the same bits, four taps a step.
//
// A weight of 23 bits and sign is cut into 15 low bits and the rest, so that two 16-bit products
// and their sum are one instruction (VPMADDWD) for each part; the parts meet in 32 bits, where the
// sum wraps as Pillow's does and fits in the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tessera::media {

// The weights of all pixels of an output row, as the instruction wants them. Immutable once all
// pixels are added; then thread-safe.
class PackedTaps {
 public:
  // Bytes that Run may read behind the last input pixel of a row: they do not count, but must be
  // there.
  static constexpr size_t kBytesBehind = 16;
  // Whether this machine can do it.
  static bool Usable();

  // The next output pixel: input pixels first, first + 1, ... with these weights (Pillow's fixed
  // point, below 2^24 in size).
  void Add(int first, std::span<const int32_t> weights);

  // Four rows at once, `in_stride` and `out_stride` bytes apart. in: RGB, out: RGB of all pixels
  // added. `half` is added before the shift by `fraction_bits`.
  static constexpr size_t kRows = 4;
  struct Rows {
    const uint8_t* in;
    size_t in_stride;
    uint8_t* out;
    size_t out_stride;
  };
  void Run(const Rows& rows, int32_t half, int fraction_bits) const;

 private:
  struct Pixel {
    size_t offset;  // of its first input byte
    int steps;
  };
  // Four taps: pairs (0, 1) three times and a rest, then pairs (2, 3).
  struct alignas(32) Step {
    int16_t low[16];
    int16_t high[16];
  };

  std::vector<Pixel> pixels_;
  std::vector<Step> steps_;
};

// 3 * count bytes RGBRGB... to three planes.
void SplitChannels(const uint8_t* rgb, size_t count, uint8_t* red, uint8_t* green, uint8_t* blue);

}  // namespace tessera::media
