// Codes that a checkpoint stores are kept on the device: laid out as they are, and multiplied and
// looked up as what they stand for.
#include <fmt/format.h>

#include <random>

#include "kernels/code_source.h"
#include "kernels/cuda/int_matrix.h"
#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {
namespace {

// Random codes, scales and zeros, held row-major.
class Codes final : public CodeSource {
 public:
  Codes(int bits, int64_t rows, int64_t columns, int64_t group, bool symmetric, uint64_t seed)
      : CodeSource({.bits = bits,
                    .rows = rows,
                    .columns = columns,
                    .group = group,
                    .symmetric = symmetric}) {
    std::mt19937_64 random(seed);
    for (int64_t i = 0; i < rows * columns; ++i)
      codes_.push_back(static_cast<uint8_t>(random() % (uint64_t{1} << bits)));
    for (int64_t i = 0; i < rows * groups(); ++i) {
      scales_.push_back(0.01f + 0.001f * static_cast<float>(random() % 1000));
      zeros_.push_back(
          static_cast<uint16_t>(symmetric ? 1 << (bits - 1) : static_cast<int>(random() % 17)));
    }
  }
  void Read(int64_t row, int64_t count, uint8_t* codes, float* scales,
            uint16_t* zeros) const override {
    std::copy_n(codes_.begin() + row * columns(), count * columns(), codes);
    std::copy_n(scales_.begin() + row * groups(), count * groups(), scales);
    std::copy_n(zeros_.begin() + row * groups(), count * groups(), zeros);
  }
  SourceMatrix source() const { return {.rows = rows(), .columns = columns(), .codes = this}; }
  uint8_t code(int64_t row, int64_t column) const {
    return codes_[static_cast<size_t>(row * columns() + column)];
  }
  float scale(int64_t row, int64_t column) const { return scales_[At(row, column)]; }
  int zero(int64_t row, int64_t column) const { return zeros_[At(row, column)]; }

 private:
  size_t At(int64_t row, int64_t column) const {
    return static_cast<size_t>(row * groups() + column / group());
  }
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<uint16_t> zeros_;
};

struct Case {
  int bits;
  int64_t columns, first_group, second_group;  // of two stacked sources
  bool symmetric;
  int group;  // of what is kept
};
constexpr Case kCases[] = {
    {4, 96, 32, 32, true, 32},   {4, 256, 128, 64, true, 64},    {4, 320, 128, 128, false, 128},
    {4, 160, 160, 32, true, 32}, {4, 384, 384, 384, false, 128}, {4, 512, 256, 256, true, 128},
    {8, 160, 160, 160, true, 0}, {8, 192, 64, 64, true, 64},     {8, 200, 32, 32, true, 32}};

// 21 and 14 rows: the second source begins inside a strip.
TEST(MatMulInt, KeepsTheCodesOfACheckpoint) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(fmt::format("int{} of {} in groups of {} and {}", c.bits, c.columns, c.first_group,
                             c.second_group));
    const Codes first(c.bits, 21, c.columns, c.first_group, c.symmetric, 1),
        second(c.bits, 14, c.columns, c.second_group, c.symmetric, 2);
    const SourceMatrix sources[] = {first.source(), second.source()};
    const int64_t n = 35, k = c.columns;
    const auto packed = cuda::PackInts(sources, {}, n, k, DType::kBF16);
    ASSERT_TRUE(packed) << packed.error().Describe();
    const cuda::IntLayout& layout = packed->layout;
    EXPECT_EQ(packed->format(), c.bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4);
    ASSERT_EQ(layout.group, c.group);
    ASSERT_EQ(layout.minimum != 0, !c.symmetric);
    const auto* halves =
        reinterpret_cast<const uint16_t*>(packed->bytes.data() + layout.words_at());
    const auto* of_rows = reinterpret_cast<const float*>(packed->bytes.data() + layout.scales_at());
    std::vector<Bounded> want;
    for (int32_t row = 0; row < n; ++row)
      for (int32_t column = 0; column < k; ++column) {
        const Codes& from = row < 21 ? first : second;
        const int32_t in = row < 21 ? row : row - 21;
        const int64_t at = layout.code_at(row, column);
        const int got = c.bits == 8 ? packed->bytes[static_cast<size_t>(at)]
                                    : packed->bytes[static_cast<size_t>(at / 2)] >> at % 2 * 4 & 15;
        ASSERT_EQ(got, from.code(in, column)) << row << ", " << column;
        double scale = from.scale(in, column), minimum = -scale * from.zero(in, column);
        if (c.group == 0) {
          ASSERT_EQ(of_rows[row], from.scale(in, column)) << row;
        } else {
          const int64_t word = layout.scale_at(row, column / c.group);
          ASSERT_EQ(halves[word], FloatToBF16(from.scale(in, column))) << row << ", " << column;
          scale = BF16ToFloat(halves[word]);
          minimum = -scale * (1 << (c.bits - 1));
          if (!c.symmetric) {
            const float exact = -from.scale(in, column) * static_cast<float>(from.zero(in, column));
            ASSERT_EQ(halves[word + 1], FloatToBF16(exact)) << row << ", " << column;
            minimum = BF16ToFloat(halves[word + 1]);
          }
        }
        const double value = scale * got + minimum;
        want.push_back({value, 4 * ops_test::kU * (256 * scale + std::fabs(minimum))});
      }
    const DeviceArray<uint8_t> device(packed->bytes);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t i = 0; i < n; ++i) ids[static_cast<size_t>(i)] = i;
    const DeviceArray<int32_t> ids_device(ids);
    const DeviceRows out(RowType::kF32, n, k);
    ForSchedules(1, [&](uint64_t) {
      ExpectRan(cuda::LaunchEmbeddingInt(RowType::kF32,
                                         {.layout = layout,
                                          .weights = device.get(),
                                          .ids = ids_device.get(),
                                          .out = out.data(),
                                          .out_stride = out.stride(),
                                          .count = n},
                                         TestStream()),
                "embedding");
      ExpectWithin(out.Get(), want, k, "embedding");
    });
  }
}

// Padding behind the codes weighs nothing, and has the scale of the last group.
TEST(MatMulInt, KeepsCodesInFrontOfPadding) {
  const Codes codes(4, 8, 64, 32, true, 4);
  const SourceMatrix source = codes.source();
  const auto packed = cuda::PackInts({&source, 1}, {}, 8, 128, DType::kBF16);
  ASSERT_TRUE(packed);
  const cuda::IntLayout& layout = packed->layout;
  const auto* halves = reinterpret_cast<const uint16_t*>(packed->bytes.data() + layout.words_at());
  for (int32_t row = 0; row < 8; ++row) {
    for (int32_t column = 64; column < 128; ++column) {
      const int64_t at = layout.code_at(row, column);
      EXPECT_EQ(packed->bytes[static_cast<size_t>(at / 2)] >> at % 2 * 4 & 15, 8) << column;
      EXPECT_EQ(halves[layout.scale_at(row, column / 32)], FloatToBF16(codes.scale(row, 63)));
    }
  }
}

// Codes that another format was asked for are numbers like others.
TEST(MatMulInt, QuantisesCodesAnewForAnotherFormat) {
  const Codes codes(4, 16, 64, 32, true, 3);
  const SourceMatrix source = codes.source();
  const auto packed =
      cuda::PackInts({&source, 1}, {.format = WeightFormat::kInt8}, 16, 64, DType::kBF16);
  ASSERT_TRUE(packed);
  EXPECT_EQ(packed->format(), WeightFormat::kInt8);
  EXPECT_EQ(packed->layout.group, 0);
  std::vector<float> numbers(16 * 64);
  codes.Dequantize(0, 16, numbers.data());
  const SourceMatrix plain{numbers.data(), DType::kF32, 16, 64};
  EXPECT_EQ(
      packed->bytes,
      cuda::PackInts({&plain, 1}, {.format = WeightFormat::kInt8}, 16, 64, DType::kBF16)->bytes);
}

// fp16 ends at 65,520, and the code that has no opposite counts: 128 steps.
TEST(MatMulInt, RefusesKeptCodesThatFp16CannotHold) {
  class Large final : public CodeSource {
   public:
    explicit Large(float scale)
        : CodeSource({.bits = 8, .rows = 1, .columns = 64, .group = 32}), scale_(scale) {}
    void Read(int64_t, int64_t, uint8_t* codes, float* scales, uint16_t* zeros) const override {
      std::fill_n(codes, 64, uint8_t{0});
      std::fill_n(scales, 2, scale_);
      std::fill_n(zeros, 2, uint16_t{128});
    }

   private:
    const float scale_;
  };
  const auto pack = [](float scale, DType activations) {
    const Large large(scale);
    const SourceMatrix source{.rows = 1, .columns = 64, .codes = &large};
    return cuda::PackInts({&source, 1}, {}, 1, 64, activations).has_value();
  };
  EXPECT_TRUE(pack(513.0f, DType::kBF16));
  EXPECT_TRUE(pack(511.0f, DType::kF16));
  EXPECT_FALSE(pack(513.0f, DType::kF16));
}

}  // namespace
}  // namespace tessera::cuda_test
