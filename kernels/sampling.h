// The exact definition of Sample (ops.h) as host code. Every backend must draw the token that
// SampleOne draws.
//
// All of it is integers, or fp64 additions, multiplications and divisions rounded to nearest and
// never contracted, so that two devices agree bit for bit. Not thread safe per scratch; functions
// have no state.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "kernels/ops.h"

namespace tessera {

// Weight of the best candidate: 2^40.
inline constexpr int kSampleWeightBits = 40;
// Vocabularies up to 2^22: the sum of all weights fits 64 bits.
inline constexpr int64_t kMaxSampleVocab = int64_t{1} << 22;

// 2^fraction for fraction in [0, 1): the polynomial below, Horner's rule. Relative error under
// 1e-14; exact at 0.
double SampleExp2Fraction(double fraction);
// floor(2^40 * 2^d) for d <= 0; 0 for d < -40 and for NaN.
uint64_t SampleWeight(double d);

// Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);
// The 64 bits of one draw: words 0 (low) and 1 (high).
uint64_t SampleBits(uint64_t seed, uint32_t position, uint32_t choice);

struct SampleCandidate {
  float l = 0;
  int32_t id = 0;
};

// logits: [V] raw. `scratch` holds at least V candidates; its content is overwritten.
SampleResult SampleOne(std::span<const float> logits, const SampleRow& row,
                       std::span<SampleCandidate> scratch);

}  // namespace tessera
