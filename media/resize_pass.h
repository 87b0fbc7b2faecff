// One pass of Resize over a few rows, in plain C++ and in the vector instructions of two
// generations of processors: the same bits from all. Internal to media/.
//
// Buffers: a row may be read kBytesBehind bytes and written kBytesBehind bytes beyond its end; what
// stands there does not count, but must be there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "media/resize_taps.h"

namespace tessera::media {

inline constexpr size_t kBytesBehind = 64;
inline constexpr int kPassRows = 4;

// kPassRows rows, `in_stride` and `out_stride` bytes apart.
struct PassRows {
  const uint8_t* in;
  size_t in_stride;
  uint8_t* out;
  size_t out_stride;
};

// Shortens or lengthens rows of RGB pixels. Immutable, thread-safe.
class HorizontalPass {
 public:
  virtual ~HorizontalPass() = default;
  virtual void Run(const PassRows& rows) const = 0;
};

// A row of bytes from rows of as many bytes: out[i] = the sum over j of weights[j] * rows[j][i].
// Reads nothing behind its rows; writes `out` up to kBytesBehind bytes beyond.
using VerticalPass = void (*)(std::span<const uint8_t* const> rows, const int32_t* weights,
                              size_t bytes, uint8_t* out);

std::unique_ptr<HorizontalPass> PlainHorizontal(const Taps& taps);
void PlainVertical(std::span<const uint8_t* const> rows, const int32_t* weights, size_t bytes,
                   uint8_t* out);

// For machines that have MediaTier::kAvx2.
std::unique_ptr<HorizontalPass> Avx2Horizontal(const Taps& taps);
void Avx2Vertical(std::span<const uint8_t* const> rows, const int32_t* weights, size_t bytes,
                  uint8_t* out);

// For machines that have MediaTier::kAvx512. `Avx512Takes`: whether the weights are of a size that
// this form of them holds. The horizontal pass is null where input and output differ too much in
// size for it.
bool Avx512Takes(const Taps& taps);
std::unique_ptr<HorizontalPass> Avx512Horizontal(const Taps& taps);
void Avx512Vertical(std::span<const uint8_t* const> rows, const int32_t* weights, size_t bytes,
                    uint8_t* out);

}  // namespace tessera::media
