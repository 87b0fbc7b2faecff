// How far a tensor is from its golden, and the bounds of docs/fidelity.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tessera {

// Errors relative to the standard deviation of the golden tensor (1 where that is zero). A NaN or
// an infinity that the golden has not is an infinite error.
struct Deviation {
  int64_t count = 0;
  int64_t worst = -1;  // flat index of the largest error
  double max_abs = 0;
  double golden_std = 0;
  double max_relative = 0;  // max_abs / golden_std
  double mean_relative = 0;
};
// Sizes must agree (a programmer error otherwise).
Deviation Measure(std::span<const float> got, std::span<const float> golden);

inline constexpr double kFloatBound = 2e-4;  // max_relative in fp32
inline constexpr double kBf16MaxFactor =
    2.5;  // times the largest error of the reference's own bf16 run
inline constexpr double kBf16MeanFactor = 2.0;  // times its mean error
inline constexpr double kFloatMargin =
    1e-3;  // logit distance below which a greedy id may differ, fp32
inline constexpr double kBf16MarginFactor =
    4.0;  // times the yardstick's largest error times the logits' deviation

// The largest errors of NAME_bf16 over a golden's cases.
struct Yardstick {
  double max_relative = 0;
  double mean_relative = 0;
  void Add(const Deviation& deviation);
};

bool WithinFloat(const Deviation& deviation);
bool WithinBf16(const Deviation& deviation, const Yardstick& yardstick);

// Compares greedy ids up to the first difference. `margins` are the golden's logit distances.
struct GreedyVerdict {
  bool pass = true;
  int first_difference = -1;  // -1: all equal
  double margin = 0;          // there
};
GreedyVerdict CompareGreedy(std::span<const int32_t> got, std::span<const int64_t> golden,
                            std::span<const float> margins, double excused_below);

// "max 1.2e-05 (0.8 % of the bound 2.0e-4 std), mean 3e-6, worst index 17 of 480"
std::string Describe(const Deviation& deviation);

}  // namespace tessera
