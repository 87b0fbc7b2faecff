// Every word of device.cuh against plain arithmetic on the CPU, on whatever this is linked with:
// the emulated GPU, or a real one. Fragment layouts are written down here a second time, from the
// PTX ISA document ("Matrix Fragments for mma.m16n8k16 with floating point type", "Warp Level
// Matrix Load Instruction: ldmatrix"), not from our wrappers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "kernels/dtype.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/wrapper_golden.h"
#include "tests/cuda/wrapper_kernels.h"

namespace tessera::cuda {
namespace {

using ::testing::ElementsAreArray;

class WrapperTest : public ::testing::Test {
 protected:
  static std::set<std::string_view>& ran() {
    static std::set<std::string_view> names;
    return names;
  }
  static cuda_test::WrapperGolden& golden() {
    static cuda_test::WrapperGolden outputs;
    return outputs;
  }

  // What hardware approximates: twice the bounds that the tests below hold it to.
  static double Distance(std::string_view name) {
    if (name == "fast_rcp" || name == "rsqrt_rn" || name == "exp_f") return 0x1p-21;
    return name == "fast_exp2" || name == "erf_f" || name == "tanh_f" ? 0x1p-20 : 0;
  }
  // Into the golden, without what is free: the payload of a NaN, who came first among atomics.
  template <typename Y, typename X>
  static void Keep(std::string_view name, const std::vector<X>& in, std::vector<Y> out) {
    if constexpr (std::is_same_v<X, float>) {  // NaN in
      for (size_t i = out.size() == in.size() ? out.size() : 0; i-- > 0;)
        if (std::isnan(in[i])) out.erase(out.begin() + static_cast<ptrdiff_t>(i));
    }
    if constexpr (std::is_floating_point_v<Y>) {
      for (Y& y : out)
        if (std::isnan(y)) y = std::numeric_limits<Y>::quiet_NaN();
    }
    if constexpr (requires(Y y) { y.sum; }) {  // inf - inf
      for (Y& y : out)
        if (std::isnan(y.sum)) y.sum = std::numeric_limits<float>::quiet_NaN();
    }
    if constexpr (std::is_arithmetic_v<Y>) {
      if (name.starts_with("atomic_add ")) std::sort(out.begin(), out.end());
    }
    if constexpr (std::is_same_v<Y, float>) {
      // |c| + 16 products of at most 4, 17 additions cut off, by either side
      if (name.starts_with("mma ")) return golden().KeepNear(name, out, 0, 2 * 66 * 17 * 0x1p-23);
      if (const double distance = Distance(name); distance > 0) {
        std::vector<float> some;
        for (size_t i = 0; i < out.size(); i += 8) some.push_back(out[i]);
        return golden().KeepNear(name, some, distance, 0);
      }
    }
    golden().KeepExact(
        name, {reinterpret_cast<const unsigned char*>(out.data()), out.size() * sizeof(Y)});
  }

  // Runs the kernel of `name`; `out` is what its output holds before and after.
  template <typename Y, typename X>
  static std::vector<Y> Run(std::string_view name, const std::vector<X>& in, std::vector<Y> out,
                            Grid grid = {}, unsigned threads = 32) {
    SCOPED_TRACE(name);
    ran().insert(name);
    DeviceArray<X> device_in(in);
    DeviceArray<Y> device_out(out);
    WrapperParams params{reinterpret_cast<const uint8_t*>(device_in.data()),
                         reinterpret_cast<uint8_t*>(device_out.data()),
                         static_cast<uint32_t>(in.size())};
    const LaunchStatus status = RunWrapper(name, params, grid, threads, nullptr);
    EXPECT_TRUE(status.ok()) << status.message;
    std::vector<Y> result = device_out.Read();
    Keep(name, in, result);
    return result;
  }
  // Element by element: n outputs of n inputs (or of n triples).
  template <typename Y, typename X>
  static std::vector<Y> RunMap(std::string_view name, const std::vector<X>& in, size_t count) {
    SCOPED_TRACE(name);
    ran().insert(name);
    DeviceArray<X> device_in(in);
    DeviceArray<Y> device_out(std::vector<Y>(count, Y{}));
    WrapperParams params{reinterpret_cast<const uint8_t*>(device_in.data()),
                         reinterpret_cast<uint8_t*>(device_out.data()),
                         static_cast<uint32_t>(count)};
    const LaunchStatus status = RunWrapper(name, params, Grid{4}, 64, nullptr);
    EXPECT_TRUE(status.ok()) << status.message;
    std::vector<Y> result = device_out.Read();
    Keep(name, in, result);
    return result;
  }
};

std::vector<uint32_t> Numbers(size_t count, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<uint32_t> numbers(count);
  for (uint32_t& number : numbers) number = random();
  return numbers;
}

template <size_t kBytes>
struct Block {
  std::array<uint8_t, kBytes> bytes{};
  bool operator==(const Block&) const = default;
};
template <size_t kBytes>
std::vector<Block<kBytes>> Blocks(size_t count) {
  std::vector<Block<kBytes>> blocks(count);
  uint8_t next = 7;
  for (auto& block : blocks)
    for (uint8_t& byte : block.bytes) byte = next = static_cast<uint8_t>(next * 13 + 5);
  return blocks;
}

TEST_F(WrapperTest, EveryThreadKnowsItsPlace) {
  const Grid grid{2, 3, 2};
  const auto out =
      Run("place", std::vector<uint32_t>{0}, std::vector<uint32_t>(12 * 64 * 10), grid, 64);
  for (uint32_t i = 0; i < 12 * 64; ++i) {
    const uint32_t block = i / 64, thread = i % 64;
    const std::array<uint32_t, 10> expected = {
        thread, thread % 32, thread / 32, block % 2, block / 2 % 3, block / 6, 64, 2, 3, 2};
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), out.begin() + i * 10)) << i;
  }
}

template <size_t kBytes>
void CheckReversed(const std::vector<Block<kBytes>>& in, const std::vector<Block<kBytes>>& out) {
  for (size_t i = 0; i < in.size(); ++i)
    EXPECT_EQ(out[i], in[in.size() - 1 - i]) << kBytes << ": " << i;
}

TEST_F(WrapperTest, SharedAndGlobalMemoryMoveEverySize) {
  const auto check = [&]<size_t kBytes>(std::vector<std::string_view> names) {
    const auto in = Blocks<kBytes>(64);
    for (const auto name : names) {
      CheckReversed(in, Run(name, in, std::vector<Block<kBytes>>(64), {}, 64));
    }
  };
  check.operator()<1>({"lds_sts 1", "ldg_stg 1"});
  check.operator()<2>({"lds_sts 2", "ldg_stg 2", "ldg_stream 2"});
  check.operator()<4>({"lds_sts 4", "ldg_stg 4", "ldg_stream 4"});
  check.operator()<8>({"lds_sts 8", "ldg_stg 8"});
  check.operator()<16>({"lds_sts 16", "ldg_stg 16", "ldg_stream 16"});
}

TEST_F(WrapperTest, SharedArrays) {
  const auto in = Numbers(64);
  const auto out = Run("shared_array", in, std::vector<uint32_t>(128), {}, 64);
  for (uint32_t i = 0; i < 64; ++i) {
    EXPECT_EQ(out[i * 2], in[i ^ 33] + (i ^ 33));
    EXPECT_EQ(out[i * 2 + 1], in[i ^ 33]);
  }
}

TEST_F(WrapperTest, AsynchronousCopies) {
  const auto check = [&]<size_t kBytes>(std::string_view name) {
    const auto in = Blocks<kBytes>(128);
    const auto out = Run(name, in, std::vector<Block<kBytes>>(128), {}, 64);
    for (size_t i = 0; i < 128; ++i) {
      EXPECT_EQ(out[i], i / 2 % 2 == 0 ? in[i] : Block<kBytes>{}) << name << ": " << i;
    }
  };
  check.operator()<16>("cp_async 16");
  check.operator()<4>("cp_async 4");
}

TEST_F(WrapperTest, BarriersOfPartOfABlock) {
  const auto in = Numbers(128);
  const auto named = Run("named_barrier", in, std::vector<uint32_t>(128), {}, 128);
  for (uint32_t i = 0; i < 128; ++i) EXPECT_EQ(named[i], in[i ^ 32]);
  const auto warp = Run("sync_warp", in, std::vector<uint32_t>(64), {}, 64);
  for (uint32_t i = 0; i < 64; ++i) EXPECT_EQ(warp[i], in[i ^ 5]);
}

template <typename T>
void CheckShuffles(const std::vector<T>& in, const std::vector<T>& out) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(out[lane * 3], in[lane ^ 5]);
    EXPECT_EQ(out[lane * 3 + 1], in[lane + 7 < 32 ? lane + 7 : lane]);
    EXPECT_EQ(out[lane * 3 + 2], in[(lane * 3 + 1) % 32]);
  }
}

TEST_F(WrapperTest, Shuffles) {
  const auto check = [&]<typename T>(std::string_view name, T scale) {
    std::vector<T> in(32);
    for (uint32_t i = 0; i < 32; ++i) in[i] = static_cast<T>(i + 1) * scale;
    CheckShuffles(in, Run(name, in, std::vector<T>(96)));
  };
  check("shfl float", 1.25f);
  check("shfl int32", int32_t{-70001});
  check("shfl uint32", uint32_t{0x01010101});
  check("shfl double", 1e100);
  check("shfl uint64", uint64_t{0x0123456789abcdef});
  const auto numbers = Numbers(64);
  const auto votes = Run("ballot", numbers, std::vector<uint32_t>(64), {}, 64);
  for (uint32_t warp = 0; warp < 2; ++warp) {
    uint32_t expected = 0;
    for (uint32_t l = 0; l < 32; ++l) expected |= (numbers[warp * 32 + l] % 2) << l;
    for (uint32_t l = 0; l < 32; ++l) EXPECT_EQ(votes[warp * 32 + l], expected);
  }
}

// What each thread found must be the partial sums of some order: with unit steps, all of 0 to n-1.
TEST_F(WrapperTest, AtomicAddsAreOneAfterAnother) {
  const auto check = [&]<typename T>(std::string_view name) {
    const auto out = Run(name, std::vector<T>(256, T{1}), std::vector<T>(257), Grid{4}, 64);
    EXPECT_EQ(out[0], T{256});
    std::vector<T> found(out.begin() + 1, out.end());
    std::sort(found.begin(), found.end());
    for (size_t i = 0; i < 256; ++i) EXPECT_EQ(found[i], static_cast<T>(i));
  };
  check.operator()<int32_t>("atomic_add int32");
  check.operator()<uint32_t>("atomic_add uint32");
  check.operator()<uint64_t>("atomic_add uint64");
  check.operator()<float>("atomic_add float");
}

TEST_F(WrapperTest, AtomicMaxAndSharedHistogram) {
  std::vector<int32_t> values(256);
  for (int32_t i = 0; i < 256; ++i) values[static_cast<size_t>(i)] = (i * 97) % 251 - 300;
  EXPECT_EQ(Run("atomic_max", values, std::vector<int32_t>{-1000}, Grid{4}, 64)[0],
            *std::max_element(values.begin(), values.end()));
  const auto numbers = Numbers(64);
  std::vector<uint32_t> histogram(8);
  for (const uint32_t number : numbers) ++histogram[number % 8];
  EXPECT_THAT(Run("atomic_add_shared", numbers, std::vector<uint32_t>(8), {}, 64),
              ElementsAreArray(histogram));
}

TEST_F(WrapperTest, TheLastBlockSeesWhatAllPublished) {
  const auto numbers = Numbers(40 * 32);
  const auto out = Run("thread_fence", numbers, std::vector<uint32_t>(42), Grid{40}, 32);
  EXPECT_EQ(out[0], 40u);
  EXPECT_EQ(out[1], std::accumulate(numbers.begin(), numbers.end(), 0u));
}

// "ldmatrix": thread 4 g + t receives of row g the elements 2 t and 2 t + 1; .trans: of column g
// the rows 2 t and 2 t + 1. Matrix j's rows are given by threads 8 j to 8 j + 7.
TEST_F(WrapperTest, Ldmatrix) {
  std::vector<uint16_t> in(32 * 8);
  for (uint32_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i * 3 + 1);
  const auto element = [&](uint32_t matrix, uint32_t row, uint32_t column) -> uint32_t {
    return in[(matrix * 8 + row) * 8 + column];
  };
  for (const uint32_t count : {4u, 2u}) {
    for (const bool transposed : {false, true}) {
      const std::string_view name = count == 4 ? (transposed ? "ldmatrix_x4_trans" : "ldmatrix_x4")
                                               : (transposed ? "ldmatrix_x2_trans" : "ldmatrix_x2");
      const auto out = Run(name, in, std::vector<uint32_t>(32 * count));
      for (uint32_t lane = 0; lane < 32; ++lane) {
        const uint32_t g = lane / 4, t = lane % 4;
        for (uint32_t j = 0; j < count; ++j) {
          const uint32_t lo = transposed ? element(j, 2 * t, g) : element(j, g, 2 * t);
          const uint32_t hi = transposed ? element(j, 2 * t + 1, g) : element(j, g, 2 * t + 1);
          EXPECT_EQ(out[lane * count + j], lo | hi << 16) << name << ": lane " << lane;
        }
      }
    }
  }
}

// Elements a0 to a7, b0 to b3, c0 to c3 of a thread, two 16-bit elements to a register.
TEST_F(WrapperTest, Mma) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-2.0f, 2.0f);
  for (const bool half : {false, true}) {
    const auto narrow = [&](float x) { return half ? FloatToF16(x) : FloatToBF16(x); };
    const auto widen = [&](uint16_t x) { return half ? F16ToFloat(x) : BF16ToFloat(x); };
    uint16_t a[16][16], b[16][8];
    float c[16][8];
    for (auto& row : a)
      for (auto& x : row) x = narrow(uniform(random));
    for (auto& row : b)
      for (auto& x : row) x = narrow(uniform(random));
    for (auto& row : c)
      for (auto& x : row) x = uniform(random);
    std::vector<uint32_t> in(32 * 10);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint32_t group = lane >> 2, in_group = lane % 4;
      for (uint32_t i = 0; i < 8; ++i) {
        const uint32_t row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        const uint32_t column = in_group * 2 + (i & 1) + (i < 4 ? 0 : 8);
        in[lane * 10 + i / 2] |= uint32_t{a[row][column]} << (16 * (i & 1));
      }
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = in_group * 2 + (i & 1) + (i < 2 ? 0 : 8);
        in[lane * 10 + 4 + i / 2] |= uint32_t{b[row][group]} << (16 * (i & 1));
        const float x = c[i < 2 ? group : group + 8][in_group * 2 + (i & 1)];
        in[lane * 10 + 6 + i] = std::bit_cast<uint32_t>(x);
      }
    }
    const auto out = Run(half ? "mma half" : "mma bf16", in, std::vector<float>(128));
    for (uint32_t lane = 0; lane < 32; ++lane) {
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = (lane >> 2) + (i < 2 ? 0 : 8);
        const uint32_t column = lane % 4 * 2 + (i & 1);
        double sum = c[row][column], size = std::abs(sum);
        for (uint32_t k = 0; k < 16; ++k) {
          const double product = double{widen(a[row][k])} * widen(b[k][column]);
          sum += product;
          size += std::abs(product);
        }
        // Tensor cores cut the aligned products off: up to a unit in the last place of the largest
        // per addition, 17 of them.
        EXPECT_NEAR(out[lane * 4 + i], sum, size * 17 * 0x1p-23) << "lane " << lane << " d" << i;
      }
    }
  }
}

std::vector<float> EdgeFloats() {
  std::vector<float> values = {0.0f,
                               -0.0f,
                               1.0f,
                               -1.0f,
                               65504.0f,
                               65519.996f,
                               65520.0f,
                               1e-8f,
                               6e-8f,
                               2.9802322e-8f,
                               2.9802326e-8f,
                               8.9406967e-8f,
                               6.1035156e-5f,
                               6.1e-5f,
                               3.3895314e38f,
                               3.4e38f,
                               std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::quiet_NaN()};
  // Ties and their neighbours in both formats
  for (uint32_t base = 0x30000000u; base < 0x48000000u; base += 0x00111000u) {
    for (const uint32_t rest :
         {0u, 0x0fffu, 0x1000u, 0x1001u, 0x3000u, 0x7fffu, 0x8000u, 0x8001u, 0x18000u})
      values.push_back(std::bit_cast<float>(base + rest));
  }
  return values;
}

TEST_F(WrapperTest, NumberFormats) {
  std::vector<uint16_t> all(65536);
  std::iota(all.begin(), all.end(), uint16_t{0});
  const auto same = [](float x, float y) { return (std::isnan(x) && std::isnan(y)) || x == y; };
  const auto bf16 = RunMap<float>("to_float bf16", all, all.size());
  const auto half = RunMap<float>("to_float half", all, all.size());
  for (uint32_t i = 0; i < 65536; ++i) {
    EXPECT_TRUE(same(bf16[i], BF16ToFloat(all[i]))) << i;
    EXPECT_TRUE(same(half[i], F16ToFloat(all[i]))) << i;
  }
  const auto floats = EdgeFloats();
  const auto to_bf16 = RunMap<uint16_t>("from_float bf16", floats, floats.size());
  const auto to_half = RunMap<uint16_t>("from_float half", floats, floats.size());
  struct Packed {
    uint32_t word;
    float sum;
  };
  const auto packed_bf16 = RunMap<Packed>("pack2 bf16", floats, floats.size());
  const auto packed_half = RunMap<Packed>("pack2 half", floats, floats.size());
  for (size_t i = 0; i < floats.size(); ++i) {
    const float x = floats[i];
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(BF16ToFloat(to_bf16[i])) && std::isnan(F16ToFloat(to_half[i])));
      continue;
    }
    EXPECT_EQ(to_bf16[i], FloatToBF16(x)) << x;
    EXPECT_EQ(to_half[i], FloatToF16(x)) << x;
    EXPECT_EQ(packed_bf16[i].word, FloatToBF16(x) | uint32_t{FloatToBF16(-2 * x)} << 16) << x;
    EXPECT_EQ(packed_half[i].word, FloatToF16(x) | uint32_t{FloatToF16(-2 * x)} << 16) << x;
    const float sum = BF16ToFloat(FloatToBF16(x)) + 4 * BF16ToFloat(FloatToBF16(-2 * x));
    EXPECT_TRUE(same(packed_bf16[i].sum, sum)) << x;
    EXPECT_TRUE(
        same(packed_half[i].sum, F16ToFloat(FloatToF16(x)) + 4 * F16ToFloat(FloatToF16(-2 * x))))
        << x;
  }
}

std::vector<float> Floats(size_t count, float low, float high) {
  std::mt19937 random(9);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

TEST_F(WrapperTest, FunctionsToTheirPrecision) {
  struct Function {
    std::string_view name;
    double (*exact)(double);
    float low, high;
    double relative, absolute;
  };
  // Bounds of CUDA's tables of function errors, 2 ulp of margin for the exp2 unit.
  const std::vector<Function> functions = {
      {"fast_exp2", [](double x) { return std::exp2(x); }, -100, 100, 0x1p-21, 0},
      {"fast_rcp", [](double x) { return 1 / x; }, 0.01f, 1000, 0x1p-22, 0},
      {"rsqrt_rn", [](double x) { return 1 / std::sqrt(x); }, 0.001f, 1000, 0x1p-22, 0},
      {"exp_f", [](double x) { return std::exp(x); }, -80, 80, 0x1p-22, 0},
      {"erf_f", [](double x) { return std::erf(x); }, -4, 4, 0x1p-21, 0},
      {"tanh_f", [](double x) { return std::tanh(x); }, -9, 9, 0x1p-21, 0},
  };
  for (const Function& f : functions) {
    const auto in = Floats(2000, f.low, f.high);
    const auto out = RunMap<float>(f.name, in, in.size());
    for (size_t i = 0; i < in.size(); ++i) {
      const double exact = f.exact(in[i]);
      EXPECT_NEAR(out[i], exact, std::abs(exact) * f.relative + f.absolute)
          << f.name << " " << in[i];
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(RunMap<float>("fast_exp2", std::vector<float>{-infinity, 0.0f}, 2),
            (std::vector<float>{0.0f, 1.0f}));
}

template <typename T>
std::vector<T> Triples(size_t count) {
  std::mt19937_64 random(4);
  std::vector<T> values(count * 3);
  for (T& value : values) {
    if constexpr (std::is_floating_point_v<T>) {
      value = static_cast<T>((static_cast<double>(random()) / 0x1p63 - 1) * 1000);
    } else {
      value = random();
    }
  }
  return values;
}

TEST_F(WrapperTest, ArithmeticIsRoundedOnceAndNeverContracted) {
  const auto check = [&]<typename T>(std::string_view name, T (*exact)(T, T, T)) {
    const auto in = Triples<T>(1000);
    const auto out = RunMap<T>(name, in, 1000);
    for (size_t i = 0; i < 1000; ++i) {
      EXPECT_EQ(out[i], exact(in[i * 3], in[i * 3 + 1], in[i * 3 + 2])) << name << " " << i;
    }
  };
  check.operator()<float>("fma_rn", [](float x, float y, float z) { return std::fma(x, y, z); });
  check.operator()<float>("fadd_rn", [](float x, float y, float) { return x + y; });
  check.operator()<float>("fmul_rn", [](float x, float y, float z) { return x * y + z; });
  check.operator()<float>("fdiv_rn", [](float x, float y, float) { return x / y; });
  check.operator()<double>("dadd_rn", [](double x, double y, double) { return x + y; });
  check.operator()<double>("dmul_rn", [](double x, double y, double z) { return x * y + z; });
  check.operator()<double>("ddiv_rn", [](double x, double y, double) { return x / y; });
  check.operator()<double>("dfma", [](double x, double y, double z) { return std::fma(x, y, z); });
  check.operator()<uint64_t>("umulhi64", [](uint64_t x, uint64_t y, uint64_t) {
    // By halves: no carry is lost
    const uint64_t xl = x & 0xffffffffu, xh = x >> 32, yl = y & 0xffffffffu, yh = y >> 32;
    const uint64_t middle = xh * yl + (xl * yl >> 32);
    return xh * yh + (middle >> 32) + ((xl * yh + (middle & 0xffffffffu)) >> 32);
  });
}

// The last two of this suite in the order of this file.
TEST_F(WrapperTest, NoWordWentUntested) {
  if (::testing::UnitTest::GetInstance()->test_to_run_count() !=
      ::testing::UnitTest::GetInstance()->total_test_count()) {
    GTEST_SKIP() << "only some tests run";
  }
  for (const auto name : WrapperNames()) EXPECT_TRUE(ran().contains(name)) << name;
}

TEST_F(WrapperTest, AgreesWithRealHardware) {
  if (::testing::UnitTest::GetInstance()->test_to_run_count() !=
      ::testing::UnitTest::GetInstance()->total_test_count()) {
    GTEST_SKIP() << "only some tests run";
  }
  const std::string path = TESSERA_SOURCE_DIR "/tests/cuda/golden_wrapper.json";
  DeviceProps props;
  ASSERT_EQ(OpenDevice(0, props).code, 0);
  std::ifstream file(path);
  const bool anew = std::getenv("TESSERA_RECORD_GOLDEN") != nullptr;
  if (!props.emulated && (!file || anew)) {
    std::ofstream(path) << golden().ToJson(props.name);
    GTEST_SKIP() << "wrote " << path << " on " << props.name << ": to be committed";
  }
  if (!file) GTEST_SKIP() << "no GPU has written " << path << " yet";
  const std::string json{std::istreambuf_iterator<char>(file), {}};
  for (const std::string& difference : golden().DifferencesFrom(json)) ADD_FAILURE() << difference;
}

}  // namespace
}  // namespace tessera::cuda
