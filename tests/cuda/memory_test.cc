// Every byte of the device and of pinned memory is accounted for by what it is for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/device_allocator.h"
#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/emulation/runtime_controls.h"

namespace tessera::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class DeviceMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    emulation::ClearFailures();
    before_ = emulation::CountAlive();
    bytes_before_ = emulation::machine().memory().bytes_allocated();
  }
  void TearDown() override {
    emulation::SetDeviceMemory(0);
    emulation::ClearFailures();
    EXPECT_EQ(emulation::CountAlive(), before_);
  }
  size_t Allocated() const {
    return emulation::machine().memory().bytes_allocated() - bytes_before_;
  }

  emulation::Alive before_;
  size_t bytes_before_ = 0;
};

size_t Sum(const std::vector<MemoryAccount>& accounts, bool pinned) {
  size_t sum = 0;
  for (const MemoryAccount& account : accounts) sum += account.pinned == pinned ? account.bytes : 0;
  return sum;
}

TEST_F(DeviceMemoryTest, CountsNowAndAtMost) {
  Storage outlives;
  {
    const DeviceAllocator allocator;
    EXPECT_TRUE(allocator.Accounts().empty());
    outlives = std::move(allocator.Device(MemoryUse::kWeights, 1000, "none").value());
    {
      const Storage more = std::move(allocator.Device(MemoryUse::kWeights, 500, "none").value());
      const Storage pinned = std::move(allocator.Pinned(MemoryUse::kDraws, 64, "none").value());
      EXPECT_EQ(allocator.Of(MemoryUse::kWeights).bytes, 1500u);
      EXPECT_EQ(allocator.Of(MemoryUse::kDraws, true).bytes, 64u);
      EXPECT_EQ(Allocated(), 1500u);
    }
    EXPECT_EQ(allocator.Of(MemoryUse::kWeights).bytes, 1000u);
    EXPECT_EQ(allocator.Of(MemoryUse::kWeights).peak, 1500u);
    EXPECT_EQ(allocator.Of(MemoryUse::kDraws, true).bytes, 0u);
    EXPECT_EQ(allocator.Of(MemoryUse::kDraws).peak, 0u) << "pinned memory is not the device's";
    allocator.Took(MemoryUse::kGraphs, 10);
    allocator.GaveBack(MemoryUse::kGraphs, 10);
    allocator.SetLimit(MemoryUse::kGraphs, 20);
    const std::vector<MemoryAccount> all = allocator.Accounts();
    ASSERT_EQ(all.size(), 3u);  // weights, graphs, pinned draws
    EXPECT_EQ(all[1].use, MemoryUse::kGraphs);
    EXPECT_EQ(all[1].peak, 10u);
    EXPECT_EQ(all[1].limit, 20u);
    EXPECT_TRUE(all[2].pinned);
  }
  outlives.reset();
  EXPECT_EQ(Allocated(), 0u);
}

TEST_F(DeviceMemoryTest, TextNamesEveryUse) {
  constexpr size_t kMib = 1 << 20;
  EXPECT_EQ(MemoryText({}), "0.0 in all");
  const std::vector<MemoryAccount> accounts = {
      {.use = MemoryUse::kWeights, .bytes = 21 * kMib + kMib / 2, .peak = 21 * kMib + kMib / 2},
      {.use = MemoryUse::kStaging, .bytes = 0, .peak = 2 * kMib},
      {.use = MemoryUse::kGraphs, .bytes = kMib, .peak = kMib, .limit = 128 * kMib},
      {.use = MemoryUse::kStaging, .pinned = true, .bytes = 36 * kMib, .peak = 36 * kMib}};
  EXPECT_EQ(MemoryText(accounts),
            "weights 21.5, staging 0.0 (peak 2.0), graphs 1.0 of at most 128.0; 22.5 in all; "
            "pinned: staging 36.0");
}

// What a backend got is what the device has given, from its start to its end.
TEST_F(DeviceMemoryTest, ABackendAccountsForAllOfIt) {
  auto backend = std::move(CudaBackend::Make({.device = "cuda-emulated"}).value());
  EXPECT_EQ(Sum(backend->memory(), false), Allocated());
  ASSERT_TRUE(backend->Reserve({.max_rows = 64, .widest = 512, .max_heads = 4, .vocab = 100}));
  EXPECT_EQ(Sum(backend->memory(), false), Allocated());
  const std::vector<float> values(640, 1.0f);
  const SourceMatrix source{.data = values.data(), .rows = 20, .columns = 32};
  const auto packed = std::move(backend->Pack({&source, 1}, {}).value());
  const auto codes =
      std::move(backend->Pack({&source, 1}, {.format = WeightFormat::kInt8}).value());
  const Tensor pages =
      std::move(backend->AllocateTensor(DType::kBF16, {7, 9}, MemoryUse::kSelfPages).value());
  const Tensor work = std::move(backend->AllocateTensor(DType::kF32, {3}).value());
  backend->Synchronize();
  const auto of = [&](MemoryUse use, bool pinned = false) {
    for (const MemoryAccount& account : backend->memory())
      if (account.use == use && account.pinned == pinned) return account.bytes;
    return size_t{0};
  };
  EXPECT_EQ(of(MemoryUse::kWeights), packed->bytes() + codes->bytes());
  EXPECT_EQ(of(MemoryUse::kSelfPages), 126u);
  EXPECT_EQ(of(MemoryUse::kWorkspace), 12u);
  EXPECT_GT(of(MemoryUse::kScratch), 0u);
  EXPECT_EQ(of(MemoryUse::kDraws), 64 * sizeof(int32_t));
  EXPECT_EQ(of(MemoryUse::kStaging), size_t{32} << 20);        // two lanes of four segments
  EXPECT_EQ(of(MemoryUse::kStaging, true), size_t{36} << 20);  // and the bounce buffer
  EXPECT_EQ(of(MemoryUse::kDraws, true), 2 * 64 * sizeof(SampleOutput));
  EXPECT_EQ(Sum(backend->memory(), false), Allocated());
}

TEST_F(DeviceMemoryTest, TooLittleSaysWhoHasTheRest) {
  auto backend = std::move(CudaBackend::Make({.device = "cuda-emulated"}).value());
  const Storage weights =
      std::move(backend->Allocate(size_t{3} << 20, MemoryUse::kWeights).value());
  const auto refused = backend->Allocate(size_t{1} << 50, MemoryUse::kSelfPages);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().value, std::to_string(size_t{1} << 50));
  EXPECT_THAT(refused.error().Describe(),
              AllOf(HasSubstr("out of device memory"), HasSubstr("free of"),
                    HasSubstr("MiB in use: weights 3.0, staging 32.0, graphs 0.0 of at most"),
                    Not(HasSubstr("\n")), Not(HasSubstr("..."))));
  emulation::FailCall(emulation::Call::kAllocatePinned, 1, emulation::kOutOfMemory, false);
  const auto pinned = backend->Reserve({.max_rows = 8});
  ASSERT_FALSE(pinned);
  EXPECT_THAT(pinned.error().Describe(), AllOf(HasSubstr("no pinned host memory for draws"),
                                               HasSubstr("MiB in use: weights 3.0")));
}

// Pieces are objects of their own at their exact size, and an op's may be used by what is queued
// when the next op begins.
TEST_F(DeviceMemoryTest, AnArenaCutsAndTakesBack) {
  const DeviceAllocator allocator;
  Arena arena;
  ASSERT_TRUE(arena.Reserve(allocator, 1024));
  EXPECT_EQ(arena.bytes(), 1024u);
  void* first = nullptr;
  void* second = nullptr;
  ASSERT_TRUE(arena.Take("Test", 100, &first).ok());
  ASSERT_TRUE(arena.Take("Test", 768, &second).ok());
  EXPECT_EQ(Allocated(), 1024u + 868u);
  EXPECT_TRUE(emulation::machine().memory().IsDevice(first, 100));
  EXPECT_FALSE(emulation::machine().memory().IsDevice(first, 101));
  EXPECT_DEATH((void)arena.Take("Test", 1, &second), "Test: scratch: expected at most 1024 bytes");
  arena.Reset();
  EXPECT_EQ(Allocated(), 1024u) << "nothing queued uses them";
  ASSERT_TRUE(arena.Take("Test", 1024, &first).ok());
  const uint64_t calls = emulation::CallsOf(emulation::Call::kAllocate);
  ASSERT_TRUE(arena.Reserve(allocator, 512));
  ASSERT_TRUE(arena.Reserve(allocator, 1024));
  EXPECT_EQ(emulation::CallsOf(emulation::Call::kAllocate), calls);
  EXPECT_EQ(arena.bytes(), 1024u) << "it never shrinks";
  ASSERT_TRUE(arena.Reserve(allocator, 2048));
  EXPECT_EQ(allocator.Of(MemoryUse::kScratch).bytes, 2048u);
  EXPECT_EQ(Allocated(), 2048u);
}

}  // namespace
}  // namespace tessera::cuda
