// The counters against costs worked out by hand.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cuda/emulation/counting.h"
#include "kernels/cuda/emulation/machine.h"
#include "tests/cuda/counter_kernels.h"

namespace tessera::cuda {
namespace {

using emulation::Counters;
using emulation::machine;
using emulation::WarpAccess;

class CounterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    machine().set_options({.checked = true});
    (void)machine().TakeReport();
    in_ = static_cast<uint32_t*>(machine().memory().Allocate(4096));
    out_ = static_cast<uint32_t*>(machine().memory().Allocate(128));
    std::memset(in_, 0, 4096);
    std::memset(out_, 0, 128);
  }
  void TearDown() override {
    machine().memory().Free(in_);
    machine().memory().Free(out_);
    machine().set_options({});
  }

  uint32_t* in_ = nullptr;
  uint32_t* out_ = nullptr;
};

TEST_F(CounterTest, SectorsAndBytesOfGlobalLoads) {
  struct Row {
    Pattern pattern;
    uint64_t bytes, sectors, instructions;
  };
  const Row rows[] = {
      {Pattern::kCoalesced4, 128, 4, 1}, {Pattern::kCoalesced16, 512, 16, 1},
      {Pattern::kStrided32, 128, 32, 1}, {Pattern::kMisplaced, 128, 5, 1},
      {Pattern::kBroadcast, 4, 1, 1},    {Pattern::kHalfWarp, 64, 2, 1},
      {Pattern::kLoop, 512, 16, 4},
  };
  for (const Row& row : rows) {
    ASSERT_TRUE(RunGlobalPattern(row.pattern, in_, out_).ok());
    const auto kernel = machine().TakeReport().Find("GlobalPatternKernel");
    const Counters& c = kernel.counters;
    EXPECT_EQ(c.load_bytes, row.bytes) << static_cast<int>(row.pattern);
    EXPECT_EQ(c.load_sectors, row.sectors) << static_cast<int>(row.pattern);
    EXPECT_EQ(c.instructions, row.instructions + 1) << static_cast<int>(row.pattern);
    EXPECT_EQ(c.store_bytes, 128u);
    EXPECT_EQ(c.store_sectors, 4u);
    ASSERT_EQ(kernel.sites.size(), 2u);
    EXPECT_STREQ(kernel.sites[0].word, "ldg");
    EXPECT_EQ(kernel.sites[0].counters.load_bytes, row.bytes);
  }
}

TEST_F(CounterTest, PassesOfSharedMemory) {
  struct Row {
    uint32_t stride;
    uint64_t stores, loads, matrices;  // passes of a warp
  };
  // Stride 1 is free of conflicts everywhere. Stride 2 puts two 32-bit lanes, two of eight 16-byte
  // rows in a bank each; stride 4 four.
  for (const Row& row : {Row{1, 1, 4, 4}, Row{2, 2, 8, 8}, Row{4, 4, 16, 16}, Row{3, 1, 4, 4}}) {
    ASSERT_TRUE(RunSharedPattern(row.stride, out_).ok());
    const auto kernel = machine().TakeReport().Find("SharedPatternKernel");
    EXPECT_EQ(kernel.blocks, 2u);
    uint64_t stores = 0, loads = 0, matrices = 0;
    for (const auto& site : kernel.sites) {
      const std::string word = site.word;
      // The filling loop: 64 stores of one pass
      if (word == "sts") stores += site.counters.wavefronts % 128;
      if (word == "lds") loads += site.counters.wavefronts;
      if (word == "ldmatrix") matrices += site.counters.wavefronts;
      if (word == "lds" || word == "ldmatrix") {
        EXPECT_EQ(site.counters.ideal_wavefronts, 2 * 4u);
      }
      if (word == "atomic_add_shared") {
        EXPECT_EQ(site.counters.wavefronts, 2 * 32u);
      }
    }
    EXPECT_EQ(stores, 2 * row.stores) << row.stride;
    EXPECT_EQ(loads, 2 * row.loads) << row.stride;
    EXPECT_EQ(matrices, 2 * row.matrices) << row.stride;
    EXPECT_EQ(kernel.counters.matrix_flops, 2 * 4096u);
    EXPECT_EQ(kernel.counters.barriers, 2u);
    EXPECT_EQ(kernel.counters.atomics, 2 * 64u);
  }
}

TEST_F(CounterTest, EightByteAccessesGoByHalfWarps) {
  WarpAccess access;
  access.mask = ~0u;
  access.bytes = 8;
  access.space = WarpAccess::Space::kShared;
  for (uint32_t l = 0; l < 32; ++l) access.address[l] = l * 8;
  Counters dense;
  Count(access, dense);
  EXPECT_EQ(dense.wavefronts, 2u);
  EXPECT_EQ(dense.ideal_wavefronts, 2u);
  for (uint32_t l = 0; l < 32; ++l) access.address[l] = l * 16;
  Counters strided;
  Count(access, strided);
  EXPECT_EQ(strided.wavefronts, 4u);
}

TEST_F(CounterTest, NothingIsCountedUnasked) {
  machine().set_options({});
  ASSERT_TRUE(RunGlobalPattern(Pattern::kCoalesced4, in_, out_).ok());
  EXPECT_TRUE(machine().TakeReport().kernels.empty());
}

}  // namespace
}  // namespace tessera::cuda
