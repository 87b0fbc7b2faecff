// What the attention kernels move and multiply, against the least that the problem needs. Shapes
// are those of one K/V head of Llama-3.2-11B-Vision (heads of a layer do the same work each) and of
// Llama-3.2-1B; the limits are the project's.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda/attention_support.h"

namespace tessera::cuda_test {
namespace {

constexpr HeadShape k11B{.heads = 4, .kv_heads = 1, .head_dim = 128};
constexpr HeadShape k1B{.heads = 4, .kv_heads = 1, .head_dim = 64};

struct Least {
  double bytes = 0;
  double flops = 0;
};

class AttentionCounters : public testing::Test {
 protected:
  // `run` under the counters; bytes and FLOPs over the least, sectors and bank conflicts.
  template <typename Run>
  void Measure(const std::string& kernel, const Least& least, double bytes_limit,
               double flops_limit, Run&& run) {
    ForSchedules(1, [&](uint64_t) {
      ForgetCounters();
      run();
    });
    const Moved moved = TakeCounters(kernel);
    ASSERT_EQ(moved.counted, Counts());
    if (!moved.counted) GTEST_SKIP() << "counters are the emulator's";
    const double bytes = static_cast<double>(moved.load_moved + moved.store_moved) / least.bytes;
    const double flops = static_cast<double>(moved.matrix_flops) / least.flops;
    const double loads =
        static_cast<double>(moved.load_bytes) / static_cast<double>(moved.load_moved);
    const double stores =
        static_cast<double>(moved.store_bytes) / static_cast<double>(moved.store_moved);
    const double wavefronts =
        static_cast<double>(moved.wavefronts) / static_cast<double>(moved.ideal_wavefronts);
    fmt::print(
        "{}: bytes {:.3f} of the least, FLOPs {:.3f}, sectors {:.1f} % / {:.1f} %, wavefronts "
        "{:.3f}\n",
        kernel, bytes, flops, 100 * loads, 100 * stores, wavefronts);
    EXPECT_GE(bytes, 1.0) << "the least is wrong";
    EXPECT_LE(bytes, bytes_limit);
    EXPECT_GE(flops, 1.0) << "the least is wrong";
    EXPECT_LE(flops, flops_limit);
    EXPECT_GE(loads, 0.95);
    EXPECT_GE(stores, 0.95);
    EXPECT_LE(wavefronts, 1.05);
  }
};

// Q and O once, K and V once per 128 query vectors and K/V head.
Least LeastSelf(const HeadShape& shape, int cached, int rows, int tile) {
  Least least;
  const int vectors = rows * shape.group();
  for (int begin = 0; begin < vectors; begin += tile) {
    const int end = std::min(begin + tile, vectors);
    const int keys = cached + (end - 1) / shape.group() + 1;
    least.bytes += 2.0 * shape.head_dim * (2.0 * (end - begin) + 2.0 * keys);
  }
  for (int vector = 0; vector < vectors; ++vector)
    least.flops += 4.0 * shape.head_dim * (cached + vector / shape.group() + 1);
  return least;
}

Least LeastDense(const HeadShape& shape, double rows, double keys, double tile) {
  const double vectors = rows * shape.group();
  return {.bytes = 2.0 * shape.head_dim * (2 * vectors + 2 * keys * std::ceil(vectors / tile)),
          .flops = 4.0 * shape.head_dim * vectors * keys};
}

TEST_F(AttentionCounters, SelfPrefill) {
  for (const HeadShape& shape : {k11B, k1B})
    Measure("SelfPrefillKernel", LeastSelf(shape, 0, 512, 128), 1.05, 1.30,
            [&] { RunSelf({.shape = shape, .sequences = {{.rows = 512}}}, "512 rows"); });
  Measure("SelfPrefillKernel", LeastSelf(k11B, 0, 1024, 128), 1.05, 1.15,
          [&] { RunSelf({.shape = k11B, .sequences = {{.rows = 1024}}}, "1024 rows"); });
}

TEST_F(AttentionCounters, SelfDecode) {
  for (const HeadShape& shape : {k11B, k1B})
    Measure("SelfDecodeKernel", LeastSelf(shape, 4095, 1, 128), 1.02, 4.5, [&] {
      RunSelf({.shape = shape, .sequences = {{.cached = 4095, .rows = 1}}}, "4096 keys");
    });
}

// A picture of four tiles of 1,601 keys.
TEST_F(AttentionCounters, CrossPrefill) {
  const std::vector<std::vector<int>> rows(32, {0, 1, 2, 3});
  Measure("CrossPrefillKernel", LeastDense(k11B, 32, 4 * 1601, 128), 1.05, 1.15,
          [&] { RunCross({.shape = k11B, .tile_keys = 1601, .rows = rows}, "one picture"); });
}

TEST_F(AttentionCounters, CrossDecodeReadsASharedPictureOnce) {
  for (const int sequences : {1, 8}) {
    const std::vector<std::vector<int>> rows(static_cast<size_t>(sequences), {0, 1, 2, 3});
    // The partial results of 8 sequences' 32 vectors are most of what is above 1.
    Measure("CrossDecodeKernel", LeastDense(k11B, sequences, 4 * 1601, 128),
            sequences == 1 ? 1.02 : 1.10, sequences == 1 ? 4.5 : 1.15,
            [&] { RunCross({.shape = k11B, .tile_keys = 1601, .rows = rows}, "one picture"); });
  }
}

// Head dims run in the next instance: they multiply as much as it does, and one more multiplies
// more.
TEST_F(AttentionCounters, EveryHeadDimHasItsInstance) {
  if (!Counts()) GTEST_SKIP() << "counters are the emulator's";
  const auto flops = [&](int head_dim, int rows) {
    uint64_t counted = 0;
    ForSchedules(1, [&](uint64_t) {
      ForgetCounters();
      RunSelf({.shape = {.head_dim = head_dim}, .sequences = {{.rows = rows}}}, "instance");
      counted = TakeCounters(rows > 32 ? "SelfPrefillKernel" : "SelfDecodeKernel").matrix_flops;
    });
    return counted;
  };
  for (const int rows : {1, 40}) {
    for (const int head_dim : {32, 64, 80, 96, 128, 160, 192, 256}) {
      EXPECT_EQ(flops(head_dim - 7, rows), flops(head_dim, rows)) << head_dim;
      if (head_dim < 256) {
        EXPECT_NE(flops(head_dim + 1, rows), flops(head_dim, rows)) << head_dim;
      }
      EXPECT_EQ(cuda::InstanceHeadDim(head_dim), head_dim);
      EXPECT_EQ(cuda::InstanceHeadDim(head_dim - 7), head_dim);
    }
  }
}

// Keys are multiplied in steps of 16, and no step without keys is.
TEST_F(AttentionCounters, StepsWithoutKeysAreLeftOut) {
  if (!Counts()) GTEST_SKIP() << "counters are the emulator's";
  const auto flops = [&](int keys) {
    uint64_t counted = 0;
    ForSchedules(1, [&](uint64_t) {
      ForgetCounters();
      RunSelf({.shape = {.head_dim = 64}, .sequences = {{.cached = keys - 1, .rows = 1}}}, "steps");
      counted = TakeCounters("SelfDecodeKernel").matrix_flops;
    });
    return counted;
  };
  for (int last = 16; last <= 144; last += 16) {
    EXPECT_EQ(flops(last - 15), flops(last)) << last;
    EXPECT_LT(flops(last), flops(last + 1)) << last;
  }
}

// Rows of warps take 32 vectors each, and one without vectors does nothing.
TEST_F(AttentionCounters, RowsOfWarpsWithoutVectorsDoNothing) {
  if (!Counts()) GTEST_SKIP() << "counters are the emulator's";
  const auto flops = [&](int rows) {
    uint64_t counted = 0;
    ForSchedules(1, [&](uint64_t) {
      ForgetCounters();
      RunDense({.shape = {.head_dim = 64}, .keys = 128, .rows = rows}, "rows of warps");
      counted = TakeCounters("VisionKernel").matrix_flops;
    });
    return counted;
  };
  for (int last = 32; last < 128; last += 32) {
    EXPECT_EQ(flops(last - 31), flops(last)) << last;
    EXPECT_LT(flops(last), flops(last + 1)) << last;
  }
}

// A quarter of the 6,432 rows of the 11B's vision tower: tiles and key blocks end as raggedly.
TEST_F(AttentionCounters, Vision) {
  const HeadShape shape{.heads = 1, .kv_heads = 1, .head_dim = 80};
  Measure("VisionKernel", LeastDense(shape, 1608, 1608, 128), 1.05, 1.15,
          [&] { RunDense({.shape = shape, .keys = 1608, .rows = 1608}, "vision"); });
}

}  // namespace
}  // namespace tessera::cuda_test
