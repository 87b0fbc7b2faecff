// Around the ops: half types, the thread pool, what a machine offers, refusals of the factory and
// checks at the launcher.
#include <sched.h>

#include <atomic>
#include <set>
#include <thread>

#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/threads.h"
#include "kernels/factory.h"
#include "tests/ops/harness.h"

namespace tessera::ops_test {
namespace {

TEST(HalfTypes, EveryBitPatternSurvives) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float f16 = F16ToFloat(half), bf16 = BF16ToFloat(half);
    if (std::isnan(f16)) {
      EXPECT_TRUE(std::isnan(F16ToFloat(FloatToF16(f16)))) << bits;
    } else {
      EXPECT_EQ(FloatToF16(f16), half);
    }
    if (std::isnan(bf16)) {
      EXPECT_TRUE(std::isnan(BF16ToFloat(FloatToBF16(bf16)))) << bits;
    } else {
      EXPECT_EQ(FloatToBF16(bf16), half);
    }
  }
}

TEST(HalfTypes, RoundToNearestEven) {
  // Between two neighbours: the exact middle goes to the even one, a hair beside it to the nearer
  // one.
  for (uint32_t bits : {0x0000u, 0x0001u, 0x0002u, 0x03ffu, 0x0400u, 0x3c00u, 0x3c01u, 0x7bfeu}) {
    const float low = F16ToFloat(static_cast<uint16_t>(bits)),
                high = F16ToFloat(static_cast<uint16_t>(bits + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(FloatToF16(middle), bits + (bits & 1)) << bits;
    EXPECT_EQ(FloatToF16(std::nextafter(middle, 1e9f)), bits + 1) << bits;
    EXPECT_EQ(FloatToF16(std::nextafter(middle, -1e9f)), bits) << bits;
    EXPECT_EQ(FloatToF16(-middle), 0x8000u + bits + (bits & 1)) << bits;
  }
  EXPECT_EQ(FloatToF16(65519.996f), 0x7bffu);
  EXPECT_EQ(FloatToF16(65520.0f), 0x7c00u);
  EXPECT_EQ(FloatToBF16(1.00390625f), 0x3f80u);  // 1 + 2^-8: the middle, to even
  EXPECT_EQ(FloatToBF16(1.01171875f), 0x3f82u);  // 1 + 3 * 2^-8
}

TEST(ThreadPool, EveryItemOnceAndInTime) {
  for (int threads : {1, 2, 3, 16}) {
    for (bool spin : {false, true}) {
      ThreadPool pool(threads, spin);
      EXPECT_EQ(pool.threads(), threads);
      for (int64_t items : {0, 1, 2, 5, 100, 1000}) {
        std::vector<int> hits(static_cast<size_t>(items), 0);  // items are apart, so plain ints do
        std::atomic<bool> in_range{true};
        for (int round = 0; round < 20; ++round)
          pool.Run(items, [&](int64_t item, int worker) {
            ++hits[static_cast<size_t>(item)];
            if (worker < 0 || worker >= threads) in_range = false;
          });
        for (int hit : hits) ASSERT_EQ(hit, 20);
        EXPECT_TRUE(in_range);
      }
    }
  }
}

// Workers stand on processors of their own, where there are enough; what they compute is the same.
TEST(ThreadPool, PinnedWorkersStayWhereTheyAre) {
  ThreadPool pool(2, false);
  const int tied = pool.Pin();
  EXPECT_EQ(tied, UsableCpuCount() >= 2 ? 1 : 0);
  std::vector<std::set<int>> seen(2);
  for (int round = 0; round < 50; ++round) {
    pool.Run(4, [&](int64_t, int worker) {
      seen[static_cast<size_t>(worker)].insert(sched_getcpu());
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    });
  }
  EXPECT_FALSE(seen[1].empty());
  EXPECT_LE(seen[1].size(), tied == 1 ? 1u : 1024u);
  ThreadPool crowd(UsableCpuCount() + 64, false);
  EXPECT_EQ(crowd.Pin(), 0);
}

TEST(ThreadPool, SleepersWake) {
  ThreadPool pool(3, false);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    std::atomic<int> sum{0};
    pool.Run(8, [&](int64_t item, int) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      sum += static_cast<int>(item);
    });
    EXPECT_EQ(sum, 28);
  }
}

TEST(CpuInfo, Quotas) {
  EXPECT_EQ(ParseCpuMax("150000 100000\n"), 1.5);
  EXPECT_EQ(ParseCpuMax("max 100000\n"), -1);
  EXPECT_EQ(ParseCpuMax(""), -1);
  EXPECT_EQ(ParseCpuMax("100000 0"), -1);
  EXPECT_EQ(ParseCpuMax("x y"), -1);
  EXPECT_GE(UsableCpuCount(), 1);
}

TEST(Factory, MakesEveryTierItNames) {
  const std::vector<std::string> tiers = AvailableCpuTiers();
  ASSERT_FALSE(tiers.empty());
  EXPECT_EQ(tiers.front(), "reference");
  for (const std::string& tier : tiers) {
    const auto backend = MakeBackend({.device = "cpu", .cpu_isa = tier, .threads = 1});
    ASSERT_TRUE(backend.has_value());
    EXPECT_EQ((*backend)->tier(), tier);
    EXPECT_EQ((*backend)->threads(), 1);
  }
  const auto best = MakeBackend({});
  ASSERT_TRUE(best.has_value());
  EXPECT_EQ((*best)->tier(), tiers.back());
  EXPECT_EQ((*best)->threads(), UsableCpuCount());
  EXPECT_EQ((*best)->activation_dtype(), DType::kF32);
}

TEST(Factory, RefusesByName) {
  const auto error = [](BackendOptions options) {
    const auto made = MakeBackend(options);
    EXPECT_FALSE(made.has_value());
    return made.has_value() ? Error{} : made.error();
  };
  for (const char* device : {"tpu", ""}) {
    const Error refused = error({.device = device});
    EXPECT_EQ(refused.code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(refused.field, "device");
    EXPECT_EQ(refused.value, device);
  }
  EXPECT_EQ(error({.cpu_isa = "sse9"}).field, "cpu_isa");
  EXPECT_EQ(error({.threads = -1}).field, "threads");
  EXPECT_EQ(error({.threads = 100000}).value, "100000");
  EXPECT_EQ(error({.operand_dtype = DType::kF16}).field, "activations");
}

TEST(Allocation, ZeroedAlignedAndRefused) {
  const auto backend = MakeBackend({.threads = 1}).value();
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{5} << 20}) {
    const Storage storage = std::move(backend->Allocate(bytes, MemoryUse::kWeights).value());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(storage.get()) % 64, 0u);
    for (size_t i = 0; i < bytes; ++i) ASSERT_EQ(static_cast<char*>(storage.get())[i], 0);
  }
  const auto refused = backend->Allocate(size_t{1} << 60, MemoryUse::kWeights);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_FALSE(
      backend->AllocateTensor(DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}).has_value());
}

TEST(LauncherDeathTest, NamesOpArgumentExpectedAndGot) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto backend = MakeBackend({.cpu_isa = "reference", .threads = 1}).value();
  const Floats values(64, 1.0f);
  const auto packed = PackFloats(*backend, values, 8, 8);
  const GuardedRows x(*backend, 2, 8, 0, Floats(16, 1.0f)), wrong(*backend, 2, 7),
      out(*backend, 2, 8);
  EXPECT_DEATH(backend->MatMul({.x = wrong.view(), .w = packed.get(), .out = out.view()}),
               "MatMul: x: expected K = 8, got \\[2, 7\\] fp32");
  EXPECT_DEATH(backend->MatMul({.x = x.view(), .w = nullptr, .out = out.view()}),
               "MatMul: w: expected a pointer, got null");
  EXPECT_DEATH(backend->RmsNorm({.x = x.view(), .weight = values.data(), .out = wrong.view()}),
               "RmsNorm: out: expected C = 8");
  const std::vector<int32_t> ids = {8, 0};
  EXPECT_DEATH(backend->Embedding({.ids = ids, .table = packed.get(), .out = out.view()}),
               "Embedding: ids\\[0\\]: expected 0..7, got 8");
  // More than the scratch that every backend starts with, and no Reserve().
  const GuardedRows logits(*backend, 1, 300000);
  const std::vector<SampleRow> rows(1);
  std::vector<SampleResult> results(1);
  EXPECT_DEATH(backend->Sample({.logits = logits.view(), .rows = rows, .results = results}),
               "Sample: scratch: expected Reserve");
}

}  // namespace
}  // namespace tessera::ops_test
