// What must not change bits (invariance_test.cc, quant_test.cc): rows beside a row, and threads.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>

#include "tests/ops/harness.h"

namespace tessera::ops_test {

inline constexpr int64_t kRows = 512;

// op(backend, first row, rows) gives the rows' outputs, `columns` each. All counts 1..33 and 512,
// at the start and further in, must be the slices of the 512.
template <typename Op>
void ExpectRowsAlone(Backend& backend, int64_t columns, const std::string& what, Op&& op) {
  const Floats whole = op(backend, 0, kRows);
  const auto slice = [&](int64_t begin, int64_t rows) {
    return std::span(whole).subspan(static_cast<size_t>(begin * columns),
                                    static_cast<size_t>(rows * columns));
  };
  for (int64_t rows = 1; rows <= 33; ++rows)
    for (int64_t begin : {int64_t{0}, rows * 13 % (kRows - 33)})
      ExpectSameBits(op(backend, begin, rows), slice(begin, rows),
                     fmt::format("{}: rows {}+{}", what, begin, rows));
}

// The same call on one, two and three threads.
template <typename Op>
void ExpectThreadsAlike(const BackendUnderTest& param, const std::string& what, Op&& op) {
  const Floats alone = op(*param.Make(1));
  for (int threads : {2, 3})
    ExpectSameBits(op(*param.Make(threads)), alone, fmt::format("{}: {} threads", what, threads));
}

inline Floats Slice(const Floats& x, int64_t columns, int64_t begin, int64_t rows) {
  return {x.begin() + begin * columns, x.begin() + (begin + rows) * columns};
}

}  // namespace tessera::ops_test
