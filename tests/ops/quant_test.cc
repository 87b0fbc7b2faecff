// int8 and int4 weights: every tier against float64 after the rule of kernels/cpu/quant.h, tiers
// against each other bit for bit, choice of scales, numbers that do not behave.
#include <algorithm>
#include <bit>

#include "kernels/quantize.h"
#include "tests/ops/invariance.h"

namespace tessera::ops_test {
namespace {

class Quant : public BackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Quant, testing::ValuesIn(QuantBackendsUnderTest()), NameOf);

using Role = PackSpec::Role;

// Every format there is. Role: both readers, so that a test can read the weights back.
std::vector<PackSpec> Specs() {
  std::vector<PackSpec> specs;
  for (int group : {0, 32, 64, 128})
    specs.push_back({.format = WeightFormat::kInt8, .role = Role::kTableAndMatMul, .group = group});
  for (bool minimum : {false, true})
    for (int group : {0, 32, 64, 128})
      specs.push_back({.format = WeightFormat::kInt4,
                       .role = Role::kTableAndMatMul,
                       .group = group,
                       .minimum = minimum});
  return specs;
}
int GroupOf(const PackSpec& spec) {
  return spec.group != 0 ? spec.group : spec.format == WeightFormat::kInt8 ? 128 : 32;
}
bool HasMinimum(const PackSpec& spec) {
  return spec.format == WeightFormat::kInt4 && (spec.minimum || spec.group == 0);
}
std::string NameOf(const PackSpec& spec) {
  return fmt::format("{} group {}{}", Name(spec.format), spec.group,
                     spec.minimum ? " minimum" : "");
}

// The weights as the matrix has them.
Floats ReadBack(Backend& backend, const PackedMatrix& packed) {
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < packed.n(); ++id) ids.push_back(id);
  const GuardedRows out(backend, packed.n(), packed.k(), 3);
  backend.Embedding({.ids = ids, .table = &packed, .out = out.view()});
  out.CheckGuards();
  return out.Get();
}

// x as the products see it, and what its codes count.
struct OperandRow {
  std::vector<int> q;
  std::vector<double> scale;  // of each element
};
OperandRow Quantize(const float* x, int64_t k, int group) {
  OperandRow row;
  for (int64_t begin = 0; begin < k; begin += group) {
    const int64_t end = std::min(k, begin + group);
    float amax = 0;
    for (int64_t i = begin; i < end; ++i) amax = std::max(amax, std::fabs(x[i]));
    for (int64_t i = begin; i < end; ++i) {
      row.q.push_back(amax < 0x1p-100f ? 0
                                       : static_cast<int>(std::nearbyint(x[i] * (127.0f / amax))));
      const uint32_t scale = std::bit_cast<uint32_t>(amax / 127.0f) & ~3u;
      row.scale.push_back(amax < 0x1p-100f ? 0 : static_cast<double>(std::bit_cast<float>(scale)));
    }
  }
  return row;
}

Floats Multiply(Backend& backend, const Floats& x, int64_t rows, const PackedMatrix& packed,
                const float* bias = nullptr, Activation activation = Activation::kNone) {
  const GuardedRows in(backend, rows, packed.k(), 1, x), out(backend, rows, packed.n(), 2);
  backend.MatMul(
      {.x = in.view(), .w = &packed, .bias = bias, .activation = activation, .out = out.view()});
  out.CheckGuards();
  return out.Get();
}

struct Shape {
  int64_t rows, k, n;
};
constexpr Shape kShapes[] = {{0, 8, 8},     {1, 1, 1},      {1, 64, 16},   {1, 65, 17},
                             {2, 33, 100},  {3, 200, 47},   {5, 96, 130},  {8, 256, 64},
                             {9, 31, 33},   {13, 300, 50},  {16, 640, 70}, {17, 576, 41},
                             {33, 600, 53}, {64, 1030, 35}, {270, 288, 40}};

TEST_P(Quant, MatMulIsTheRuleOfItsFormat) {
  uint64_t seed = 9000;
  for (const PackSpec& spec : Specs())
    for (const Shape& s : kShapes) {
      const std::string what = fmt::format("{}: {} x {} x {}", NameOf(spec), s.rows, s.k, s.n);
      const Floats x = Random(s.rows * s.k, ++seed, 3.0f), w = Random(s.n * s.k, ++seed, 0.1f);
      const auto packed = PackFloats(backend(), w, s.n, s.k, spec);
      EXPECT_EQ(packed->format(), spec.format);
      const Floats seen = ReadBack(backend(), *packed);
      const int64_t groups = (s.k + GroupOf(spec) - 1) / GroupOf(spec);
      std::vector<Bounded> want;
      for (int64_t r = 0; r < s.rows; ++r) {
        const OperandRow row = Quantize(x.data() + r * s.k, s.k, GroupOf(spec));
        for (int64_t n = 0; n < s.n; ++n) {
          double sum = 0, absolute = 0;
          for (int64_t i = 0; i < s.k; ++i) {
            const auto at = static_cast<size_t>(i);
            const double weight = seen[static_cast<size_t>(n * s.k + i)];
            const double product = row.scale[at] * row.q[at] * weight;
            sum += product;
            absolute += std::fabs(product);
            // Steps and minimum are rounded apart, and weights here are below 1 in magnitude.
            if (HasMinimum(spec)) absolute += std::fabs(row.scale[at] * row.q[at]);
          }
          // A group: s * sum, its product, the addition, s * sum q, and its fma; a weight that
          // was read back is rounded twice.
          const double bound = (2.0 * static_cast<double>(groups) + 6) * kU * absolute;
          want.push_back({sum, bound + 1e-37});
        }
      }
      ExpectWithin(Multiply(backend(), x, s.rows, *packed), want, s.n, what);
    }
}

TEST_P(Quant, SameBitsAsTheReferenceTier) {
  const auto reference = BackendUnderTest{"reference", "reference"}.Make(1);
  uint64_t seed = 9500;
  for (const PackSpec& spec : Specs())
    for (const Shape& s : {Shape{1, 100, 40}, Shape{7, 600, 33}, Shape{40, 333, 70}}) {
      const Floats x = Random(s.rows * s.k, ++seed, 3.0f), w = Random(s.n * s.k, ++seed, 0.1f);
      const auto mine = PackFloats(backend(), w, s.n, s.k, spec),
                 theirs = PackFloats(*reference, w, s.n, s.k, spec);
      ExpectSameBits(ReadBack(backend(), *mine), ReadBack(*reference, *theirs),
                     NameOf(spec) + ": codes");
      ExpectSameBits(Multiply(backend(), x, s.rows, *mine),
                     Multiply(*reference, x, s.rows, *theirs), NameOf(spec));
    }
}

TEST_P(Quant, RowsAloneAndThreads) {
  const int64_t k = 600, n = 70;
  const Floats x = Random(kRows * k, 1), w = Random(n * k, 2), bias = Random(n, 3);
  std::vector<PackSpec> specs = Specs();
  if (GetParam().tier == "reference" ||
      GetParam().tier == "amx-emulated")  // slow; all paths are met
    specs = {specs[0], specs[1], specs[4], specs[11]};
  for (const PackSpec& spec : specs) {
    const auto op_with = [&](Backend& backend, const PackedMatrix& packed, int64_t begin,
                             int64_t rows) {
      const DeviceFloats bias_device(backend, bias);
      return Multiply(backend, Slice(x, k, begin, rows), rows, packed, bias_device.data(),
                      Activation::kSilu);
    };
    const auto packed = PackFloats(backend(), w, n, k, spec);
    ExpectRowsAlone(backend(), n, NameOf(spec), [&](Backend& backend, int64_t begin, int64_t rows) {
      return op_with(backend, *packed, begin, rows);
    });
    for (int64_t rows : {1, 9, 200})
      ExpectThreadsAlike(GetParam(), NameOf(spec), [&](Backend& backend) {
        return op_with(backend, *PackFloats(backend, w, n, k, spec), 0, rows);
      });
  }
}

// Rows as every backend gets them from kernels/quantize.h, and as this one keeps them.
TEST_P(Quant, WeightsAreThoseOfQuantizeRows) {
  const int64_t n = 37, k = 352;
  const Floats w = Random(n * k, 76, 0.3f);
  Floats importance;
  for (int64_t i = 0; i < k; ++i) importance.push_back(static_cast<float>(1 + i % 7));
  for (PackSpec spec : Specs()) {
    spec.importance = importance;
    const QuantFormat format = QuantFormatOf(spec).value();
    const int64_t groups = format.groups(k), group = format.group == 0 ? k : format.group;
    std::vector<uint8_t> codes(static_cast<size_t>(n * k));
    Floats scales(static_cast<size_t>(n * groups)), minima(scales.size());
    ASSERT_EQ(QuantizeRows(format, w.data(), n, k, importance,
                           {codes.data(), scales.data(), minima.data()}),
              -1);
    Floats want;
    for (int64_t i = 0; i < n * k; ++i) {
      const auto at = static_cast<size_t>(i / k * groups + i % k / group);
      want.push_back(scales[at] *
                         static_cast<float>(codes[static_cast<size_t>(i)] - format.offset()) +
                     minima[at]);
    }
    ExpectSameBits(ReadBack(backend(), *PackFloats(backend(), w, n, k, spec)), want, NameOf(spec));
  }
}

TEST_P(Quant, CodesAreNearest) {
  const int64_t n = 40, k = 320;
  const Floats w = Random(n * k, 77, 0.3f);
  for (const PackSpec& spec : Specs()) {
    const Floats seen = ReadBack(backend(), *PackFloats(backend(), w, n, k, spec));
    const int group =
        spec.format == WeightFormat::kInt8 && spec.group == 0 ? static_cast<int>(k) : GroupOf(spec);
    double squares = 0, plain_squares = 0;
    for (int64_t row = 0; row < n; ++row)
      for (int64_t begin = 0; begin < k; begin += group) {
        const int64_t end = std::min(k, begin + group);
        double amax = 0, low = 1e9, high = -1e9, extreme = 0;
        for (int64_t i = begin; i < end; ++i) {
          const double value = w[static_cast<size_t>(row * k + i)];
          if (std::fabs(value) > amax) extreme = value;
          amax = std::max(amax, std::fabs(value));
          low = std::min(low, value), high = std::max(high, value);
        }
        for (int64_t i = begin; i < end; ++i) {
          const double value = w[static_cast<size_t>(row * k + i)],
                       error = std::fabs(seen[static_cast<size_t>(row * k + i)] - value);
          if (spec.format == WeightFormat::kInt8) {
            // Half a step; a bf16 scale is made 2^-8 larger and then rounded by up to 2^-8.
            const double step = amax / 127 * (spec.group == 0 ? 1 : (1 + 0x1p-8) * (1 + 0x1p-8));
            ASSERT_LE(error, step / 2 * (1 + 1e-5)) << NameOf(spec) << " row " << row;
          }
          squares += error * error;
          // What the obvious scale gives: the largest weight at -8, or the range in 15 steps.
          const double step = HasMinimum(spec) ? (high - low) / 15 : extreme / -8;
          const double zero = HasMinimum(spec) ? low : 0;
          const double code =
              std::clamp(std::round((value - zero) / step), HasMinimum(spec) ? 0.0 : -8.0,
                         HasMinimum(spec) ? 15.0 : 7.0);
          const double plain = zero + step * code - value;
          plain_squares += plain * plain;
        }
      }
    if (spec.format == WeightFormat::kInt4) {
      EXPECT_LT(squares, 0.97 * plain_squares) << NameOf(spec) << ": the search finds nothing";
    }
  }
}

TEST_P(Quant, ImportanceMovesErrors) {
  const int64_t n = 32, k = 128;
  const Floats w = Random(n * k, 78);
  Floats importance(static_cast<size_t>(k), 1.0f);
  for (size_t i = 0; i < importance.size(); i += 8) importance[i] = 400.0f;
  for (bool minimum : {false, true}) {
    PackSpec spec{.format = WeightFormat::kInt4,
                  .role = Role::kTableAndMatMul,
                  .group = 32,
                  .minimum = minimum};
    const auto weighed_error = [&] {
      const Floats seen = ReadBack(backend(), *PackFloats(backend(), w, n, k, spec));
      double sum = 0;
      for (size_t i = 0; i < seen.size(); ++i)
        sum += importance[i % static_cast<size_t>(k)] * std::pow(seen[i] - w[i], 2.0);
      return sum;
    };
    const double without = weighed_error();
    spec.importance = importance;
    EXPECT_LT(weighed_error(), 0.9 * without) << NameOf(spec);
  }
}

TEST_P(Quant, NumbersThatDoNotBehave) {
  const int64_t n = 20, k = 70, rows = 3;
  Floats w = Random(n * k, 80);
  std::fill_n(w.begin() + 2 * k, k, 0.0f);    // nothing
  std::fill_n(w.begin() + 3 * k, k, 0.25f);   // no spread
  std::fill_n(w.begin() + 4 * k, k, 1e-40f);  // too small to count
  for (int64_t i = 0; i < k; ++i) w[static_cast<size_t>(5 * k + i)] *= 2e36f;
  w[static_cast<size_t>(6 * k)] = 1e37f;
  w[static_cast<size_t>(6 * k + 1)] = -1e37f;
  Floats x = Random(rows * k, 81, 1e-3f);
  std::fill_n(x.begin() + k, k, 0.0f);
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  for (const PackSpec& spec : Specs()) {
    const std::string what = NameOf(spec);
    const auto packed = PackFloats(backend(), w, n, k, spec);
    for (float value : ReadBack(backend(), *packed)) ASSERT_TRUE(std::isfinite(value)) << what;
    const Floats got = Multiply(backend(), x, rows, *packed);
    for (float value : got) ASSERT_TRUE(std::isfinite(value)) << what;
    for (int64_t i = 0; i < n; ++i)
      EXPECT_EQ(got[static_cast<size_t>(n + i)], 0.0f) << what << ": a row of zeros";
    for (int64_t r = 0; r < rows; ++r) {
      EXPECT_EQ(got[static_cast<size_t>(r * n + 2)], 0.0f) << what << ": an output of zeros";
      EXPECT_NEAR(got[static_cast<size_t>(r * n + 4)], 0.0f, 1e-38f) << what;
    }
    // A bad number of x stays in its row.
    for (float bad : {nan, infinity, -infinity}) {
      Floats with_bad = x;
      with_bad[0] = bad;
      const Floats after = Multiply(backend(), with_bad, rows, *packed);
      for (int64_t i = 0; i < n; ++i)
        EXPECT_TRUE(std::isnan(after[static_cast<size_t>(i)])) << what << " " << bad;
      ExpectSameBits(Slice(after, n, 1, rows - 1), Slice(got, n, 1, rows - 1), what);
    }
    for (float bad : {nan, infinity, -infinity, 1.1e37f}) {
      Floats with_bad = w;
      with_bad[static_cast<size_t>(7 * k + 69)] = bad;
      const SourceMatrix source{with_bad.data(), DType::kF32, n, k};
      const auto refused = backend().Pack({&source, 1}, spec);
      ASSERT_FALSE(refused.has_value()) << what << " " << bad;
      EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
      EXPECT_EQ(refused.error().value, "row 7");
    }
  }
  const SourceMatrix source{w.data(), DType::kF32, n, k};
  for (int group : {-1, 1, 16, 48, 256}) {
    const auto refused =
        backend().Pack({&source, 1}, {.format = WeightFormat::kInt8, .group = group});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().value, std::to_string(group));
  }
}

TEST_P(Quant, SourcesOfEveryTypePaddedAndStacked) {
  const int64_t k = 45, padded = 64, n0 = 19, n1 = 14;
  const Floats values = Random((n0 + n1) * k, 90);
  Floats rounded;
  std::vector<uint16_t> half, brain;
  for (float value : values) {
    brain.push_back(FloatToBF16(value));
    half.push_back(FloatToF16(BF16ToFloat(brain.back())));  // exact: bf16 of this size fits
    rounded.push_back(BF16ToFloat(brain.back()));
  }
  Floats wide;
  for (int64_t r = 0; r < n0 + n1; ++r) {
    wide.insert(wide.end(), rounded.begin() + r * k, rounded.begin() + (r + 1) * k);
    wide.insert(wide.end(), static_cast<size_t>(padded - k), 0.0f);
  }
  for (const PackSpec& plain : Specs()) {
    PackSpec spec = plain;
    const auto whole = PackFloats(backend(), wide, n0 + n1, padded, spec);
    const Floats want = ReadBack(backend(), *whole);
    spec.padded_columns = padded;
    std::vector<unsigned char> unaligned(brain.size() * 2 + 1);
    std::memcpy(unaligned.data() + 1, brain.data(), brain.size() * 2);
    const std::vector<SourceMatrix> sources = {
        {unaligned.data() + 1, DType::kBF16, n0, k},
        {half.data() + n0 * k, DType::kF16, n1, k},
    };
    const auto packed = backend().Pack(sources, spec).value();
    EXPECT_EQ(packed->k(), padded);
    ExpectSameBits(ReadBack(backend(), *packed), want, NameOf(spec));
  }
}

}  // namespace
}  // namespace tessera::ops_test
