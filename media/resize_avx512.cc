// The passes of Resize on processors with AVX-512 VBMI and VNNI: the same bits, four taps of 16
// sums an instruction.
//
// A weight is written in three signed digits of base 256, so that four products of a pixel's byte
// and a digit and their sum are one instruction (VPDPBUSD) for each digit; the digits' sums meet in
// 32 bits, where the sum wraps as Pillow's does and fits in the end.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "media/resize_pass.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera::media {

#if defined(__x86_64__)

namespace {

#define TESSERA_AVX512 gnu::target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")

constexpr int kDigits = 3;
constexpr int kDigitBits = 8;
constexpr size_t kTapsAStep = 4;

struct Digits {
  int8_t of[kDigits];
};

Digits DigitsOf(int32_t weight) {
  Digits digits;
  for (int8_t& digit : digits.of) {
    digit = static_cast<int8_t>(weight & 0xff);
    weight = (weight - digit) >> kDigitBits;
  }
  return digits;
}

// Digits' sums, of which the lowest has kHalf in it, to levels that a saturating pack clips.
[[TESSERA_AVX512, gnu::always_inline]] inline __m512i Levels(const __m512i (&sums)[kDigits]) {
  const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(sums[2], kDigitBits), sums[1]);
  return _mm512_srai_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, kDigitBits), sums[0]),
                           kFractionBits);
}

// Five pixels of three channels are 15 sums of 32 bits. The bytes that their first four taps read
// lie within 64 bytes and go to the sums' lanes by one permutation, as do those of the next four
// taps, twelve bytes on.
class Groups final : public HorizontalPass {
 public:
  static constexpr size_t kPixels = 5;

  explicit Groups(const Taps& taps) {
    for (size_t at = 0; at < taps.spans.size(); at += kPixels)
      Add(taps, std::span(taps.spans).subspan(at, std::min(kPixels, taps.spans.size() - at)));
  }
  // Whether the first four taps of any five pixels lie within 64 bytes.
  static bool Takes(const Taps& taps) {
    for (size_t i = 0; i < taps.spans.size(); ++i) {
      const size_t last = std::min(i + kPixels, taps.spans.size()) - 1;
      const int between = taps.spans[last].first - taps.spans[i].first;
      if ((between + static_cast<int>(kTapsAStep)) * 3 > 64) return false;
    }
    return true;
  }
  void Run(const PassRows& rows) const override;

 private:
  struct alignas(64) Group {
    uint8_t pick[64];
    size_t offset;  // of its first input byte
    size_t steps;
  };
  struct alignas(64) Step {
    int8_t digits[kDigits][64];
  };

  void Add(const Taps& taps, std::span<const Taps::Span> pixels);

  std::vector<Group> groups_;
  std::vector<Step> steps_;
};

void Groups::Add(const Taps& taps, std::span<const Taps::Span> pixels) {
  Group group{};
  group.offset = static_cast<size_t>(pixels[0].first) * 3;
  for (size_t i = 0; i < pixels.size(); ++i) {
    const size_t begin = static_cast<size_t>(pixels[i].first) * 3 - group.offset;
    for (size_t lane = 0; lane < 12; ++lane)  // byte `tap` of the sum of a channel
      group.pick[i * 12 + lane] = static_cast<uint8_t>(begin + lane % 4 * 3 + lane / 4);
    const size_t count = static_cast<size_t>(pixels[i].count);
    group.steps = std::max(group.steps, (count + kTapsAStep - 1) / kTapsAStep);
  }
  for (size_t s = 0; s < group.steps; ++s) {
    Step& step = steps_.emplace_back();
    for (size_t i = 0; i < pixels.size(); ++i) {
      const std::span<const int32_t> weights = taps.WeightsOf(pixels[i]);
      for (size_t lane = 0; lane < 12; ++lane) {
        const size_t tap = s * kTapsAStep + lane % 4;
        const Digits digits = DigitsOf(tap < weights.size() ? weights[tap] : 0);
        for (int d = 0; d < kDigits; ++d) step.digits[d][i * 12 + lane] = digits.of[d];
      }
    }
  }
  groups_.push_back(group);
}

[[TESSERA_AVX512]] void Groups::Run(const PassRows& rows) const {
  // After two packs the levels of four rows lie in turn in fours; this puts each row's together.
  const __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i half = _mm512_set1_epi32(kHalf);
  const Step* step = steps_.data();
  uint8_t* out = rows.out;
  for (const Group& group : groups_) {
    const __m512i pick = _mm512_load_si512(group.pick);
    __m512i sums[kPassRows][kDigits];
    for (auto& row : sums) {
      row[0] = half;
      row[1] = row[2] = _mm512_setzero_si512();
    }
    const uint8_t* in = rows.in + group.offset;
    for (size_t s = 0; s < group.steps; ++s, ++step, in += 3 * kTapsAStep) {
      __m512i digits[kDigits];
      for (int d = 0; d < kDigits; ++d) digits[d] = _mm512_load_si512(step->digits[d]);
      for (size_t r = 0; r < kPassRows; ++r) {
        const __m512i bytes =
            _mm512_permutexvar_epi8(pick, _mm512_loadu_si512(in + r * rows.in_stride));
        for (int d = 0; d < kDigits; ++d)
          sums[r][d] = _mm512_dpbusd_epi32(sums[r][d], bytes, digits[d]);
      }
    }
    const __m512i first = _mm512_packs_epi32(Levels(sums[0]), Levels(sums[1]));
    const __m512i second = _mm512_packs_epi32(Levels(sums[2]), Levels(sums[3]));
    const __m512i levels = _mm512_permutexvar_epi32(by_row, _mm512_packus_epi16(first, second));
    // A sixteenth byte, and those of absent pixels, are written over by the next group or lie
    // behind the row.
    const auto to = [&](size_t r) { return reinterpret_cast<__m128i*>(out + r * rows.out_stride); };
    _mm_storeu_si128(to(0), _mm512_castsi512_si128(levels));
    _mm_storeu_si128(to(1), _mm512_extracti32x4_epi32(levels, 1));
    _mm_storeu_si128(to(2), _mm512_extracti32x4_epi32(levels, 2));
    _mm_storeu_si128(to(3), _mm512_extracti32x4_epi32(levels, 3));
    out += 3 * kPixels;
  }
}

}  // namespace

// The greatest number of three signed digits is 127 * (1 + 256 + 65536).
bool Avx512Takes(const Taps& taps) {
  constexpr int32_t kMost = 127 * (1 + 256 + 65536);
  return std::all_of(taps.weights.begin(), taps.weights.end(),
                     [](int32_t weight) { return weight >= -kMost && weight <= kMost; });
}

std::unique_ptr<HorizontalPass> Avx512Horizontal(const Taps& taps) {
  if (!Groups::Takes(taps)) return nullptr;
  return std::make_unique<Groups>(taps);
}

[[TESSERA_AVX512]] void Avx512Vertical(std::span<const uint8_t* const> rows, const int32_t* weights,
                                       size_t bytes, uint8_t* out) {
  struct Step {
    int32_t digits[kDigits];  // of four taps, a byte each
  };
  std::vector<Step> steps((rows.size() + kTapsAStep - 1) / kTapsAStep);
  for (size_t j = 0; j < rows.size(); ++j) {
    const Digits digits = DigitsOf(weights[j]);
    for (int d = 0; d < kDigits; ++d)
      steps[j / kTapsAStep].digits[d] |= static_cast<int32_t>(
          uint32_t{static_cast<uint8_t>(digits.of[d])} << (8 * (j % kTapsAStep)));
  }
  const __m512i half = _mm512_set1_epi32(kHalf);
  for (size_t at = 0; at < bytes; at += 64) {
    // The rows are as long as `bytes` says, and not more.
    const __mmask64 present = bytes - at >= 64 ? ~__mmask64{0} : (__mmask64{1} << (bytes - at)) - 1;
    __m512i sums[4][kDigits];
    for (auto& quarter : sums) {
      quarter[0] = half;
      quarter[1] = quarter[2] = _mm512_setzero_si512();
    }
    for (size_t j = 0; j < rows.size(); j += kTapsAStep) {
      __m512i in[kTapsAStep];  // an absent tap has digits of zero
      for (size_t tap = 0; tap < kTapsAStep; ++tap)
        in[tap] = _mm512_maskz_loadu_epi8(present, rows[std::min(j + tap, rows.size() - 1)] + at);
      const __m512i low = _mm512_unpacklo_epi8(in[0], in[1]),
                    high = _mm512_unpackhi_epi8(in[0], in[1]),
                    low2 = _mm512_unpacklo_epi8(in[2], in[3]),
                    high2 = _mm512_unpackhi_epi8(in[2], in[3]);
      const __m512i taps[4] = {_mm512_unpacklo_epi16(low, low2), _mm512_unpackhi_epi16(low, low2),
                               _mm512_unpacklo_epi16(high, high2),
                               _mm512_unpackhi_epi16(high, high2)};
      for (int d = 0; d < kDigits; ++d) {
        const __m512i digit = _mm512_set1_epi32(steps[j / kTapsAStep].digits[d]);
        for (int q = 0; q < 4; ++q) sums[q][d] = _mm512_dpbusd_epi32(sums[q][d], taps[q], digit);
      }
    }
    const __m512i first = _mm512_packs_epi32(Levels(sums[0]), Levels(sums[1]));
    const __m512i second = _mm512_packs_epi32(Levels(sums[2]), Levels(sums[3]));
    _mm512_storeu_si512(out + at, _mm512_packus_epi16(first, second));
  }
}

#undef TESSERA_AVX512

#else

bool Avx512Takes(const Taps&) { return false; }
std::unique_ptr<HorizontalPass> Avx512Horizontal(const Taps&) { return nullptr; }
void Avx512Vertical(std::span<const uint8_t* const>, const int32_t*, size_t, uint8_t*) {
  TESSERA_CHECK(false, "no AVX-512 on this processor");
}

#endif

}  // namespace tessera::media
