// Our own matmul against float64, its epilogue, and what it promises: a row's bits depend on the
// row alone.
#include <fmt/format.h>

#include <algorithm>

#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {
namespace {

using cuda::RowActivation;

struct Case {
  int64_t rows, k, n;
  int64_t gap = 0, lead = 0;  // of x, residual and out
  RowActivation activation = RowActivation::kNone;
  bool bias = false, residual = false, in_place = false;
  float gate = 1.0f;
};

struct Operands {
  Operands(RowType type, int64_t rows, int64_t k, int64_t n, uint64_t seed)
      : x(RoundTo(type, Random(rows * k, seed))),
        w(RoundTo(type, Random(n * k, seed + 1))),
        k_stored((k + 7) / 8 * 8),
        w_device(type, n, k_stored, 0, 0, Padded(n, k)) {}
  Floats Padded(int64_t n, int64_t k) const {
    Floats padded(static_cast<size_t>(n * k_stored), 0.0f);
    for (int64_t i = 0; i < n; ++i)
      std::copy_n(w.begin() + i * k, k, padded.begin() + i * k_stored);
    return padded;
  }
  const Floats x, w;
  const int64_t k_stored;
  const DeviceRows w_device;
};

cuda::MatMulParams ParamsOf(const Operands& operands, const DeviceRows& x, const DeviceRows& out,
                            int64_t rows, int64_t k, int64_t n) {
  return {.x = x.data(),
          .w = operands.w_device.data(),
          .out = out.data(),
          .x_stride = x.stride(),
          .out_stride = out.stride(),
          .rows = rows,
          .n = static_cast<int32_t>(n),
          .k = static_cast<int32_t>(k),
          .k_stored = static_cast<int32_t>(operands.k_stored)};
}

TEST(MatMulFixed, EqualsFloat64) {
  const Case cases[] = {
      {0, 8, 8},
      {1, 1, 1},
      {1, 64, 64},
      {2, 7, 5, 1},
      {3, 65, 17, 0, 1, RowActivation::kSilu, true, true},
      {16, 128, 68, 0, 0, RowActivation::kNone, true},
      {2, 40, 70, 2},  // half a run at the end of an aligned row
      {17, 200, 100, 4, 0, RowActivation::kGelu, true, true, true, 0.37f},
      {33, 72, 64, 8, 0, RowActivation::kGeluTanh, false, true, false, -0.5f},
      {70, 264, 130, 3, 0, RowActivation::kQuickGelu, true},
      {128, 192, 64},
      {130, 96, 72, 0, 0, RowActivation::kRelu, true, true, true},
      {5, 40, 8192},  // wide: 128 columns a block
      {129, 24, 8196, 0, 0, RowActivation::kNone, false, true},
  };
  uint64_t seed = 1000;
  for (const Case& c : cases)
    for (RowType type : {RowType::kBf16, RowType::kF16})
      for (RowType out_type : {type, RowType::kF32}) {
        seed += 10;
        const Operands operands(type, c.rows, c.k, c.n, seed);
        const Floats bias = Random(c.n, seed + 2),
                     residual = RoundTo(out_type, Random(c.rows * c.n, seed + 3));
        const DeviceArray<float> bias_device(bias);
        const std::string what =
            fmt::format("{} x {} x {} {} to {}", c.rows, c.k, c.n, NameOf(type), NameOf(out_type));
        std::vector<Bounded> want;
        for (int64_t r = 0; r < c.rows; ++r)
          for (int64_t n = 0; n < c.n; ++n)
            want.push_back(Stored(
                out_type, ops_test::MatMulElement(
                              operands.x.data() + r * c.k, operands.w.data() + n * c.k, c.k,
                              c.bias ? &bias[static_cast<size_t>(n)] : nullptr,
                              static_cast<Activation>(c.activation), c.gate,
                              c.residual ? &residual[static_cast<size_t>(r * c.n + n)] : nullptr)));
        ForSchedules(c.n < 1000 && c.rows < 100 ? 3 : 1, [&](uint64_t) {
          const DeviceRows x(type, c.rows, c.k, c.gap, c.lead, operands.x),
              add(out_type, c.rows, c.n, c.gap, c.lead, residual),
              apart(out_type, c.rows, c.n, c.gap, c.lead);
          const DeviceRows& out = c.in_place ? add : apart;
          cuda::MatMulParams params = ParamsOf(operands, x, out, c.rows, c.k, c.n);
          params.bias = c.bias ? bias_device.get() : nullptr;
          params.residual = c.residual ? add.data() : nullptr;
          params.residual_stride = add.stride();
          params.gate = c.gate;
          params.activation = c.activation;
          ExpectRan(cuda::LaunchMatMulFixed(type, out_type, params, TestStream()), what);
          ExpectWithin(out.Get(), want, c.n, what);
          out.CheckGuards(what);
        });
      }
}

// One row alone, at the end of 200 others, unaligned: the same bits.
TEST(MatMulFixed, RowsDoNotDependOnTheBatch) {
  for (int64_t n : {96, 8192}) {
    const int64_t k = 328, rows = 150;
    const Operands operands(RowType::kBf16, rows, k, n, 77);
    const auto run = [&](int64_t first, int64_t count, int64_t lead) {
      const Floats some(operands.x.begin() + first * k, operands.x.begin() + (first + count) * k);
      const DeviceRows x(RowType::kBf16, count, k, lead, lead, some), out(RowType::kF32, count, n);
      ExpectRan(cuda::LaunchMatMulFixed(RowType::kBf16, RowType::kF32,
                                        ParamsOf(operands, x, out, count, k, n), TestStream()),
                "matmul");
      return out.Get();
    };
    const Floats all = run(0, rows, 0);
    for (const auto& [first, count, lead] :
         {std::array<int64_t, 3>{149, 1, 0}, {7, 1, 1}, {100, 20, 0}, {3, 64, 0}}) {
      const Floats want(all.begin() + first * n, all.begin() + (first + count) * n);
      ExpectSame(run(first, count, lead), want, fmt::format("rows {}+{}", first, count));
    }
  }
}

// What no product needs is not read: zeros behind K in w meet NaN in x's neighbour rows.
TEST(MatMulFixed, ReadsNothingBehindItsRows) {
  const Operands operands(RowType::kBf16, 3, 20, 12, 5);
  Floats wide(3 * 24, std::numeric_limits<float>::quiet_NaN());
  for (int64_t r = 0; r < 3; ++r)
    std::copy_n(operands.x.begin() + r * 20, 20, wide.begin() + r * 24);
  const DeviceRows x(RowType::kBf16, 3, 24, 0, 0, wide), out(RowType::kF32, 3, 12);
  cuda::MatMulParams params = ParamsOf(operands, x, out, 3, 20, 12);
  ExpectRan(cuda::LaunchMatMulFixed(RowType::kBf16, RowType::kF32, params, TestStream()), "matmul");
  for (float value : out.Get()) EXPECT_TRUE(std::isfinite(value));
}

TEST(MatMulFixed, WideMatricesHaveWideTiles) {
  EXPECT_EQ(cuda::MatMulTileColumns(8191), 64);
  EXPECT_EQ(cuda::MatMulTileColumns(8192), 128);
}

TEST(MatMulFixed, MovesWholeSectorsWithoutConflicts) {
  ForSchedules(1, [&](uint64_t) {
    for (int64_t rows : {16, 256}) {
      const int64_t k = 512, n = 128;
      const Operands operands(RowType::kBf16, rows, k, n, 3);
      const DeviceRows x(RowType::kBf16, rows, k, 0, 0, operands.x), out(RowType::kBf16, rows, n);
      ForgetCounters();
      ExpectRan(cuda::LaunchMatMulFixed(RowType::kBf16, RowType::kBf16,
                                        ParamsOf(operands, x, out, rows, k, n), TestStream()),
                "matmul");
      const Moved moved = TakeCounters("MatMulKernel");
      ASSERT_EQ(moved.counted, Counts());
      if (!moved.counted) continue;
      EXPECT_EQ(moved.load_bytes, moved.load_moved) << rows;
      EXPECT_EQ(moved.store_bytes, moved.store_moved) << rows;
      EXPECT_LE(moved.wavefronts, moved.ideal_wavefronts * 105 / 100) << rows;
      // Warps without rows neither load nor multiply: few rows take an eighth of what 256 do
      EXPECT_LE(moved.ideal_wavefronts, rows == 16 ? 3072u : 24576u) << rows;
      EXPECT_EQ(moved.matrix_flops, static_cast<uint64_t>(2 * rows * k * n)) << rows;
      // x once a column of tiles, w once a row of tiles
      const int64_t row_tiles = (rows + 127) / 128;
      EXPECT_EQ(moved.load_bytes, static_cast<uint64_t>(2 * k * (rows * 2 + n * row_tiles)))
          << rows;
    }
  });
}

}  // namespace
}  // namespace tessera::cuda_test
