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
#include "kernels/sampling_constants.h"

namespace tessera {

// Vocabularies up to 2^22: the sum of all weights fits 64 bits.
inline constexpr int64_t kMaxSampleVocab = int64_t{1} << 22;

// 2^fraction for fraction in [0, 1): the polynomial kSampleExp2, Horner's rule. Relative error
// under 1e-14; exact at 0.
double SampleExp2Fraction(double fraction);
// floor(2^40 * 2^d) for d <= 0; 0 for d < -40 and for NaN.
uint64_t SampleWeight(double d);

// max + log(sum of e^(l - max)), the sum in integers that may be added up in any order: a term's
// whole part in units of 2^-40 goes to `high`, its fraction of such a unit, rounded down to 2^-40
// of it, to `low`.
double SampleLogNormaliser(float max, uint64_t high, uint64_t low);

// Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);
// The 64 bits of one draw: words 0 (low) and 1 (high).
uint64_t SampleBits(uint64_t seed, uint32_t position, uint32_t choice);

struct SampleCandidate {
  float l = 0;
  int32_t id = 0;
};

// Sum of the weights of l[0, n), as kernels/sampling_sum.h defines it.
using SampleWeightSum = uint64_t (*)(const float* l, int64_t n, double temperature, double z_max);
uint64_t PlainSampleWeightSum(const float* l, int64_t n, double temperature, double z_max);

// logits: [V] raw. `scratch` holds at least V candidates; its content is overwritten. `sum`: a
// tier's own body, which gives the same number. Greedy rows that change no logit read the logits
// once and write nothing; other rows sort no further than the draw needs.
SampleResult SampleOne(std::span<const float> logits, const SampleRow& row,
                       std::span<SampleCandidate> scratch,
                       SampleWeightSum sum = PlainSampleWeightSum);

}  // namespace tessera
