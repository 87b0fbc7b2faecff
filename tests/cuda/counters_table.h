// What a kernel moves and multiplies, by the emulator's counts, against the least that its problem
// needs: cases of one table, counters.json, which tools/cuda_roofline.py reads.
//
// Attention runs for one K/V head, since all heads of a layer do the same. A long problem is made
// of tiles of few kinds, and each kind runs once and counts as often as it occurs. The least counts
// Q and O once and K and V once per 128 query vectors; of row kernels, every row once and what all
// rows share (norm weights, tables) once; of products, weights once a row of tiles and x once a
// column of tiles: what is above 1 there comes out of a cache.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {

struct Least {
  double bytes = 0;
  double flops = 0;  // 0: no matrix product
};

inline constexpr double kNoLimit = 1e9;
struct Limits {
  double bytes = kNoLimit;
  double flops = kNoLimit;
  double loads = 0.95;
  double wavefronts = 1.05;
};

class CountersTable : public testing::Test {
 protected:
  // A part runs under the counters and counts `times` times.
  struct Part {
    double times = 1;
    std::function<void()> run;
  };

  void Measure(const std::string& name, const std::string& kernel, const Least& least,
               const Limits& limits, const std::vector<Part>& parts);
  // Every case against the record, or into it.
  void Compare() const;
  bool counted() const { return counted_; }

  // The cases: counters_table_test.cc, counters_products_test.cc.
  void Attention();
  void Rows();
  void Products();
  void IntProducts();

 private:
  bool counted_ = true;
  nlohmann::ordered_json table_ = nlohmann::ordered_json::object();
};

inline constexpr RowType kCountedType = RowType::kBf16;  // of row kernels and products

inline DeviceRows Ones(int64_t rows, int64_t columns, RowType type = kCountedType) {
  return {type, rows, columns, 0, 0, Floats(static_cast<size_t>(rows * columns), 1)};
}

}  // namespace tessera::cuda_test
