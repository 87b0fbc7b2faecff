// Norms, activations and epilogue against float64, at odd and even shapes, every type, with the
// emulator's detectors on.
#include <fmt/format.h>

#include <algorithm>

#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {
namespace {

using cuda::RowActivation;

constexpr RowType kTypes[] = {RowType::kBf16, RowType::kF16, RowType::kF32};
constexpr RowActivation kActivations[] = {RowActivation::kNone,      RowActivation::kSilu,
                                          RowActivation::kGelu,      RowActivation::kGeluTanh,
                                          RowActivation::kQuickGelu, RowActivation::kRelu};

struct RowCase {
  int64_t rows, columns, gap = 0, lead = 0;
  bool in_place = false, bias = true;
};
const RowCase kRowCases[] = {{0, 16},
                             {1, 1},
                             {3, 15, 1},
                             {3, 6, 2},  // half a run at the end of an aligned row
                             {3, 8, 2},  // whole runs, rows that are not aligned
                             {5, 128},
                             {2, 132, 0, 4, true},
                             {3, 256, 8},
                             {2, 257, 3, 1, false, false},
                             {3, 512, 0, 1},
                             {2, 1028, 4, 0, true, false},
                             {1, 2049},
                             {2, 4096},
                             {1, 8192, 0, 0, true},
                             {1, 8200},
                             {1, 16384},
                             {1, 16390, 0, 1}};

// One more operation's rounding than the fp32 bound, for what is stored.
std::vector<Bounded> AllStored(RowType type, std::vector<Bounded> values) {
  for (Bounded& value : values) value = Stored(type, value);
  return values;
}

TEST(Rows, Norms) {
  uint64_t seed = 100;
  for (const RowCase& c : kRowCases)
    for (RowType type : kTypes)
      for (bool layer : {false, true}) {
        const std::string what = fmt::format("{} {} x {} {}", layer ? "LayerNorm" : "RmsNorm",
                                             c.rows, c.columns, NameOf(type));
        Floats x = Random(c.rows * c.columns, ++seed, 2.0f);
        for (float& value : x) value += 0.5f;
        x = RoundTo(type, x);
        const Floats weight = Random(c.columns, ++seed), bias = Random(c.columns, ++seed);
        const DeviceArray<float> weight_device(weight), bias_device(bias);
        std::vector<Bounded> want;
        for (int64_t r = 0; r < c.rows; ++r) {
          const float* row = x.data() + r * c.columns;
          const auto some =
              layer ? ops_test::LayerNormRow(row, weight.data(), c.bias ? bias.data() : nullptr,
                                             1e-5f, c.columns)
                    : ops_test::RmsNormRow(row, weight.data(), 1e-6f, c.columns);
          want.insert(want.end(), some.begin(), some.end());
        }
        ForSchedules(c.columns < 1000 ? 3 : 1, [&](uint64_t) {
          const DeviceRows in(type, c.rows, c.columns, c.gap, c.lead, x),
              apart(type, c.rows, c.columns, c.gap, c.lead);
          const DeviceRows& out = c.in_place ? in : apart;
          ExpectRan(cuda::LaunchNorm(layer ? cuda::NormKind::kLayer : cuda::NormKind::kRms, type,
                                     {.x = in.data(),
                                      .out = out.data(),
                                      .weight = weight_device.get(),
                                      .bias = layer && c.bias ? bias_device.get() : nullptr,
                                      .x_stride = in.stride(),
                                      .out_stride = out.stride(),
                                      .rows = c.rows,
                                      .columns = static_cast<int32_t>(c.columns),
                                      .eps = layer ? 1e-5f : 1e-6f},
                                     TestStream()),
                    what);
          ExpectWithin(out.Get(), AllStored(type, want), c.columns, what);
          out.CheckGuards(what);
          if (!c.in_place) ExpectSame(in.Get(), x, what + ": x");
        });
      }
}

// A small variance far from zero: E[x^2] - E[x]^2 in fp32 would be noise.
TEST(Rows, LayerNormDoesNotCancel) {
  for (int64_t columns : {64, 300, 4096}) {
    Floats x = Random(columns, 7, 0.01f);
    for (float& value : x) value += 100.0f;
    const Floats weight(static_cast<size_t>(columns), 1.0f);
    const DeviceArray<float> weight_device(weight);
    const DeviceRows rows(RowType::kF32, 1, columns, 0, 0, x);
    ExpectRan(cuda::LaunchNorm(cuda::NormKind::kLayer, RowType::kF32,
                               {.x = rows.data(),
                                .out = rows.data(),
                                .weight = weight_device.get(),
                                .x_stride = columns,
                                .out_stride = columns,
                                .rows = 1,
                                .columns = static_cast<int32_t>(columns),
                                .eps = 1e-12f},
                               TestStream()),
              "LayerNorm");
    double mean = 0, squares = 0;
    for (float value : x) mean += value;
    mean /= static_cast<double>(columns);
    for (float value : x) squares += (value - mean) * (value - mean);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(columns));
    const Floats got = rows.Get();
    // The mean's rounding, 100 u, against a deviation of 0.01
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_NEAR(got[i], (x[i] - mean) * scale, 5e-3) << columns << " " << i;
  }
}

// A row's bits do not depend on its alignment, its heads, or the rows beside it.
TEST(Rows, NormsOfEqualRowsAreEqual) {
  for (int64_t columns : {8, 64, 128, 260, 1024}) {
    const Floats x = RoundTo(RowType::kBf16, Random(6 * columns, 9, 3.0f)),
                 weight = Random(columns, 10);
    const DeviceArray<float> weight_device(weight);
    const auto norm = [&](int64_t rows, int32_t heads, int64_t gap, int64_t lead) {
      const DeviceRows all(RowType::kBf16, rows, heads * columns, gap, lead, x);
      ExpectRan(cuda::LaunchNorm(cuda::NormKind::kRms, RowType::kBf16,
                                 {.x = all.data(),
                                  .out = all.data(),
                                  .weight = weight_device.get(),
                                  .x_stride = all.stride(),
                                  .out_stride = all.stride(),
                                  .rows = rows,
                                  .heads = heads,
                                  .columns = static_cast<int32_t>(columns),
                                  .eps = 1e-5f},
                                 TestStream()),
                "HeadRmsNorm");
      all.CheckGuards("HeadRmsNorm");
      return all.Get();
    };
    const Floats plain = norm(6, 1, 0, 0);
    ExpectSame(norm(2, 3, 5, 0), plain, "heads");
    ExpectSame(norm(3, 2, 0, 1), plain, "unaligned");
    std::vector<Bounded> want;
    for (int64_t r = 0; r < 6; ++r) {
      const auto some = ops_test::RmsNormRow(x.data() + r * columns, weight.data(), 1e-5f, columns);
      want.insert(want.end(), some.begin(), some.end());
    }
    ExpectWithin(plain, AllStored(RowType::kBf16, want), columns, "HeadRmsNorm");
  }
}

// A row that fits in the registers of its threads is kept there, by as few as it needs: runs of
// four a thread, 0 where rows are read again.
TEST(Rows, NormsKeepWhatFits) {
  ForSchedules(1, [](uint64_t) {
    for (const auto& [columns, runs] : {std::pair{128, 1},
                                        {132, 2},
                                        {256, 2},
                                        {260, 1},
                                        {1024, 1},
                                        {2048, 2},
                                        {4096, 4},
                                        {8192, 8},
                                        {8196, 8},
                                        {16384, 8},
                                        {16388, 0}}) {
      const DeviceArray<float> weight(Floats(static_cast<size_t>(columns), 1));
      const DeviceRows x(RowType::kBf16, 1, columns, 0, 0, Floats(static_cast<size_t>(columns), 1));
      ForgetCounters();
      ExpectRan(cuda::LaunchNorm(cuda::NormKind::kRms, RowType::kBf16,
                                 {.x = x.data(),
                                  .out = x.data(),
                                  .weight = weight.get(),
                                  .x_stride = columns,
                                  .out_stride = columns,
                                  .rows = 1,
                                  .columns = columns,
                                  .eps = 1},
                                 TestStream()),
                "norm");
      const std::string kernel =
          fmt::format("NormKernel<tessera::cuda::bf16_t, (tessera::cuda::NormKind)0, {}>", runs);
      EXPECT_EQ(TakeCounters(kernel).counted, Counts()) << columns;
    }
  });
}

TEST(Rows, GatedActivation) {
  uint64_t seed = 300;
  for (RowActivation activation : kActivations)
    for (RowType type : kTypes)
      for (const RowCase& c : kRowCases) {
        if (c.columns > 3000) continue;
        Floats x = Random(c.rows * 2 * c.columns, ++seed, 3.0f);
        for (size_t i = 0; i < x.size() && c.columns > 60; ++i)
          if (i % 7 == 0) x[i] *= 12.0f;  // far out, where exponentials end
        x = RoundTo(type, x);
        const std::string what =
            fmt::format("activation {} {} x {} {}", static_cast<int>(activation), c.rows, c.columns,
                        NameOf(type));
        std::vector<Bounded> want;
        for (int64_t r = 0; r < c.rows; ++r)
          for (int64_t i = 0; i < c.columns; ++i) {
            const float gate = x[static_cast<size_t>(r * 2 * c.columns + i)];
            const float up = x[static_cast<size_t>(r * 2 * c.columns + c.columns + i)];
            const Bounded y = ops_test::Activate(static_cast<Activation>(activation), {gate, 0});
            want.push_back(
                {y.value * up, y.bound * std::fabs(up) + ops_test::kU * std::fabs(y.value * up)});
          }
        ForSchedules(c.columns < 600 ? 2 : 1, [&](uint64_t) {
          const DeviceRows in(type, c.rows, 2 * c.columns, 2 * c.gap, c.lead, x),
              out(type, c.rows, c.columns, c.gap, c.lead);
          ExpectRan(cuda::LaunchGatedActivation(activation, type,
                                                {.gate_up = in.data(),
                                                 .out = out.data(),
                                                 .gate_up_stride = in.stride(),
                                                 .out_stride = out.stride(),
                                                 .rows = c.rows,
                                                 .columns = c.columns},
                                                TestStream()),
                    what);
          ExpectWithin(out.Get(), AllStored(type, want), c.columns, what);
          out.CheckGuards(what);
        });
      }
}

TEST(Rows, ActivationsPassNanAndKeepSigns) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (RowActivation activation : kActivations) {
    if (activation == RowActivation::kNone) continue;
    const DeviceRows in(RowType::kF32, 1, 8, 0, 0, {nan, 30, -30, 0, 1, 1, 1, 1}),
        out(RowType::kF32, 1, 4);
    ExpectRan(cuda::LaunchGatedActivation(activation, RowType::kF32,
                                          {.gate_up = in.data(),
                                           .out = out.data(),
                                           .gate_up_stride = 8,
                                           .out_stride = 4,
                                           .rows = 1,
                                           .columns = 4},
                                          TestStream()),
              "activation");
    const Floats y = out.Get();
    EXPECT_TRUE(std::isnan(y[0])) << static_cast<int>(activation);
    EXPECT_EQ(y[1], 30.0f);
    EXPECT_NEAR(y[2], 0.0f, 1e-6f);
    EXPECT_EQ(y[3], 0.0f);
  }
}

TEST(Rows, Epilogue) {
  struct Case {
    int64_t rows, columns, gap, lead;
    RowActivation activation;
    bool bias, residual, in_place;
    float gate;
  };
  const Case cases[] = {
      {0, 8, 0, 0, RowActivation::kNone, true, true, false, 1},
      {1, 1, 0, 0, RowActivation::kNone, false, false, false, 1},
      {3, 96, 0, 0, RowActivation::kGelu, true, true, true, 0.37f},
      {2, 515, 1, 0, RowActivation::kSilu, true, true, false, -0.5f},
      {2, 1024, 0, 1, RowActivation::kGeluTanh, false, true, false, 1},
      {3, 516, 4, 0, RowActivation::kQuickGelu, true, false, false, 2},
      {3, 6, 2, 0, RowActivation::kNone, false, true, false, 1},
      {3, 8, 2, 0, RowActivation::kNone, false, true, false, 1},
      {2, 64, 0, 0, RowActivation::kRelu, true, false, false, 1},
  };
  uint64_t seed = 500;
  for (const Case& c : cases)
    for (RowType y_type : {RowType::kF32, RowType::kBf16})
      for (RowType type : kTypes) {
        const Floats y = RoundTo(y_type, Random(c.rows * c.columns, ++seed, 2.0f));
        const Floats residual = RoundTo(type, Random(c.rows * c.columns, ++seed));
        const Floats bias = Random(c.columns, ++seed);
        const DeviceArray<float> bias_device(bias);
        const std::string what = fmt::format("epilogue {} x {} {} to {}", c.rows, c.columns,
                                             NameOf(y_type), NameOf(type));
        std::vector<Bounded> want;
        for (size_t i = 0; i < y.size(); ++i) {
          Bounded z{y[i], 0};
          if (c.bias) {
            z.value += bias[i % static_cast<size_t>(c.columns)];
            z.bound = ops_test::kU * std::fabs(z.value);
          }
          z = ops_test::Activate(static_cast<Activation>(c.activation), z);
          z = {z.value * c.gate, z.bound * std::fabs(c.gate)};
          z.bound += ops_test::kU * std::fabs(z.value);
          if (c.residual) z.value += residual[i], z.bound += ops_test::kU * std::fabs(z.value);
          z.bound += 1e-37;
          want.push_back(Stored(type, z));
        }
        ForSchedules(2, [&](uint64_t) {
          const DeviceRows in(y_type, c.rows, c.columns, c.gap, c.lead, y),
              add(type, c.rows, c.columns, c.gap, c.lead, residual),
              apart(type, c.rows, c.columns, c.gap, c.lead);
          const DeviceRows& out = c.in_place ? add : apart;
          ExpectRan(cuda::LaunchEpilogue(y_type, type,
                                         {.y = in.data(),
                                          .bias = c.bias ? bias_device.get() : nullptr,
                                          .residual = c.residual ? add.data() : nullptr,
                                          .out = out.data(),
                                          .y_stride = in.stride(),
                                          .residual_stride = add.stride(),
                                          .out_stride = out.stride(),
                                          .rows = c.rows,
                                          .columns = c.columns,
                                          .gate = c.gate,
                                          .activation = c.activation},
                                         TestStream()),
                    what);
          ExpectWithin(out.Get(), want, c.columns, what);
          out.CheckGuards(what);
        });
      }
}

}  // namespace
}  // namespace tessera::cuda_test
