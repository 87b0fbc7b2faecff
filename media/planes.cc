#include "media/planes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera::media {

#if defined(__x86_64__)
namespace {

// Where the bytes of `lanes` pixels lie: byte `lane` of a plane is the register's byte picks[lane],
// or none of its own where that is negative.
template <int kLanes>
struct Picks {
  alignas(64) int8_t of[3][3][kLanes];  // [plane][register][lane]
  constexpr Picks() : of() {
    for (int plane = 0; plane < 3; ++plane)
      for (int source = 0; source < 3; ++source)
        for (int lane = 0; lane < kLanes; ++lane) {
          const int at = 3 * lane + plane - kLanes * source;
          of[plane][source][lane] = static_cast<int8_t>(at >= 0 && at < kLanes ? at : -1);
        }
  }
};
constexpr Picks<16> kSixteens;
constexpr Picks<64> kSixtyFours;

// 16 pixels a step: each plane's bytes are picked from the three registers and joined.
[[gnu::target("avx2")]] size_t SplitSixteens(const uint8_t* rgb, size_t count,
                                             uint8_t* const (&planes)[3]) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const auto* from = reinterpret_cast<const __m128i*>(rgb + 3 * i);
    const __m128i bytes[3] = {_mm_loadu_si128(from), _mm_loadu_si128(from + 1),
                              _mm_loadu_si128(from + 2)};
    for (int plane = 0; plane < 3; ++plane) {
      __m128i joined = _mm_setzero_si128();
      for (int source = 0; source < 3; ++source) {
        const auto* pick = reinterpret_cast<const __m128i*>(kSixteens.of[plane][source]);
        joined = _mm_or_si128(joined, _mm_shuffle_epi8(bytes[source], _mm_load_si128(pick)));
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[plane] + i), joined);
    }
  }
  return i;
}

// 64 pixels a step.
[[gnu::target("avx512f,avx512bw,avx512vl,avx512vbmi")]] size_t SplitSixtyFours(
    const uint8_t* rgb, size_t count, uint8_t* const (&planes)[3]) {
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const uint8_t* from = rgb + 3 * i;
    const __m512i bytes[3] = {_mm512_loadu_si512(from), _mm512_loadu_si512(from + 64),
                              _mm512_loadu_si512(from + 128)};
    for (int plane = 0; plane < 3; ++plane) {
      __m512i joined = _mm512_setzero_si512();
      for (int source = 0; source < 3; ++source) {
        const __m512i pick = _mm512_load_si512(kSixtyFours.of[plane][source]);
        joined =
            _mm512_mask_permutexvar_epi8(joined, ~_mm512_movepi8_mask(pick), pick, bytes[source]);
      }
      _mm512_storeu_si512(planes[plane] + i, joined);
    }
  }
  return i;
}

[[gnu::target("avx2")]] size_t LookUpEights(const float* values, const uint8_t* levels,
                                            size_t count, float* out) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(levels + i));
    _mm256_storeu_ps(out + i, _mm256_i32gather_ps(values, _mm256_cvtepu8_epi32(bytes), 4));
  }
  return i;
}

[[gnu::target("avx512f")]] size_t LookUpSixteens(const float* values, const uint8_t* levels,
                                                 size_t count, float* out) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels + i));
    _mm512_storeu_ps(out + i, _mm512_i32gather_ps(_mm512_cvtepu8_epi32(bytes), values, 4));
  }
  return i;
}

}  // namespace
#endif

void SplitChannels(const uint8_t* rgb, size_t count, uint8_t* red, uint8_t* green, uint8_t* blue,
                   MediaTier tier) {
  size_t i = 0;
#if defined(__x86_64__)
  uint8_t* const planes[3] = {red, green, blue};
  if (tier == MediaTier::kAvx512) i = SplitSixtyFours(rgb, count, planes);
  if (tier == MediaTier::kAvx2) i = SplitSixteens(rgb, count, planes);
#else
  static_cast<void>(tier);
#endif
  for (; i < count; ++i) {
    red[i] = rgb[3 * i];
    green[i] = rgb[3 * i + 1];
    blue[i] = rgb[3 * i + 2];
  }
}

void LookUp(const std::array<float, 256>& values, const uint8_t* levels, size_t count, float* out,
            MediaTier tier) {
  size_t i = 0;
#if defined(__x86_64__)
  if (tier == MediaTier::kAvx512) i = LookUpSixteens(values.data(), levels, count, out);
  if (tier == MediaTier::kAvx2) i = LookUpEights(values.data(), levels, count, out);
#else
  static_cast<void>(tier);
#endif
  for (; i < count; ++i) out[i] = values[levels[i]];
}

}  // namespace tessera::media
