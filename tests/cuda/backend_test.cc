// CudaBackend over the emulated GPU, or a real one: what is its own and not an op family's. Memory,
// packing, products with every epilogue, graphs, lanes, and whole models against the CPU.
#include "kernels/cuda/backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tests/cuda/backend_device.h"

namespace tessera::cuda {
namespace {

using Floats = std::vector<float>;

Floats Random(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Floats values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

float Round(DType dtype, float value) {
  if (dtype == DType::kF32) return value;
  return dtype == DType::kBF16 ? BF16ToFloat(FloatToBF16(value)) : F16ToFloat(FloatToF16(value));
}

class Backend_ : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    cuda_test::BeginDevice();
    Start({});
  }
  void TearDown() override {
    backend_.reset();
    cuda_test::ExpectDeviceAsAtBegin();
  }
  void Start(BackendOptions options) {
    backend_.reset();
    options.device = cuda_test::DeviceName();
    options.operand_dtype = GetParam();
    auto made = CudaBackend::Make(options);
    ASSERT_TRUE(made) << made.error().Describe();
    backend_ = std::move(*made);
    ASSERT_TRUE(backend_->Reserve({.max_rows = 64, .widest = 512, .max_heads = 4, .vocab = 100}));
  }
  DType dtype() const { return GetParam(); }

  Tensor Upload(const Floats& values, int64_t rows, int64_t columns, DType dtype) {
    Tensor tensor = std::move(backend_->AllocateTensor(dtype, {rows, columns}).value());
    if (dtype == DType::kF32) {
      backend_->CopyToDevice(tensor, values.data());
    } else {
      std::vector<uint16_t> half;
      for (float value : values)
        half.push_back(dtype == DType::kBF16 ? FloatToBF16(value) : FloatToF16(value));
      backend_->CopyToDevice(tensor, half.data());
    }
    return tensor;
  }
  Floats Download(const TensorView& view) {
    Floats values(static_cast<size_t>(view.size()));
    if (view.dtype == DType::kF32) {
      backend_->CopyToHost(values.data(), view);
      return values;
    }
    std::vector<uint16_t> half(values.size());
    backend_->CopyToHost(half.data(), view);
    for (size_t i = 0; i < half.size(); ++i)
      values[i] = view.dtype == DType::kBF16 ? BF16ToFloat(half[i]) : F16ToFloat(half[i]);
    return values;
  }
  std::unique_ptr<PackedMatrix> Pack(const Floats& values, int64_t n, int64_t k) {
    const SourceMatrix source{.data = values.data(), .dtype = DType::kF32, .rows = n, .columns = k};
    auto packed = backend_->Pack({&source, 1}, {});
    EXPECT_TRUE(packed) << packed.error().Describe();
    return std::move(*packed);
  }

  std::unique_ptr<CudaBackend> backend_;
};
INSTANTIATE_TEST_SUITE_P(Types, Backend_, ::testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST_P(Backend_, SaysWhatItIs) {
  EXPECT_EQ(backend_->name(), cuda_test::DeviceName());
  EXPECT_EQ(backend_->tier(), cuda_test::ExpectedTier());
  EXPECT_EQ(backend_->activation_dtype(), dtype());
  EXPECT_GT(backend_->device_memory().total, 0u);
  EXPECT_FALSE(backend_->lost());
  EXPECT_FALSE(backend_->batch_invariant());
}

TEST_P(Backend_, MemoryIsZeroedAndEnds) {
  const Tensor tensor = std::move(backend_->AllocateTensor(DType::kF32, {3, 5}).value());
  EXPECT_EQ(Download(tensor), Floats(15, 0.0f));
  const auto refused = backend_->Allocate(size_t{1} << 50);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(refused.error().limit.find("free of"), std::string::npos);
  EXPECT_FALSE(backend_->lost()) << "no memory is no loss of the device";
}

TEST_P(Backend_, KeepsTheFirstError) {
  backend_->Check({});
  EXPECT_FALSE(backend_->lost());
  backend_->Check({700, "the first"});
  backend_->Check({2, "a later one"});
  backend_->Check({});
  ASSERT_TRUE(backend_->lost());
  EXPECT_EQ(backend_->lost()->code, ErrorCode::kUnavailable);
  EXPECT_EQ(backend_->lost()->detail, "error 700: the first");
}

TEST_P(Backend_, PacksEveryType) {
  const int64_t n = 5, k = 13;  // stored as 16
  const Floats values = Random(n * k, 1);
  std::vector<uint16_t> bf16, f16;
  for (float value : values) {
    bf16.push_back(FloatToBF16(value));
    f16.push_back(FloatToF16(value));
  }
  const SourceMatrix sources[] = {
      {.data = values.data(), .dtype = DType::kF32, .rows = n, .columns = k},
      {.data = bf16.data(), .dtype = DType::kBF16, .rows = n, .columns = k},
      {.data = f16.data(), .dtype = DType::kF16, .rows = n, .columns = k}};
  const auto packed = backend_->Pack(sources, {});
  ASSERT_TRUE(packed) << packed.error().Describe();
  const auto& matrix = static_cast<const CudaPackedMatrix&>(**packed);
  EXPECT_EQ(matrix.n(), 3 * n);
  EXPECT_EQ(matrix.k(), k);
  ASSERT_EQ(matrix.stored_k(), 16);
  const Floats stored =
      Download(TensorView::Of(const_cast<void*>(matrix.data()), dtype(), {15, 16}));
  for (int64_t row = 0; row < 15; ++row) {
    for (int64_t c = 0; c < 16; ++c) {
      float wanted = 0;
      if (c < k) {
        wanted = values[static_cast<size_t>(row % n * k + c)];
        if (row >= n) wanted = Round(row < 2 * n ? DType::kBF16 : DType::kF16, wanted);
        wanted = Round(dtype(), wanted);
      }
      ASSERT_EQ(stored[static_cast<size_t>(row * 16 + c)], wanted) << row << ", " << c;
    }
  }
}

// Matrices that are converted in several pieces, and rows that are larger than a piece of 4 MiB.
TEST_P(Backend_, PacksLargeMatrices) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{3000, 1000}, {2, 2200000}}) {
    Floats values(static_cast<size_t>(n * k));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(i * 7 % 251);  // exact
    const auto packed = Pack(values, n, k);
    const auto& matrix = static_cast<const CudaPackedMatrix&>(*packed);
    ASSERT_EQ(matrix.stored_k(), k);
    EXPECT_EQ(Download(TensorView::Of(const_cast<void*>(matrix.data()), dtype(), {n, k})), values);
  }
}

TEST_P(Backend_, RefusesWeightsThatItCannotKeep) {
  const Floats big = {1.0f, 70000.0f};
  const SourceMatrix source{.data = big.data(), .dtype = DType::kF32, .rows = 1, .columns = 2};
  const auto packed = backend_->Pack({&source, 1}, {});
  EXPECT_EQ(packed.has_value(), dtype() == DType::kBF16);
  const auto f32 = backend_->Pack({&source, 1}, {.format = WeightFormat::kF32});
  ASSERT_FALSE(f32);
  EXPECT_EQ(f32.error().field, "weights");
  EXPECT_TRUE(
      backend_->Pack({&source, 1}, {.format = WeightFormat::kF32, .role = PackSpec::Role::kTable}));
}

struct Epilogue {
  bool bias = false, residual = false, in_place = false;
  Activation activation = Activation::kNone;
  float gate = 1;
  bool wide_out = false;  // fp32
};

TEST_P(Backend_, ProductsWithEveryEpilogue) {
  const Epilogue cases[] = {
      {},
      {.wide_out = true},
      {.gate = 0.5f},
      {.residual = true},
      {.residual = true, .in_place = true, .gate = -0.25f},
      {.bias = true},
      {.bias = true, .wide_out = true},
      {.bias = true, .residual = true, .in_place = true, .gate = 0.5f},
      {.bias = true, .activation = Activation::kGelu},
      {.residual = true, .activation = Activation::kGeluTanh, .gate = 2},
      {.bias = true, .residual = true, .activation = Activation::kSilu},
  };
  for (const bool invariant : {false, true}) {
    Start({.batch_invariant = invariant});
    for (const auto& [rows, n, k] : {std::tuple<int64_t, int64_t, int64_t>{1, 40, 64},
                                     {7, 33, 24},
                                     {20, 16, 136},
                                     {3, 5, 13}}) {
      const Floats x = Random(rows * k, 1), w = Random(n * k, 2), bias = Random(n, 3),
                   residual = Random(rows * n, 4);
      const auto packed = Pack(w, n, k);
      const Tensor dx = Upload(x, rows, k, dtype()), dbias = Upload(bias, 1, n, DType::kF32);
      for (const Epilogue& e : cases) {
        const DType out_type = e.wide_out ? DType::kF32 : dtype();
        const Tensor dresidual = Upload(residual, rows, n, out_type);
        const Tensor fresh = std::move(backend_->AllocateTensor(out_type, {rows, n}).value());
        const TensorView out = e.in_place ? dresidual.view() : fresh.view();
        backend_->MatMul({.x = dx,
                          .w = packed.get(),
                          .bias = e.bias ? dbias.view().As<float>() : nullptr,
                          .activation = e.activation,
                          .gate = e.gate,
                          .residual = e.residual ? dresidual.view() : TensorView{},
                          .out = out});
        const Floats got = Download(out);
        ASSERT_FALSE(backend_->lost()) << backend_->lost()->Describe();
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < n; ++c) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < k; ++i) {
              const double product = double{Round(dtype(), x[size_t(r * k + i)])} *
                                     double{Round(dtype(), w[size_t(c * k + i)])};
              sum += product;
              size += std::fabs(product);
            }
            double y = sum + (e.bias ? bias[size_t(c)] : 0.0);
            switch (e.activation) {
              case Activation::kGelu: y = 0.5 * y * (1 + std::erf(y * std::sqrt(0.5))); break;
              case Activation::kGeluTanh:
                y = 0.5 * y * (1 + std::tanh(std::sqrt(2 / M_PI) * (y + 0.044715 * y * y * y)));
                break;
              case Activation::kSilu: y = y / (1 + std::exp(-y)); break;
              default: break;
            }
            y *= double{e.gate};
            const double add = e.residual ? Round(out_type, residual[size_t(r * n + c)]) : 0.0;
            // fp32 sums, activations to a few ulp (their slopes stay below 1.2), one rounding at
            // the end.
            const double sums =
                1.2 * std::fabs(e.gate) * size * static_cast<double>(k + 8) * 0x1p-23;
            const double last = std::fabs(y + add) + std::fabs(add);
            const double ulp = out_type == DType::kF32   ? 0x1p-22
                               : out_type == DType::kF16 ? 0x1p-11
                                                         : 0x1p-8;
            const double bound = sums + last * ulp + 2e-6 * std::fabs(y) + 1e-7;
            ASSERT_NEAR(got[size_t(r * n + c)], y + add, bound)
                << rows << "x" << n << "x" << k << " at " << r << ", " << c;
          }
        }
      }
    }
  }
  cuda_test::ExpectNoDefects();
}

// A product's rows are cut so that scratch suffices; nobody must see where.
TEST_P(Backend_, LongProductsComeInPieces) {
  const int64_t rows = 35, n = 262144, k = 8;  // 32 rows of fp32 fill the scratch memory
  ASSERT_TRUE(backend_->Reserve({.max_rows = rows, .widest = n}));
  const Floats x = Random(rows * k, 1), w = Random(n * k, 2);
  const auto packed = Pack(w, n, k);
  const Tensor dx = Upload(x, rows, k, dtype());
  const Tensor bias = Upload(Floats(size_t(n), 0.0f), 1, n, DType::kF32);
  const Tensor with = std::move(backend_->AllocateTensor(dtype(), {rows, n}).value());
  backend_->MatMul(
      {.x = dx, .w = packed.get(), .bias = bias.view().As<float>(), .out = with.view()});
  const Floats got = Download(with);
  for (const int64_t r : {0, 1, 31, 32, 34}) {
    for (int64_t c = 0; c < n; c += 32767) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i)
        sum += double{Round(dtype(), x[size_t(r * k + i)])} *
               double{Round(dtype(), w[size_t(c * k + i)])};
      ASSERT_NEAR(got[size_t(r * n + c)], sum, std::fabs(sum) * 0x1p-7 + 1e-3);
    }
  }
}

TEST(Scratch, ProductsTakeWhatTheirPiecesNeed) {
  const auto bytes = [](int64_t rows, int64_t widest) {
    return MatMulScratchBytes({.max_rows = rows, .widest = widest}, DeviceProps{});
  };
  EXPECT_EQ(bytes(64, 512), size_t{64} * 512 * 4);
  EXPECT_EQ(bytes(1 << 20, 512), size_t{32} << 20);
  EXPECT_EQ(bytes(64, 10 << 20), size_t{40} << 20) << "one row at least";
}

// The same ops with and without a graph, again and again with other data.
TEST_P(Backend_, GraphsComputeTheSame) {
  const int64_t n = 24, k = 16;
  const auto packed = Pack(Random(n * k, 1), n, k);
  const Tensor table = Upload(Random(30 * k, 2), 30, k, dtype());
  for (int step = 0; step < 12; ++step) {
    const int64_t rows = 1 + step % 3;
    std::vector<int32_t> ids;
    for (int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<int32_t>((step * 7 + r * 5) % 30));
    Floats outcome[2];
    for (const bool graph : {false, true}) {
      const Tensor x = std::move(backend_->AllocateTensor(dtype(), {rows, k}).value());
      const Tensor out = std::move(backend_->AllocateTensor(dtype(), {rows, n}).value());
      if (graph) backend_->BeginGraph(rows);
      std::vector<int32_t> gone = ids;
      backend_->GatherRows({.x = table, .rows = gone, .out = x});
      std::ranges::fill(gone, 0);  // the caller's data may go at once
      backend_->MatMul({.x = x, .w = packed.get(), .activation = Activation::kSilu, .out = out});
      if (graph) {
        ASSERT_TRUE(backend_->EndGraph());
      }
      backend_->Synchronize();
      outcome[graph] = Download(out);
    }
    EXPECT_EQ(outcome[0], outcome[1]) << "step " << step;
  }
  EXPECT_EQ(backend_->graphs_built(), 3u);
  EXPECT_EQ(backend_->graphs_launched(), 12u);
  EXPECT_FALSE(backend_->lost());
}

// What is queued after a draw reads its ids where they are: the host has not seen them.
TEST_P(Backend_, DrawnIdsAreReadOnTheDevice) {
  const int64_t vocab = 40, columns = 24;
  const Floats table = Random(vocab * columns, 1);
  const auto packed = Pack(table, vocab, columns);
  std::vector<int32_t> expected;
  Floats values;
  for (int32_t row = 0; row < 3; ++row) {
    Floats logits = Random(vocab, 10 + static_cast<uint64_t>(row));
    const int32_t best = 7 * row + 5;
    logits[static_cast<size_t>(best)] = 50;
    if (row == 1) logits[0] = NAN;  // draws nothing: stands for id 0
    expected.push_back(row == 1 ? 0 : best);
    values.insert(values.end(), logits.begin(), logits.end());
  }
  const Tensor logits = Upload(values, 3, vocab, DType::kF32);
  std::vector<SampleRow> rows(3);
  for (int32_t row = 0; row < 3; ++row) {
    rows[static_cast<size_t>(row)].logits_row = row;
  }
  const Tensor gathered = std::move(backend_->AllocateTensor(dtype(), {4, columns}).value());
  const std::vector<int32_t> ids = {IdOfDraw(2), IdOfDraw(0), 9, IdOfDraw(1)};
  backend_->BeginSample({.logits = logits, .rows = rows});
  backend_->Embedding({.ids = ids, .table = packed.get(), .out = gathered});
  // A second draw is begun before the first one's results are asked for
  backend_->BeginSample({.logits = logits, .rows = std::span(rows).first(1)});
  std::vector<SampleResult> results(3), later(1);
  backend_->EndSample(results);
  backend_->EndSample(later);
  EXPECT_EQ(results[0].id, expected[0]);
  EXPECT_LT(results[1].id, 0);
  EXPECT_EQ(results[2].id, expected[2]);
  EXPECT_EQ(later[0].id, expected[0]);
  // As many as Reserve() made room for
  std::vector<SampleRow> most(64, rows[2]);
  std::vector<SampleResult> all(64);
  backend_->Sample({.logits = logits, .rows = most, .results = all});
  for (const SampleResult& result : all) EXPECT_EQ(result.id, expected[2]);
  const Floats out = Download(gathered);
  const std::vector<int32_t> read = {expected[2], expected[0], 9, expected[1]};
  for (int64_t row = 0; row < 4; ++row)
    for (int64_t c = 0; c < columns; ++c)
      ASSERT_EQ(
          out[static_cast<size_t>(row * columns + c)],
          Round(dtype(), table[static_cast<size_t>(read[static_cast<size_t>(row)] * columns + c)]))
          << row << " " << c;
}

TEST_P(Backend_, LanesKeepApart) {
  const Tensor table = Upload(Random(64 * 16, 2), 64, 16, dtype());
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    cuda_test::SetOrder(seed);
    const Tensor a = std::move(backend_->AllocateTensor(dtype(), {4, 16}).value());
    const Tensor b = std::move(backend_->AllocateTensor(dtype(), {4, 16}).value());
    const Tensor c = std::move(backend_->AllocateTensor(dtype(), {4, 16}).value());
    backend_->Synchronize();
    backend_->SelectLane(1);
    const std::vector<int32_t> rows = {5, 6, 7, 8};
    backend_->GatherRows({.x = table, .rows = rows, .out = a});
    backend_->GatherRows({.x = a, .rows = std::vector<int32_t>{3, 2, 1, 0}, .out = b});
    backend_->OrderLanes(1, 0);
    backend_->SelectLane(0);
    backend_->GatherRows({.x = b, .rows = std::vector<int32_t>{0, 0, 1, 1}, .out = c});
    backend_->Synchronize();
    const Floats got = Download(c), all = Download(table);
    for (int row = 0; row < 4; ++row)
      for (int i = 0; i < 16; ++i)
        EXPECT_EQ(got[size_t(row * 16 + i)], all[size_t((8 - row / 2) * 16 + i)]);
  }
}

}  // namespace
}  // namespace tessera::cuda
