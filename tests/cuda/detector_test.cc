// Every kind of defect is found in the kernel it was planted in, with its line, under every
// schedule; and the same kernels without it are clean.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/launch.cuh"
#include "tests/cuda/detector_kernels.h"

namespace tessera::cuda {
namespace {

using emulation::DefectKind;
using emulation::machine;

struct Expected {
  Plant plant;
  const char* name;
  DefectKind kind;
  bool needs_checks;  // only Options::checked finds it
};
#define TESSERA_EXPECTED(name, kind, checks) \
  { Plant::name, #name, DefectKind::kind, checks }
constexpr Expected kExpected[] = {
    TESSERA_EXPECTED(kMissingBarrier, kRace, true),
    TESSERA_EXPECTED(kMissingWarpSync, kRace, true),
    TESSERA_EXPECTED(kMissingBarrierBefore, kRace, true),
    TESSERA_EXPECTED(kNamedBarrierTooSmall, kRace, true),
    TESSERA_EXPECTED(kMissingWait, kUnwaitedCopy, true),
    TESSERA_EXPECTED(kWaitTooEarly, kUnwaitedCopy, true),
    TESSERA_EXPECTED(kWaitWithoutBarrier, kRace, true),
    TESSERA_EXPECTED(kCopyLeftBehind, kUnwaitedCopy, false),
    TESSERA_EXPECTED(kCopyOverReaders, kRace, true),
    TESSERA_EXPECTED(kUninitialised, kUninitialised, true),
    TESSERA_EXPECTED(kDivergentBarrier, kDivergence, false),
    TESSERA_EXPECTED(kEarlyReturn, kDivergence, false),
    TESSERA_EXPECTED(kDivergentShuffle, kDivergence, false),
    TESSERA_EXPECTED(kSharedBounds, kBounds, false),
    TESSERA_EXPECTED(kArrayBounds, kBounds, false),
    TESSERA_EXPECTED(kGlobalReadBounds, kBounds, false),
    TESSERA_EXPECTED(kGlobalWriteBounds, kBounds, false),
    TESSERA_EXPECTED(kMisalignedGlobal, kMisaligned, false),
    TESSERA_EXPECTED(kMisalignedShared, kMisaligned, false),
    TESSERA_EXPECTED(kGlobalRaceBlocks, kRace, true),
    TESSERA_EXPECTED(kGlobalReadOfOther, kRace, true),
    TESSERA_EXPECTED(kMissingRelease, kRace, true),
    TESSERA_EXPECTED(kMissingAcquire, kRace, true),
    TESSERA_EXPECTED(kMissingGlobalBarrier, kRace, true),
    TESSERA_EXPECTED(kBarrierDeadlock, kDeadlock, false),
};
#undef TESSERA_EXPECTED

// Lines marked "shows: ... name ...".
std::vector<int> LinesOf(const std::string& name) {
  std::ifstream source(TESSERA_SOURCE_DIR "/tests/cuda/detector_kernels.cu");
  std::vector<int> lines;
  std::string line;
  for (int number = 1; std::getline(source, line); ++number) {
    const size_t mark = line.find("// shows:");
    if (mark == std::string::npos) continue;
    if ((line.substr(mark) + " ").find(fmt::format(" {} ", name)) != std::string::npos)
      lines.push_back(number);
  }
  return lines;
}

struct Buffers {
  explicit Buffers(emulation::Memory& memory) : memory(memory) {
    in = static_cast<uint32_t*>(memory.Allocate(1024));
    out = static_cast<uint32_t*>(memory.Allocate(1024));
    counter = static_cast<uint32_t*>(memory.Allocate(4));
    scratch = static_cast<uint32_t*>(memory.Allocate(16));
    std::iota(in, in + 256, 1u);
    *counter = 0;
  }
  ~Buffers() {
    for (void* p : {in, out, counter, scratch}) EXPECT_TRUE(memory.Free(p));
  }
  PlantParams params() const { return {in, out, counter, scratch, 0}; }

  emulation::Memory& memory;
  uint32_t* in;
  uint32_t* out;
  uint32_t* counter;
  uint32_t* scratch;
};

class DetectorTest : public ::testing::TestWithParam<Expected> {
 protected:
  void TearDown() override { machine().set_options({}); }
};

TEST_P(DetectorTest, FindsWhatWasPlantedAndNothingElse) {
  const Expected& expected = GetParam();
  const std::vector<int> lines = LinesOf(expected.name);
  ASSERT_FALSE(lines.empty());
  for (const bool checked : {true, false}) {
    for (uint64_t seed = 0; seed < 9; ++seed) {
      machine().set_options({.checked = checked, .seed = seed, .workers = 2});
      (void)machine().TakeReport();
      {
        const Buffers buffers(machine().memory());
        const LaunchStatus status = RunPlant(expected.plant, false, buffers.params());
        ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status.message;
        ASSERT_TRUE(machine().TakeReport().defects.empty());
      }
      if (!checked && expected.needs_checks) continue;
      const Buffers buffers(machine().memory());
      const LaunchStatus status = RunPlant(expected.plant, true, buffers.params());
      const emulation::Report report = machine().TakeReport();
      ASSERT_EQ(status.code, emulation::kLaunchFailure) << "seed " << seed;
      ASSERT_EQ(report.defects.size(), 1u);
      const emulation::Defect& defect = report.defects[0];
      EXPECT_EQ(status.message, defect.Describe());
      // In a pipeline without a wait or a barrier, the reader may also come before the copy ends,
      // or before it begins.
      const bool pipeline = defect.kernel.find("Pipeline") != std::string::npos;
      EXPECT_TRUE(defect.kind == expected.kind ||
                  (pipeline && (defect.kind == DefectKind::kUnwaitedCopy ||
                                defect.kind == DefectKind::kUninitialised)))
          << Name(expected.kind) << ": " << defect.Describe();
      // Which of two parties comes second depends on the schedule; the report names both.
      const bool named = std::ranges::any_of(lines, [&](int line) {
        return defect.site.line == line ||
               defect.what.find(fmt::format(":{}", line)) != std::string::npos;
      });
      EXPECT_TRUE(named) << "line " << lines[0] << ": " << defect.Describe();
      EXPECT_THAT(defect.kernel, ::testing::HasSubstr("Kernel"));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(, DetectorTest, ::testing::ValuesIn(kExpected),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Detectors, EveryPlantHasItsTest) { EXPECT_EQ(std::size(kExpected), size_t{kPlants} - 1); }

// Blocks on two workers publish in the order in which their atomics change the value, however the
// workers are interrupted.
TEST(Detectors, TheLastBlockHasSeenAllOthers) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    machine().set_options({.checked = true, .seed = seed, .workers = 2});
    const Buffers buffers(machine().memory());
    const LaunchStatus status = RunPlant(Plant::kMissingRelease, false, buffers.params());
    ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status.message;
  }
  machine().set_options({});
}

// After a defect the machine is as good as new.
TEST(Detectors, TheNextLaunchIsClean) {
  const Buffers buffers(machine().memory());
  EXPECT_FALSE(RunPlant(Plant::kSharedBounds, true, buffers.params()).ok());
  EXPECT_TRUE(RunPlant(Plant::kMissingBarrier, false, buffers.params()).ok());
  for (uint32_t i = 0; i < 128; ++i) EXPECT_EQ(buffers.out[i], 128 - i);
  (void)machine().TakeReport();
}

// What nobody waited for is seen without checks too: as a value, not as a report.
TEST(Detectors, AnUnwaitedCopyIsPoison) {
  const Buffers buffers(machine().memory());
  ASSERT_TRUE(RunPlant(Plant::kWaitTooEarly, false, buffers.params()).ok());
  const std::vector<uint32_t> right(buffers.out, buffers.out + 256);
  std::fill(buffers.out, buffers.out + 256, 0u);
  (void)RunPlant(Plant::kWaitTooEarly, true, buffers.params());
  for (uint32_t i = 0; i < 256; ++i) EXPECT_NE(buffers.out[i], right[i]) << i;
  (void)machine().TakeReport();
}

}  // namespace

// Every thread counts in its own 2 bytes; `plant` makes it look at its neighbour's as well.
TESSERA_KERNEL void HalfWordsKernel(PlantParams p) {
  auto* const halves = reinterpret_cast<uint16_t*>(p.out);
  const uint32_t me = thread_x();
  for (int i = 0; i < 3; ++i) stg(halves + me, static_cast<uint16_t>(ldg(halves + me) + me));
  if (p.plant != 0) stg(p.out + 128 + me, uint32_t{ldg(halves + (me ^ 1u))});
}

namespace {

TEST(Detectors, HalvesOfAWordAreTheirThreadsOwn) {
  for (uint64_t seed = 0; seed < 9; ++seed) {
    machine().set_options({.checked = true, .seed = seed, .workers = 2});
    const Buffers buffers(machine().memory());
    std::fill(buffers.out, buffers.out + 256, 0u);
    PlantParams params = buffers.params();
    LaunchStatus status = launch(&HalfWordsKernel, Grid{1}, 128, 0, nullptr, params);
    ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status.message;
    const auto* halves = reinterpret_cast<const uint16_t*>(buffers.out);
    for (uint32_t i = 0; i < 128; ++i) EXPECT_EQ(halves[i], 3 * i);
    params.plant = 1;
    status = launch(&HalfWordsKernel, Grid{1}, 128, 0, nullptr, params);
    EXPECT_THAT(status.message, ::testing::StartsWith("race")) << "seed " << seed;
    (void)machine().TakeReport();
  }
  machine().set_options({});
}

}  // namespace
}  // namespace tessera::cuda
