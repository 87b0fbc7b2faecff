#include "media/resize_avx2.h"

#include <cstring>

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera::media {
namespace {

constexpr int kLowBits = 15;
constexpr size_t kTapsAStep = 4;

}  // namespace

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

#if defined(__x86_64__)

bool PackedTaps::Usable() { return __builtin_cpu_supports("avx2"); }

[[gnu::target("avx2")]] void PackedTaps::Run(const Rows& rows, int32_t half,
                                             int fraction_bits) const {
  // Bytes r0 g0 b0 r1 g1 b1 ... to 16-bit pairs r0 r1, g0 g1, b0 b1; the upper half takes pixels 2
  // and 3.
  const __m256i pairs =
      _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7,
                       -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const __m256i rounding = _mm256_set1_epi32(half);
  const __m128i shift = _mm_cvtsi32_si128(fraction_bits);
  const Step* step = steps_.data();
  size_t at = 0;
  for (const Pixel& pixel : pixels_) {
    __m256i low[kRows], high[kRows];
    for (size_t r = 0; r < kRows; ++r) low[r] = high[r] = _mm256_setzero_si256();
    const uint8_t* from = rows.in + pixel.offset;
    for (int i = 0; i < pixel.steps; ++i, ++step, from += 3 * kTapsAStep) {
      const __m256i low_weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(step->low));
      const __m256i high_weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(step->high));
      for (size_t r = 0; r < kRows; ++r) {
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
      sums[pair] = _mm256_sra_epi32(_mm256_add_epi32(sum, rounding), shift);
    }
    // Rows 0 and 2 in the lower half, 1 and 3 in the upper one.
    __m256i bytes = _mm256_packs_epi32(sums[0], sums[1]);
    bytes = _mm256_packus_epi16(bytes, bytes);
    const auto even = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm256_castsi256_si128(bytes)));
    const auto odd = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm256_extracti128_si256(bytes, 1)));
    const uint32_t of_row[kRows] = {static_cast<uint32_t>(even), static_cast<uint32_t>(odd),
                                    static_cast<uint32_t>(even >> 32),
                                    static_cast<uint32_t>(odd >> 32)};
    // The fourth byte is the next pixel's, written after it.
    const size_t width = &pixel == &pixels_.back() ? 3 : 4;
    for (size_t r = 0; r < kRows; ++r) {
      uint8_t* to = rows.out + r * rows.out_stride + at;
      if (width == 4) {
        std::memcpy(to, &of_row[r], 4);
      } else {
        std::memcpy(to, &of_row[r], 3);
      }
    }
    at += 3;
  }
}

namespace {

// 16 pixels a step: each plane's bytes are picked from the three registers and joined.
[[gnu::target("ssse3")]] size_t SplitSixteens(const uint8_t* rgb, size_t count, uint8_t* red,
                                              uint8_t* green, uint8_t* blue) {
  alignas(16) int8_t picks[3][3][16];  // [plane][register][lane]
  for (int plane = 0; plane < 3; ++plane)
    for (int source = 0; source < 3; ++source)
      for (int lane = 0; lane < 16; ++lane) {
        const int at = 3 * lane + plane - 16 * source;
        picks[plane][source][lane] = static_cast<int8_t>(at >= 0 && at < 16 ? at : -1);
      }
  uint8_t* const planes[3] = {red, green, blue};
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const auto* from = reinterpret_cast<const __m128i*>(rgb + 3 * i);
    const __m128i bytes[3] = {_mm_loadu_si128(from), _mm_loadu_si128(from + 1),
                              _mm_loadu_si128(from + 2)};
    for (int plane = 0; plane < 3; ++plane) {
      __m128i joined = _mm_setzero_si128();
      for (int source = 0; source < 3; ++source) {
        const __m128i pick = _mm_load_si128(reinterpret_cast<const __m128i*>(picks[plane][source]));
        joined = _mm_or_si128(joined, _mm_shuffle_epi8(bytes[source], pick));
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[plane] + i), joined);
    }
  }
  return i;
}

}  // namespace

void SplitChannels(const uint8_t* rgb, size_t count, uint8_t* red, uint8_t* green, uint8_t* blue) {
  size_t i = __builtin_cpu_supports("ssse3") ? SplitSixteens(rgb, count, red, green, blue) : 0;
  for (; i < count; ++i) {
    red[i] = rgb[3 * i];
    green[i] = rgb[3 * i + 1];
    blue[i] = rgb[3 * i + 2];
  }
}

#else

bool PackedTaps::Usable() { return false; }
void PackedTaps::Run(const Rows&, int32_t, int) const {
  TESSERA_CHECK(false, "no AVX2 on this processor");
}
void SplitChannels(const uint8_t* rgb, size_t count, uint8_t* red, uint8_t* green, uint8_t* blue) {
  for (size_t i = 0; i < count; ++i) {
    red[i] = rgb[3 * i];
    green[i] = rgb[3 * i + 1];
    blue[i] = rgb[3 * i + 2];
  }
}

#endif

}  // namespace tessera::media
