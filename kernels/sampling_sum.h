// The one pass of Sample (ops.h, step 3) over a whole vocabulary that costs time: the sum of all
// weights, eight at a time. Plain C++ with vector types, so that each tier compiles it for its own
// instruction set; every element goes through the operations of SampleWeight (sampling.h) in the
// same order, and integer sums have no order, so the bits are the same everywhere.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/sampling.h"

namespace tessera {

// Sum of SampleWeight((l[i] / temperature - z_max) * log2(e)). No l is NaN or +inf; none is so far
// above z_max that it weighs more than 2^40. `Tier` keeps the instances of two tiers apart.
template <typename Tier>
uint64_t SampleWeightSumOf(const float* l, int64_t n, double temperature, double z_max) {
  constexpr int kLanes = 8;
  using Floats = float __attribute__((vector_size(kLanes * sizeof(float))));
  using Doubles = double __attribute__((vector_size(kLanes * sizeof(double))));
  using Masks = int64_t __attribute__((vector_size(kLanes * sizeof(int64_t))));
  using Integers = uint64_t __attribute__((vector_size(kLanes * sizeof(uint64_t))));
  constexpr double kInteger = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  constexpr double kNatural = 4503599627370496.0;  // 2^52: a number below it then is the mantissa
  const Masks one = reinterpret_cast<Masks>(Doubles{} + 1.0);
  Integers sums{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Floats narrow;
    std::memcpy(&narrow, l + i, sizeof narrow);
    const Doubles d =
        (__builtin_convertvector(narrow, Doubles) / temperature - z_max) * kSampleLog2E;
    Doubles whole = (d + kInteger) - kInteger;
    whole -= reinterpret_cast<Doubles>((whole > d) & one);
    const Doubles fraction = d - whole;
    Doubles power = Doubles{} + kSampleExp2.term[kSampleExp2Terms - 1];
    for (int term = kSampleExp2Terms - 2; term >= 0; --term)
      power = power * fraction + kSampleExp2.term[term];
    const Doubles biased = whole + (1023.0 + kSampleWeightBits + kNatural);
    const Doubles scaled =
        power * reinterpret_cast<Doubles>(reinterpret_cast<Integers>(biased) << 52);
    Doubles floor = (scaled + kNatural) - kNatural;
    floor -= reinterpret_cast<Doubles>((floor > scaled) & one);
    const Integers weight =
        reinterpret_cast<Integers>(floor + kNatural) & ((uint64_t{1} << 52) - 1);
    sums += weight & reinterpret_cast<Integers>(d >= static_cast<double>(-kSampleWeightBits));
  }
  uint64_t sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  for (; i < n; ++i)
    sum += SampleWeight((static_cast<double>(l[i]) / temperature - z_max) * kSampleLog2E);
  return sum;
}

}  // namespace tessera
