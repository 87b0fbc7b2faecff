// The case list (cases.h) on every backend, against float64 (reference.h) within bounds derived
// from the arithmetic.
#include "tests/ops/cases.h"
#include "tests/ops/harness.h"

namespace tessera::ops_test {
namespace {

class Ops : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Ops, testing::ValuesIn(BackendsUnderTest()), NameOf);

TEST_P(Ops, MatMul) {
  int number = 0;
  for (const MatMulCase& c : MatMulCases()) {
    const std::string what =
        fmt::format("case {}: {} x {} x {} {}", number, c.rows, c.k, c.n, Name(c.format));
    const auto seed = static_cast<uint64_t>(1000 + number++ * 10);
    const Floats x = Random(c.rows * c.k, seed), w = Random(c.n * c.k, seed + 1),
                 bias = Random(c.n, seed + 2);
    const Floats residual = Random(c.rows * c.n, seed + 3);
    const int64_t k = c.padded_k == 0 ? c.k : c.padded_k;

    // The last source takes what does not divide.
    std::vector<SourceMatrix> sources;
    for (int s = 0; s < c.sources; ++s) {
      const int64_t begin = c.n / c.sources * s,
                    end = s == c.sources - 1 ? c.n : begin + c.n / c.sources;
      sources.push_back({w.data() + begin * c.k, DType::kF32, end - begin, c.k});
    }
    const auto packed = backend()
                            .Pack(sources, {.format = c.format,
                                            .role = PackSpec::Role::kMatMul,
                                            .padded_columns = c.padded_k})
                            .value();
    EXPECT_EQ(packed->n(), c.n);
    EXPECT_EQ(packed->k(), k);
    EXPECT_EQ(packed->format(), c.format);

    // What only the matrix' padding meets is finite but arbitrary.
    Floats wide_x(static_cast<size_t>(c.rows * k), 3.0f);
    for (int64_t r = 0; r < c.rows; ++r)
      std::copy_n(x.begin() + r * c.k, c.k, wide_x.begin() + r * k);
    const GuardedRows in(backend(), c.rows, k, c.row_gap, wide_x),
        add(backend(), c.rows, c.n, c.row_gap, residual);
    const GuardedRows separate(backend(), c.rows, c.n, 2 * c.row_gap);
    const GuardedRows& out = c.in_place ? add : separate;
    const DeviceFloats bias_device(backend(), bias);
    backend().MatMul({.x = in.view(),
                      .w = packed.get(),
                      .bias = c.bias ? bias_device.data() : nullptr,
                      .activation = c.activation,
                      .gate = c.gate,
                      .residual = c.residual ? add.view() : TensorView{},
                      .out = out.view()});

    Floats x_seen = x, w_seen = w;
    for (float& value : x_seen) value = Operand(value);
    for (float& value : w_seen) value = RoundTo(c.format, value);
    std::vector<Bounded> want;
    for (int64_t r = 0; r < c.rows; ++r)
      for (int64_t n = 0; n < c.n; ++n)
        want.push_back(
            MatMulElement(x_seen.data() + r * c.k, w_seen.data() + n * c.k, c.k,
                          c.bias ? &bias[static_cast<size_t>(n)] : nullptr, c.activation, c.gate,
                          c.residual ? &residual[static_cast<size_t>(r * c.n + n)] : nullptr));
    ExpectWithin(out.Get(), want, c.n, what);
    out.CheckGuards();
    in.CheckGuards();
    ExpectSameBits(in.Get(), wide_x, what + ": x");
  }
}

TEST_P(Ops, PackKeepsStoredFormats) {
  const Floats values = Random(6 * 5, 3);
  std::vector<uint16_t> half, brain;
  for (float value : values) half.push_back(FloatToF16(value)), brain.push_back(FloatToBF16(value));
  const auto pack = [&](std::vector<SourceMatrix> sources, PackSpec spec) {
    return backend().Pack(sources, spec);
  };
  const SourceMatrix f32{values.data(), DType::kF32, 6, 5}, f16{half.data(), DType::kF16, 6, 5},
      bf16{brain.data(), DType::kBF16, 6, 5};
  EXPECT_EQ(pack({f32}, {}).value()->format(), WeightFormat::kF32);
  EXPECT_EQ(pack({f16, f16}, {}).value()->format(), WeightFormat::kF16);
  EXPECT_EQ(pack({bf16}, {}).value()->format(), WeightFormat::kBF16);
  EXPECT_EQ(pack({f16, bf16}, {}).value()->format(),
            WeightFormat::kF32);  // neither holds the other's numbers
  EXPECT_EQ(pack({bf16, f32}, {}).value()->format(), WeightFormat::kF32);

  Floats large = values;
  large[7] = 70000.0f;
  const auto refused = pack({{large.data(), DType::kF32, 6, 5}}, {.format = WeightFormat::kF16});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST_P(Ops, EmbeddingReadsTablesExactly) {
  const int64_t rows = 37, columns = 21;
  const Floats values = Random(rows * columns, 5);
  std::vector<unsigned char> unaligned(values.size() * 4 + 1);
  std::memcpy(unaligned.data() + 1, values.data(), values.size() * 4);
  const std::vector<int32_t> ids = {0, 36, 16, 15, 16, 31, 32, 7};
  for (WeightFormat format : {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16})
    for (auto role : {PackSpec::Role::kTable, PackSpec::Role::kTableAndMatMul}) {
      const SourceMatrix source{unaligned.data() + 1, DType::kF32, rows, columns};
      const auto table = backend().Pack({&source, 1}, {.format = format, .role = role}).value();
      for (size_t count : {ids.size(), size_t{0}}) {
        const auto some = std::span(ids).first(count);
        const GuardedRows out(backend(), std::ssize(some), columns, 3);
        backend().Embedding({.ids = some, .table = table.get(), .out = out.view()});
        Floats want;
        for (int32_t id : some)
          for (int64_t c = 0; c < columns; ++c)
            want.push_back(RoundTo(format, values[static_cast<size_t>(id * columns + c)]));
        ExpectSameBits(out.Get(), want, std::string(Name(format)));
        out.CheckGuards();
      }
    }
}

TEST_P(Ops, Norms) {
  uint64_t seed = 100;
  for (const RowCase& c : RowCases()) {
    const std::string what = fmt::format("{} x {}", c.rows, c.columns);
    Floats x = Random(c.rows * c.columns, ++seed, 2.0f);
    for (float& value : x) value += 0.5f;
    const Floats weight = Random(c.columns, ++seed), bias = Random(c.columns, ++seed);
    const DeviceFloats weight_device(backend(), weight), bias_device(backend(), bias);
    for (bool layer : {false, true}) {
      const GuardedRows in(backend(), c.rows, c.columns, c.row_gap, x),
          separate(backend(), c.rows, c.columns, c.row_gap + 1);
      const GuardedRows& out = c.in_place ? in : separate;
      const float* some_bias = c.bias ? bias.data() : nullptr;
      if (layer) {
        backend().LayerNorm({.x = in.view(),
                             .weight = weight_device.data(),
                             .bias = c.bias ? bias_device.data() : nullptr,
                             .eps = 1e-5f,
                             .out = out.view()});
      } else {
        backend().RmsNorm(
            {.x = in.view(), .weight = weight_device.data(), .eps = 1e-6f, .out = out.view()});
      }
      std::vector<Bounded> want;
      for (int64_t r = 0; r < c.rows; ++r) {
        const float* row = x.data() + r * c.columns;
        const auto some = layer ? LayerNormRow(row, weight.data(), some_bias, 1e-5f, c.columns)
                                : RmsNormRow(row, weight.data(), 1e-6f, c.columns);
        want.insert(want.end(), some.begin(), some.end());
      }
      ExpectWithin(out.Get(), want, c.columns, (layer ? "LayerNorm " : "RmsNorm ") + what);
      out.CheckGuards();
      in.CheckGuards();
    }
  }
}

TEST_P(Ops, HeadRmsNormEqualsItsDefaultBody) {
  uint64_t seed = 200;
  for (const HeadNormCase& c : HeadNormCases()) {
    const Floats x = Random(c.rows * c.heads * c.head_dim, ++seed),
                 weight = Random(c.head_dim, ++seed);
    const DeviceFloats weight_device(backend(), weight);
    const GuardedRows fused(backend(), c.rows, c.heads * c.head_dim, c.row_gap, x),
        plain(backend(), c.rows, c.heads * c.head_dim, c.row_gap, x);
    backend().HeadRmsNorm(fused.view(), c.heads, weight_device.data(), 1e-5f);
    backend().Backend::HeadRmsNorm(plain.view(), c.heads, weight_device.data(), 1e-5f);
    ExpectSameBits(fused.Get(), plain.Get(), fmt::format("{} heads of {}", c.heads, c.head_dim));
    fused.CheckGuards();
    std::vector<Bounded> want;
    for (int64_t r = 0; r < c.rows * c.heads; ++r) {
      const auto some = RmsNormRow(x.data() + r * c.head_dim, weight.data(), 1e-5f, c.head_dim);
      want.insert(want.end(), some.begin(), some.end());
    }
    ExpectWithin(fused.Get(), want, c.head_dim, "HeadRmsNorm");
  }
}

TEST_P(Ops, GatedActivation) {
  uint64_t seed = 300;
  for (Activation activation : {Activation::kNone, Activation::kSilu, Activation::kGelu,
                                Activation::kGeluTanh, Activation::kQuickGelu, Activation::kRelu})
    for (const RowCase& c : RowCases()) {
      Floats x = Random(c.rows * 2 * c.columns, ++seed, 3.0f);
      // Far out, where exponentials end.
      for (size_t i = 0; i < x.size() && c.columns > 60; ++i)
        if (i % 7 == 0) x[i] *= 12.0f;
      const GuardedRows in(backend(), c.rows, 2 * c.columns, c.row_gap, x),
          out(backend(), c.rows, c.columns, c.row_gap);
      backend().GatedActivation(
          {.gate_up = in.view(), .activation = activation, .out = out.view()});
      std::vector<Bounded> want;
      for (int64_t r = 0; r < c.rows; ++r)
        for (int64_t i = 0; i < c.columns; ++i) {
          const float gate = x[static_cast<size_t>(r * 2 * c.columns + i)];
          const float up = x[static_cast<size_t>(r * 2 * c.columns + c.columns + i)];
          const Bounded y = Activate(activation, {gate, 0});
          want.push_back({y.value * up, y.bound * std::fabs(up) + kU * std::fabs(y.value * up)});
        }
      ExpectWithin(out.Get(), want, c.columns,
                   fmt::format("activation {}", static_cast<int>(activation)));
      out.CheckGuards();
    }
}

TEST_P(Ops, ActivationsPassNanAndKeepSigns) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
                                Activation::kQuickGelu, Activation::kRelu}) {
    const GuardedRows in(backend(), 1, 8, 0, {nan, 30.0f, -30.0f, 0.0f, 1.0f, 1.0f, 1.0f, 1.0f}),
        out(backend(), 1, 4);
    backend().GatedActivation({.gate_up = in.view(), .activation = activation, .out = out.view()});
    const Floats y = out.Get();
    EXPECT_TRUE(std::isnan(y[0]));
    EXPECT_EQ(y[1], 30.0f);
    EXPECT_NEAR(y[2], 0.0f, 1e-6f);
    EXPECT_EQ(y[3], 0.0f);
  }
}

TEST_P(Ops, RowMoves) {
  const int64_t rows = 9, columns = 13;
  const Floats x = Random(rows * columns, 400);
  const std::vector<int32_t> picks = {8, 0, 3};
  const GuardedRows in(backend(), rows, columns, 2, x), few(backend(), 3, columns, 1),
      back(backend(), rows, columns, 0, Floats(x.size(), 7.0f));
  backend().GatherRows({.x = in.view(), .rows = picks, .out = few.view()});
  backend().ScatterRows({.x = few.view(), .rows = picks, .out = back.view()});
  Floats want_few, want_back(x.size(), 7.0f);
  for (int32_t row : picks) {
    want_few.insert(want_few.end(), x.begin() + row * columns, x.begin() + (row + 1) * columns);
    std::copy_n(x.begin() + row * columns, columns, want_back.begin() + row * columns);
  }
  ExpectSameBits(few.Get(), want_few, "GatherRows");
  ExpectSameBits(back.Get(), want_back, "ScatterRows");
  few.CheckGuards();
  back.CheckGuards();
  const GuardedRows none(backend(), 0, columns);
  backend().GatherRows({.x = in.view(), .rows = {}, .out = none.view()});
  backend().ScatterRows({.x = none.view(), .rows = {}, .out = back.view()});

  const Floats table = Random(4 * columns, 401);
  const GuardedRows table_rows(backend(), 4, columns, 0, table);
  const std::vector<int32_t> chosen = {3, 3, 0, 1, 2, 0, 0, 1, 3};
  for (bool by_id : {false, true}) {
    const GuardedRows sum(backend(), rows, columns, 1, x);
    backend().AddRows(
        {.table = table_rows.view(),
         .rows = by_id ? std::span<const int32_t>(chosen) : std::span<const int32_t>(),
         .scale = 0.3f,
         .x = sum.view()});
    std::vector<Bounded> want;
    for (int64_t i = 0; i < rows * columns; ++i) {
      const int64_t row = i / columns, from = by_id ? chosen[static_cast<size_t>(row)] : row % 4;
      const double added =
          static_cast<double>(table[static_cast<size_t>(from * columns + i % columns)]) * 0.3f;
      const double y = x[static_cast<size_t>(i)] + added;
      want.push_back({y, kU * (std::fabs(added) + std::fabs(y))});
    }
    ExpectWithin(sum.Get(), want, columns, "AddRows");
    sum.CheckGuards();
  }
}

TEST_P(Ops, Patchify) {
  std::array<std::array<float, 256>, 3> lut;
  for (int c = 0; c < 3; ++c)
    for (int i = 0; i < 256; ++i)
      lut[static_cast<size_t>(c)][static_cast<size_t>(i)] =
          static_cast<float>(i * 3 + c) * 0.01f - 1;
  for (const PatchifyCase& c : PatchifyCases()) {
    const int size = c.patch_size, grid_height = c.height / size, grid_width = c.width / size;
    std::vector<uint8_t> pixels(static_cast<size_t>(c.used * 3 * c.height * c.width));
    for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 37 + i / 251);
    const GuardedRows out(backend(), c.rows, 3 * size * size, 2);
    backend().Patchify({.tiles = pixels.data(),
                        .used = c.used,
                        .height = c.height,
                        .width = c.width,
                        .patch_size = size,
                        .lut = &lut,
                        .row_begin = c.row_begin,
                        .out = out.view()});
    Floats want;
    for (int64_t row = c.row_begin; row < c.row_begin + c.rows; ++row) {
      const int64_t t = row / (grid_height * grid_width), i = row / grid_width % grid_height,
                    j = row % grid_width;
      for (int64_t channel = 0; channel < 3; ++channel)
        for (int64_t y = 0; y < size; ++y)
          for (int64_t x = 0; x < size; ++x) {
            const int64_t at =
                ((t * 3 + channel) * c.height + i * size + y) * c.width + j * size + x;
            want.push_back(
                t >= c.used ? 0.0f
                            : lut[static_cast<size_t>(channel)][pixels[static_cast<size_t>(at)]]);
          }
    }
    ExpectSameBits(out.Get(), want, fmt::format("{} tiles of {} x {}", c.used, c.height, c.width));
    out.CheckGuards();
  }
}

}  // namespace
}  // namespace tessera::ops_test
