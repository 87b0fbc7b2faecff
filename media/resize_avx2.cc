// The passes of Resize on processors with AVX2: the same bits, four taps a step.
//
// A weight of 23 bits and sign is cut into 15 low bits and the rest, so that two 16-bit products
// and their sum are one instruction (VPMADDWD) for each part; the parts meet in 32 bits, where the
// sum wraps as Pillow's does and fits in the end.
#include <cstring>
#include <vector>

#include "base/check.h"
#include "media/resize_pass.h"
#include "media/resize_vertical.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera::media {

#if defined(__x86_64__)

namespace {

constexpr int kLowBits = 15;
constexpr size_t kTapsAStep = 4;

class PackedTaps final : public HorizontalPass {
 public:
  explicit PackedTaps(const Taps& taps) {
    for (const Taps::Span& span : taps.spans) Add(span.first, taps.WeightsOf(span));
  }
  void Run(const PassRows& rows) const override;

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

  void Add(int first, std::span<const int32_t> weights);

  std::vector<Pixel> pixels_;
  std::vector<Step> steps_;
};

void PackedTaps::Add(int first, std::span<const int32_t> weights) {
  const size_t steps = (weights.size() + kTapsAStep - 1) / kTapsAStep;
  pixels_.push_back({static_cast<size_t>(first) * 3, static_cast<int>(steps)});
  for (size_t step = 0; step < steps; ++step) {
    Step packed{};
    for (size_t tap = 0; tap < kTapsAStep; ++tap) {
      const size_t at = step * kTapsAStep + tap;
      const int32_t weight = at < weights.size() ? weights[at] : 0;
      for (size_t channel = 0; channel < 3; ++channel) {
        const size_t lane = tap / 2 * 8 + channel * 2 + tap % 2;
        packed.low[lane] = static_cast<int16_t>(weight & ((1 << kLowBits) - 1));
        packed.high[lane] = static_cast<int16_t>(weight >> kLowBits);
      }
    }
    steps_.push_back(packed);
  }
}

[[gnu::target("avx2")]] void PackedTaps::Run(const PassRows& rows) const {
  // Bytes r0 g0 b0 r1 g1 b1 ... to 16-bit pairs r0 r1, g0 g1, b0 b1; the upper half takes pixels 2
  // and 3.
  const __m256i pairs =
      _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7,
                       -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const __m256i rounding = _mm256_set1_epi32(kHalf);
  const Step* step = steps_.data();
  size_t at = 0;
  for (const Pixel& pixel : pixels_) {
    __m256i low[kPassRows], high[kPassRows];
    for (size_t r = 0; r < kPassRows; ++r) low[r] = high[r] = _mm256_setzero_si256();
    const uint8_t* from = rows.in + pixel.offset;
    for (int i = 0; i < pixel.steps; ++i, ++step, from += 3 * kTapsAStep) {
      const __m256i low_weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(step->low));
      const __m256i high_weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(step->high));
      for (size_t r = 0; r < kPassRows; ++r) {
        const auto* bytes = reinterpret_cast<const __m128i*>(from + r * rows.in_stride);
        const __m256i values =
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(bytes)), pairs);
        low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(values, low_weights));
        high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(values, high_weights));
      }
    }
    __m256i sums[2];  // of rows 0 and 1, of rows 2 and 3
    for (size_t pair = 0; pair < 2; ++pair) {
      __m256i both[2];
      for (size_t r = 0; r < 2; ++r)
        both[r] =
            _mm256_add_epi32(low[2 * pair + r], _mm256_slli_epi32(high[2 * pair + r], kLowBits));
      const __m256i sum = _mm256_add_epi32(_mm256_permute2x128_si256(both[0], both[1], 0x20),
                                           _mm256_permute2x128_si256(both[0], both[1], 0x31));
      sums[pair] = _mm256_srai_epi32(_mm256_add_epi32(sum, rounding), kFractionBits);
    }
    // Rows 0 and 2 in the lower half, 1 and 3 in the upper one.
    __m256i bytes = _mm256_packs_epi32(sums[0], sums[1]);
    bytes = _mm256_packus_epi16(bytes, bytes);
    const auto even = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm256_castsi256_si128(bytes)));
    const auto odd = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm256_extracti128_si256(bytes, 1)));
    const uint32_t of_row[kPassRows] = {static_cast<uint32_t>(even), static_cast<uint32_t>(odd),
                                        static_cast<uint32_t>(even >> 32),
                                        static_cast<uint32_t>(odd >> 32)};
    // The fourth byte is the next pixel's, written after it.
    for (size_t r = 0; r < kPassRows; ++r)
      std::memcpy(rows.out + r * rows.out_stride + at, &of_row[r], 4);
    at += 3;
  }
}

}  // namespace

std::unique_ptr<HorizontalPass> Avx2Horizontal(const Taps& taps) {
  return std::make_unique<PackedTaps>(taps);
}

[[gnu::target("avx2")]] void Avx2Vertical(std::span<const uint8_t* const> rows,
                                          const int32_t* weights, size_t bytes, uint8_t* out) {
  VerticalBody(rows, weights, bytes, out);
}

#else

std::unique_ptr<HorizontalPass> Avx2Horizontal(const Taps&) { return nullptr; }
void Avx2Vertical(std::span<const uint8_t* const>, const int32_t*, size_t, uint8_t*) {
  TESSERA_CHECK(false, "no AVX2 on this processor");
}

#endif

}  // namespace tessera::media
