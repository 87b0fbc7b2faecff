// Numbers of the exact definition of Sample (sampling.h), for host and device code alike: nothing
// is included.
#pragma once

namespace tessera {

// Weight of the best candidate: 2^40.
inline constexpr int kSampleWeightBits = 40;
inline constexpr double kSampleLog2E = 1.4426950408889634;

// Taylor coefficients ln(2)^n / n! of 2^x; the first one left out is below 2e-15 of the result.
inline constexpr int kSampleExp2Terms = 14;
struct SampleExp2Table {
  double term[kSampleExp2Terms];  // a struct, so that device code can have a copy of its own
};
inline constexpr SampleExp2Table kSampleExp2{{
    1.0,
    6.931471805599453e-01,
    2.402265069591007e-01,
    5.550410866482158e-02,
    9.618129107628477e-03,
    1.333355814642844e-03,
    1.540353039338161e-04,
    1.525273380405984e-05,
    1.321548679014431e-06,
    1.017808600923970e-07,
    7.054911620801121e-09,
    4.445538271870811e-10,
    2.567843599348820e-11,
    1.369148885390412e-12,
}};

}  // namespace tessera
