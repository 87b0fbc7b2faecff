// int8 and int4 weights on the device against float64 over the weights as the quantiser made them;
// what is promised of a row's bits; look-ups; traffic.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/int_matrix.h"
#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {
namespace {

using cuda::RowActivation;

struct Format {
  WeightFormat format;
  int group;
  bool minimum;
};
constexpr Format kFormats[] = {
    {WeightFormat::kInt8, 0, false},   {WeightFormat::kInt8, 32, false},
    {WeightFormat::kInt8, 64, false},  {WeightFormat::kInt8, 128, false},
    {WeightFormat::kInt4, 0, false},  // groups of 32 with a minimum
    {WeightFormat::kInt4, 32, false},  {WeightFormat::kInt4, 64, false},
    {WeightFormat::kInt4, 128, false}, {WeightFormat::kInt4, 64, true},
    {WeightFormat::kInt4, 128, true},
};
PackSpec SpecOf(const Format& f) {
  return {.format = f.format, .group = f.group, .minimum = f.minimum};
}
std::string NameOf(const Format& f) {
  return fmt::format("{} group {}{}", Name(f.format), f.group, f.minimum ? " minimum" : "");
}

// The weights of n x k by the quantiser itself, each with the error that decoding to `type` makes.
struct Weights {
  std::vector<double> value, error;
};
Weights Expected(const Format& f, const Floats& w, int64_t n, int64_t k, RowType type) {
  const QuantFormat format = *QuantFormatOf(SpecOf(f));
  const int64_t stored = (k + 31) / 32 * 32, groups = format.groups(stored);
  Floats padded(static_cast<size_t>(n * stored), 0.0f);
  for (int64_t i = 0; i < n; ++i) std::copy_n(w.begin() + i * k, k, padded.begin() + i * stored);
  std::vector<uint8_t> codes(padded.size());
  Floats scales(static_cast<size_t>(n * groups)), minima(scales.size(), 0.0f);
  EXPECT_EQ(QuantizeRows(format, padded.data(), n, stored, {},
                         {codes.data(), scales.data(), format.minimum ? minima.data() : nullptr}),
            -1);
  Weights out;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < k; ++c) {
      const int64_t g = format.group == 0 ? 0 : c / format.group;
      const double scale = scales[static_cast<size_t>(i * groups + g)],
                   minimum = minima[static_cast<size_t>(i * groups + g)];
      const double value =
          scale * (codes[static_cast<size_t>(i * stored + c)] - format.offset()) + minimum;
      double error = 0;
      if (format.group != 0) {
        // The shift and the fma in fp32, then one rounding to the type
        const double fp32 =
            ops_test::kU * (std::fabs(value) + std::fabs(128 * scale) + std::fabs(minimum));
        error = fp32 + Stored(type, {value, fp32}).bound - fp32;
      }
      out.value.push_back(value);
      out.error.push_back(error);
    }
  return out;
}

struct Packed {
  Packed(const Format& f, const Floats& w, int64_t n, int64_t k, DType activations)
      : ints(Make(f, w, n, k, activations)), device(ints.bytes) {}
  static cuda::PackedInts Make(const Format& f, const Floats& w, int64_t n, int64_t k,
                               DType activations) {
    const SourceMatrix source{w.data(), DType::kF32, n, k};
    return cuda::PackInts({&source, 1}, SpecOf(f), n, k, activations).value();
  }
  const cuda::PackedInts ints;
  const DeviceArray<uint8_t> device;
};

cuda::MatMulIntParams ParamsOf(const Packed& w, const DeviceRows& x, const DeviceRows& out,
                               int64_t rows) {
  return {.op = {.x = x.data(),
                 .out = out.data(),
                 .x_stride = x.stride(),
                 .out_stride = out.stride(),
                 .rows = rows,
                 .n = w.ints.layout.n,
                 .k = w.ints.layout.k},
          .layout = w.ints.layout,
          .weights = w.device.get()};
}

struct Case {
  int64_t rows, k, n;
  int64_t gap = 0, lead = 0;  // of x, residual and out
  RowActivation activation = RowActivation::kNone;
  bool bias = false, residual = false, in_place = false;
  float gate = 1.0f;
};

// Products are of rounded weights, and what rounding did to them is a part of the bound.
Bounded Element(const Case& c, const float* x, const Weights& w, int64_t row, const float* bias,
                const float* residual) {
  double sum = 0, absolute = 0, rounding = 0;
  for (int64_t i = 0; i < c.k; ++i) {
    const auto at = static_cast<size_t>(row * c.k + i);
    sum += static_cast<double>(x[i]) * w.value[at];
    absolute += std::fabs(static_cast<double>(x[i]) * w.value[at]);
    rounding += std::fabs(static_cast<double>(x[i])) * w.error[at];
  }
  // k products and additions, the parts, and the scale of a row
  Bounded y{sum, rounding + (static_cast<double>(c.k) + 10) * ops_test::kU * (absolute + rounding)};
  if (bias != nullptr) {
    y.value += *bias;
    y.bound += ops_test::kU * std::fabs(y.value);
  }
  y = ops_test::Activate(static_cast<Activation>(c.activation), y);
  y.value *= c.gate;
  y.bound = y.bound * std::fabs(c.gate) + ops_test::kU * std::fabs(y.value);
  if (residual != nullptr) {
    y.value += *residual;
    y.bound += ops_test::kU * std::fabs(y.value);
  }
  return {y.value, y.bound + 1e-37};
}

TEST(MatMulInt, EqualsFloat64OfTheQuantisedWeights) {
  const Case cases[] = {
      {0, 8, 8},
      {1, 1, 1},
      {1, 64, 8},
      {2, 65, 33, 1},
      {2, 40, 38, 2},  // half a run at the end of an aligned row
      {3, 200, 47, 0, 1, RowActivation::kSilu, true, true},
      {8, 256, 64, 8, 0, RowActivation::kNone, true},
      {9, 31, 35, 0, 0, RowActivation::kGelu, true, true, true, 0.37f},
      {16, 640, 72, 0, 0, RowActivation::kGeluTanh, false, true, false, -0.5f},
      {17, 576, 41, 3, 0, RowActivation::kQuickGelu, true},
      {33, 1090, 53},
      {18, 64, 96},  // the second block's strips end with a quad
      {70, 136, 132, 0, 0, RowActivation::kRelu, true, true, true},
      {130, 96, 20},
  };
  uint64_t seed = 4000;
  for (const Format& f : kFormats)
    for (RowType type : {RowType::kBf16, RowType::kF16})
      for (const Case& c : cases) {
        seed += 10;
        // Both kinds of output take turns
        const RowType out_type = seed / 10 % 2 == 0 ? type : RowType::kF32;
        const std::string what =
            fmt::format("{}: {} x {} x {} {} to {}", NameOf(f), c.rows, c.k, c.n,
                        cuda_test::NameOf(type), cuda_test::NameOf(out_type));
        const Floats values = RoundTo(type, Random(c.rows * c.k, seed)),
                     w = Random(c.n * c.k, seed + 1, 0.1f), bias = Random(c.n, seed + 2),
                     residual = RoundTo(out_type, Random(c.rows * c.n, seed + 3));
        const Packed packed(f, w, c.n, c.k, DTypeOf(type));
        const Weights weights = Expected(f, w, c.n, c.k, type);
        const DeviceArray<float> bias_device(bias);
        std::vector<Bounded> want;
        for (int64_t r = 0; r < c.rows; ++r)
          for (int64_t n = 0; n < c.n; ++n)
            want.push_back(Stored(
                out_type,
                Element(c, values.data() + r * c.k, weights, n,
                        c.bias ? &bias[static_cast<size_t>(n)] : nullptr,
                        c.residual ? &residual[static_cast<size_t>(r * c.n + n)] : nullptr)));
        ForSchedules(c.rows < 20 ? 2 : 1, [&](uint64_t) {
          const DeviceRows x(type, c.rows, c.k, c.gap, c.lead, values),
              add(out_type, c.rows, c.n, c.gap, c.lead, residual),
              apart(out_type, c.rows, c.n, c.gap, c.lead);
          const DeviceRows& out = c.in_place ? add : apart;
          cuda::MatMulIntParams params = ParamsOf(packed, x, out, c.rows);
          params.op.bias = c.bias ? bias_device.get() : nullptr;
          params.op.residual = c.residual ? add.data() : nullptr;
          params.op.residual_stride = add.stride();
          params.op.gate = c.gate;
          params.op.activation = c.activation;
          ExpectRan(cuda::LaunchMatMulInt(type, out_type, params, TestStream()), what);
          ExpectWithin(out.Get(), want, c.n, what);
          out.CheckGuards(what);
        });
      }
}

// A row alone, in a few, in many, at another place, unaligned: the same bits, whichever kernel.
TEST(MatMulInt, RowsDoNotDependOnTheBatch) {
  const int64_t n = 72, k = 1096, rows = 140;
  const Floats values = Random(rows * k, 7), w = Random(n * k, 8, 0.1f);
  for (const Format& f : kFormats) {
    const Packed packed(f, w, n, k, DType::kBF16);
    const auto run = [&](int64_t first, int64_t count, int64_t lead) {
      const Floats some(values.begin() + first * k, values.begin() + (first + count) * k);
      const DeviceRows x(RowType::kBf16, count, k, lead, lead, some), out(RowType::kF32, count, n);
      ExpectRan(cuda::LaunchMatMulInt(RowType::kBf16, RowType::kF32,
                                      ParamsOf(packed, x, out, count), TestStream()),
                NameOf(f));
      return out.Get();
    };
    const Floats all = run(0, rows, 0);
    for (const auto& [first, count, lead] : {std::array<int64_t, 3>{139, 1, 0},
                                             {7, 1, 1},
                                             {20, 8, 0},
                                             {60, 9, 0},
                                             {100, 16, 0},
                                             {3, 17, 0},
                                             {50, 70, 0}}) {
      const Floats want(all.begin() + first * n, all.begin() + (first + count) * n);
      ExpectSame(run(first, count, lead), want,
                 fmt::format("{}: rows {}+{}", NameOf(f), first, count));
    }
  }
}

// Zeros behind K meet NaN in x's neighbours; a row that is not finite stays alone.
TEST(MatMulInt, ReadsNothingBehindItsRowsAndKeepsRowsApart) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Format& f : kFormats)
    for (int64_t rows : {3, 20}) {
      const int64_t k = 40, n = 12, wide_k = 48;
      Floats wide(static_cast<size_t>(rows * wide_k), nan);
      const Floats values = Random(rows * k, 5);
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(values.begin() + r * k, k, wide.begin() + r * wide_k);
      wide[static_cast<size_t>(wide_k)] = nan;  // row 1
      const Packed packed(f, Random(n * k, 6), n, k, DType::kBF16);
      const DeviceRows x(RowType::kBf16, rows, wide_k, 0, 0, wide), out(RowType::kF32, rows, n);
      ExpectRan(cuda::LaunchMatMulInt(RowType::kBf16, RowType::kF32, ParamsOf(packed, x, out, rows),
                                      TestStream()),
                NameOf(f));
      const Floats got = out.Get();
      for (int64_t i = 0; i < rows * n; ++i)
        EXPECT_EQ(std::isfinite(got[static_cast<size_t>(i)]), i / n != 1) << NameOf(f) << " " << i;
    }
}

TEST(EmbeddingInt, IsTheQuantisedWeight) {
  const std::vector<int32_t> ids = {0, 18, 7, 8, 18, 3};
  const auto count = std::ssize(ids);
  const DeviceArray<int32_t> ids_device(ids);
  for (const Format& f : kFormats)
    for (RowType type : {RowType::kBf16, RowType::kF16, RowType::kF32})
      for (const auto& [k, gap, lead] : {std::array<int64_t, 3>{5, 3, 1},
                                         {64, 0, 0},
                                         {70, 2, 0},  // half a run at the end of an aligned row
                                         {132, 3, 1},
                                         {2500, 0, 0}}) {
        const int64_t n = 19;
        const std::string what = fmt::format("{} k {} {}", NameOf(f), k, cuda_test::NameOf(type));
        const Floats w = Random(n * k, static_cast<uint64_t>(k), 0.1f);
        const Packed packed(f, w, n, k, DType::kBF16);
        const Weights weights = Expected(f, w, n, k, RowType::kF32);
        std::vector<Bounded> want;
        for (int32_t id : ids)
          for (int64_t c = 0; c < k; ++c) {
            const auto at = static_cast<size_t>(id * k + c);
            want.push_back(
                Stored(type, {weights.value[at],
                              weights.error[at] + ops_test::kU * std::fabs(weights.value[at])}));
          }
        ForSchedules(2, [&](uint64_t) {
          const DeviceRows out(type, count, k, gap, lead);
          ExpectRan(cuda::LaunchEmbeddingInt(type,
                                             {.layout = packed.ints.layout,
                                              .weights = packed.device.get(),
                                              .ids = ids_device.get(),
                                              .out = out.data(),
                                              .out_stride = out.stride(),
                                              .count = count},
                                             TestStream()),
                    what);
          ExpectWithin(out.Get(), want, k, what);
          out.CheckGuards(what);
        });
      }
}

// Weights once a row of tiles, x once a column of tiles, whole sectors, no bank conflicts. Where
// the parts of K are whole rows of words, which counters.json holds for few rows
// (counters_table.h), and where two parts share one, which both read: at 1,280, of the vision
// tower, and 3,072.
TEST(MatMulInt, MovesWholeSectorsWithoutConflicts) {
  const int64_t n = 64;
  ForSchedules(1, [&](uint64_t) {
    for (const Format& f : kFormats)
      for (const auto& [k, rows] : {std::pair<int64_t, int64_t>{1280, 1},
                                    {1280, 16},
                                    {1280, 128},
                                    {3072, 1},
                                    {3072, 8},
                                    {4096, 128}}) {
        const Packed packed(f, Random(n * k, 3), n, k, DType::kBF16);
        SCOPED_TRACE(fmt::format("{} {} rows of {}", NameOf(f), rows, k));
        const DeviceRows x(RowType::kBf16, rows, k, 0, 0, Random(rows * k, 4)),
            out(RowType::kBf16, rows, n);
        ForgetCounters();
        ExpectRan(cuda::LaunchMatMulInt(RowType::kBf16, RowType::kBf16,
                                        ParamsOf(packed, x, out, rows), TestStream()),
                  "matmul");
        const Moved moved = TakeCounters(rows > cuda::kIntFew ? "ManyKernel" : "FewKernel");
        ASSERT_EQ(moved.counted, Counts());
        if (!moved.counted) continue;
        const int64_t tiles = rows > cuda::kIntFew ? n / 64 : n / 32;
        const auto least =
            static_cast<double>(packed.ints.layout.bytes() + 2 * rows * k * tiles + 2 * rows * n);
        EXPECT_LE(static_cast<double>(moved.load_moved + moved.store_moved), 1.05 * least);
        EXPECT_GE(static_cast<double>(moved.load_bytes),
                  0.95 * static_cast<double>(moved.load_moved));
        EXPECT_EQ(moved.store_bytes, moved.store_moved);
        EXPECT_LE(static_cast<double>(moved.wavefronts),
                  1.05 * static_cast<double>(moved.ideal_wavefronts));
        fmt::print(
            "{:24} {:4} rows of {}: {:8.4f} of least, {:6.4f} sectors, {:6.4f} wavefronts\n",
            NameOf(f), rows, k, static_cast<double>(moved.load_moved + moved.store_moved) / least,
            static_cast<double>(moved.load_bytes) / static_cast<double>(moved.load_moved),
            static_cast<double>(moved.wavefronts) / static_cast<double>(moved.ideal_wavefronts));
      }
  });
}

// The kernel that is made for the number of rows.
TEST(MatMulInt, EveryNumberOfRowsHasItsKernel) {
  const Packed packed(kFormats[0], Random(8 * 64, 3), 8, 64, DType::kBF16);
  ForSchedules(1, [&](uint64_t) {
    for (const auto& [rows, kernel] :
         {std::pair{1, "FewKernel<tessera::cuda::bf16_t, (tessera::cuda::IntKind)0, 8u>"},
          {8, "FewKernel<tessera::cuda::bf16_t, (tessera::cuda::IntKind)0, 8u>"},
          {9, "FewKernel<tessera::cuda::bf16_t, (tessera::cuda::IntKind)0, 16u>"},
          {16, "FewKernel<tessera::cuda::bf16_t, (tessera::cuda::IntKind)0, 16u>"},
          {17, "ManyKernel<"}}) {
      const DeviceRows x(RowType::kBf16, rows, 64, 0, 0, Random(rows * 64, 4)),
          out(RowType::kBf16, rows, 8);
      ForgetCounters();
      ExpectRan(cuda::LaunchMatMulInt(RowType::kBf16, RowType::kBf16,
                                      ParamsOf(packed, x, out, rows), TestStream()),
                kernel);
      EXPECT_EQ(TakeCounters(kernel).counted, Counts()) << rows;
    }
  });
}

TEST(MatMulInt, RefusesWhatItCannotKeep) {
  Floats w = Random(20 * 70, 80);
  const SourceMatrix source{w.data(), DType::kF32, 20, 70};
  const auto pack = [&](const Format& f, DType activations) {
    return cuda::PackInts({&source, 1}, SpecOf(f), 20, 70, activations);
  };
  const auto group = pack({WeightFormat::kInt8, 48, false}, DType::kBF16);
  ASSERT_FALSE(group);
  EXPECT_EQ(group.error().field, "group");
  w[7 * 70 + 69] = std::numeric_limits<float>::infinity();
  for (const Format& f : kFormats) {
    const auto refused = pack(f, DType::kBF16);
    ASSERT_FALSE(refused) << NameOf(f);
    EXPECT_EQ(refused.error().value, "row 7");
  }
  Floats first = w;
  first[0] = std::numeric_limits<float>::infinity();
  const SourceMatrix bad_first{first.data(), DType::kF32, 20, 70};
  for (const Format& f : kFormats) {
    const auto refused = cuda::PackInts({&bad_first, 1}, SpecOf(f), 20, 70, DType::kBF16);
    ASSERT_FALSE(refused) << NameOf(f);
    EXPECT_EQ(refused.error().value, "row 0");
  }
  w[7 * 70 + 69] = 1e6f;
  for (const Format& f : kFormats) {
    EXPECT_TRUE(pack(f, DType::kBF16)) << NameOf(f);
    // Codes of rows with one scale are small numbers; others become fp16
    EXPECT_EQ(pack(f, DType::kF16).has_value(), f.format == WeightFormat::kInt8 && f.group == 0)
        << NameOf(f);
  }
}

// fp16 ends at 65,520: what counts is the largest number that a group's codes can stand for.
TEST(MatMulInt, RefusesGroupsThatFp16CannotHold) {
  const auto pack = [](const Format& f, const Floats& w) {
    const SourceMatrix source{w.data(), DType::kF32, 4, 256};
    return cuda::PackInts({&source, 1}, SpecOf(f), 4, 256, DType::kF16).has_value();
  };
  for (const Format& f : kFormats) {
    EXPECT_EQ(pack(f, Floats(4 * 256, 66000.0f)), f.format == WeightFormat::kInt8 && f.group == 0)
        << NameOf(f);
    if (f.format == WeightFormat::kInt8 || (f.group != 0 && !f.minimum)) continue;
    // 50,000 and 15 small steps; in the next group, about -17,000 and 15 large steps. Neither's
    // minimum with the other's steps would do.
    const size_t group = f.group == 0 ? 32 : static_cast<size_t>(f.group);
    Floats w(4 * 256, 0.5f);
    for (size_t i = 256; i < 512; ++i)
      w[i] = i / group % 2 == 0 ? (i % 2 == 0 ? 50000.0f : 60000.0f)
                                : (i % 2 == 0 ? 15000.0f : -15000.0f);
    EXPECT_TRUE(pack(f, w)) << NameOf(f);
    for (size_t i = 256; i < 256 + group; ++i) w[i] = i % 2 == 0 ? 65280.0f : 65520.0f;
    EXPECT_FALSE(pack(f, w)) << NameOf(f) << ": infinite when rounded";
    for (size_t i = 256; i < 256 + group; ++i) w[i] = i % 2 == 0 ? 56000.0f : 66000.0f;
    EXPECT_FALSE(pack(f, w)) << NameOf(f);
  }
}

}  // namespace
}  // namespace tessera::cuda_test
