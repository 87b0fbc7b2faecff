// Graphs within a number of bytes of the device: what they are charged, who gives way, and what
// runs where there is no room. On the emulated GPU, where a node takes kGraphNodeBytes.
#include "kernels/cuda/graphs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/emulation/runtime_controls.h"

namespace tessera::cuda {
namespace {

using emulation::Call;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A step stages row numbers and gathers: a copy and a kernel.
constexpr size_t kStepBytes = 2 * kGraphNodeBytes;
constexpr int64_t kColumns = 4;

class Graphs : public ::testing::Test {
 protected:
  void SetUp() override {
    emulation::ClearFailures();
    emulation::SetRuntimeSeed(5);
    before_ = emulation::CountAlive();
  }
  void TearDown() override {
    table_ = {};
    out_ = {};
    backend_.reset();
    emulation::SetDeviceMemory(0);
    emulation::ClearFailures();
    EXPECT_EQ(emulation::CountAlive(), before_);
    EXPECT_TRUE(emulation::machine().TakeReport().defects.empty());
  }

  void Start(size_t graph_bytes) {
    backend_ = std::move(
        CudaBackend::Make({.device = "cuda-emulated",
                           .graph_memory = static_cast<int64_t>(graph_bytes),
                           .say = [this](std::string_view line) { said_.emplace_back(line); }})
            .value());
    ASSERT_TRUE(backend_->Reserve({.max_rows = 64, .widest = 64}));
    table_ = std::move(backend_->AllocateTensor(DType::kBF16, {64, kColumns}).value());
    out_ = std::move(backend_->AllocateTensor(DType::kBF16, {64, kColumns}).value());
    std::vector<uint16_t> values;
    for (int row = 0; row < 64; ++row)
      for (int c = 0; c < kColumns; ++c) values.push_back(static_cast<uint16_t>(row * 16 + c));
    backend_->CopyToDevice(table_, values.data());
  }

  // Runs a step of `times` gathers under a key, as the model runner does, and looks at what it
  // wrote. True: as a graph.
  bool Step(int64_t key, int times = 1) {
    ++steps_;
    std::vector<std::vector<int32_t>> rows;
    for (int i = 0; i < times; ++i)
      rows.push_back({static_cast<int32_t>((steps_ * 7 + i) % 64), 3, i});
    const auto queue = [&] {
      for (int i = 0; i < times; ++i)
        backend_->GatherRows(
            {.x = table_, .rows = rows[static_cast<size_t>(i)], .out = out_.view().Rows(3 * i, 3)});
    };
    const uint64_t launched = backend_->graphs_launched();
    backend_->BeginGraph(key);
    queue();
    if (!backend_->EndGraph()) queue();
    backend_->Synchronize();
    std::vector<uint16_t> got(64 * kColumns);
    backend_->CopyToHost(got.data(), out_);
    for (int i = 0; i < times; ++i) {
      for (int row = 0; row < 3; ++row) {
        const int from = rows[static_cast<size_t>(i)][static_cast<size_t>(row)];
        for (int c = 0; c < kColumns; ++c)
          EXPECT_EQ(got[static_cast<size_t>((3 * i + row) * kColumns + c)], from * 16 + c)
              << "key " << key << ", step " << steps_;
      }
    }
    EXPECT_FALSE(backend_->lost());
    return backend_->graphs_launched() > launched;
  }
  MemoryAccount Account() const {
    for (const MemoryAccount& account : backend_->memory())
      if (account.use == MemoryUse::kGraphs) return account;
    return {};
  }

  emulation::Alive before_;
  std::unique_ptr<CudaBackend> backend_;
  Tensor table_, out_;
  std::vector<std::string> said_;
  int steps_ = 0;
};

TEST_F(Graphs, StayWithinTheirBytes) {
  Start(10 * kStepBytes + kStepBytes / 2);
  for (int64_t key = 1; key <= 10; ++key) {
    EXPECT_TRUE(Step(key * 10));
    EXPECT_EQ(Account().bytes, static_cast<size_t>(key) * kStepBytes);
  }
  EXPECT_EQ(Account().limit, 10 * kStepBytes + kStepBytes / 2);
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_EQ(emulation::CountAlive().graphs, 10u);

  // The largest finds no room; it is said once, and it is not captured a second time.
  EXPECT_FALSE(Step(200));
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("CUDA graphs take 0.1 MiB of at most 0.1"),
                                       HasSubstr("op by op"), Not(HasSubstr("\n")))));
  const uint64_t captures = emulation::CallsOf(Call::kBeginCapture);
  EXPECT_FALSE(Step(200));
  EXPECT_FALSE(Step(300));
  EXPECT_EQ(emulation::CallsOf(Call::kBeginCapture), captures);
  EXPECT_EQ(Account().bytes, 10 * kStepBytes);

  // A smaller one takes the place of the largest that is kept, and of no other.
  const uint64_t built = backend_->graphs_built();
  EXPECT_TRUE(Step(5));
  EXPECT_EQ(Account().bytes, 10 * kStepBytes);
  EXPECT_EQ(emulation::CountAlive().graphs, 10u);
  EXPECT_EQ(backend_->graphs_built(), built + 1);
  for (int64_t key = 1; key <= 9; ++key) EXPECT_TRUE(Step(key * 10));
  EXPECT_EQ(backend_->graphs_built(), built + 1) << "those that stayed are not built again";
  EXPECT_FALSE(Step(100));
  EXPECT_TRUE(Step(6));
  EXPECT_FALSE(Step(90));
  EXPECT_EQ(said_.size(), 1u);
  // Room is made before another is built.
  EXPECT_EQ(Account().peak, 10 * kStepBytes);
}

TEST_F(Graphs, FillTheirBytes) {
  Start(2 * kStepBytes);
  EXPECT_TRUE(Step(1));
  EXPECT_TRUE(Step(2));
  EXPECT_TRUE(Step(1));
  EXPECT_TRUE(Step(2));
  EXPECT_EQ(backend_->graphs_built(), 2u);
}

// A step of another shape is built anew and charged for what it takes now.
TEST_F(Graphs, AreChargedAnewWhereTheyAreRebuilt) {
  Start(4 * kStepBytes);
  EXPECT_TRUE(Step(1));
  EXPECT_TRUE(Step(2));
  EXPECT_TRUE(Step(1, 3));
  EXPECT_EQ(Account().bytes, 4 * kStepBytes);
  EXPECT_TRUE(Step(1, 2));
  EXPECT_EQ(Account().bytes, 3 * kStepBytes);
  EXPECT_TRUE(Step(1, 4)) << "the larger key gives way";
  EXPECT_EQ(Account().bytes, 4 * kStepBytes);
  EXPECT_EQ(emulation::CountAlive().graphs, 1u);
  EXPECT_FALSE(Step(1, 5)) << "alone too large";
  EXPECT_EQ(Account().bytes, 0u);
  EXPECT_EQ(emulation::CountAlive().graphs, 0u);
}

// They are of the device's memory, so there may be none for one.
TEST_F(Graphs, RunOpByOpWhereTheDeviceHasNoMemory) {
  emulation::SetDeviceMemory(size_t{64} << 20);
  Start(size_t{1} << 20);
  const size_t free = backend_->device_memory().free;
  EXPECT_TRUE(Step(1));
  EXPECT_LE(backend_->device_memory().free, free - kStepBytes);
  emulation::FailCall(Call::kInstantiate, 1, emulation::kOutOfMemory, false);
  EXPECT_FALSE(Step(7));
  EXPECT_THAT(said_, ElementsAre(HasSubstr("the device has no memory for another")));
  EXPECT_EQ(Account().bytes, kStepBytes);
  const uint64_t captures = emulation::CallsOf(Call::kBeginCapture);
  EXPECT_FALSE(Step(7));
  EXPECT_FALSE(Step(8));
  EXPECT_EQ(emulation::CallsOf(Call::kBeginCapture), captures);
  EXPECT_TRUE(Step(1));
  EXPECT_TRUE(Step(2));
  // In earnest: another allocation leaves less than a graph.
  const Storage rest = std::move(
      backend_->Allocate(backend_->device_memory().free - kStepBytes / 2, MemoryUse::kWorkspace)
          .value());
  EXPECT_FALSE(Step(3));
  EXPECT_TRUE(Step(2));
}

TEST_F(Graphs, AnyOtherFailureLosesTheDevice) {
  Start(size_t{1} << 20);
  backend_->BeginGraph(1);
  backend_->GatherRows(
      {.x = table_, .rows = std::vector<int32_t>{1}, .out = out_.view().Rows(0, 1)});
  emulation::FailCall(Call::kInstantiate, 1, emulation::kIllegalAddress, false);
  EXPECT_TRUE(backend_->EndGraph()) << "nothing is to be queued again";
  EXPECT_TRUE(backend_->lost());
  EXPECT_THAT(said_, IsEmpty());
}

// What was staged for a step that was refused has not been copied: the same contents are copied
// again, whatever order streams run in.
TEST_F(Graphs, ARefusedStepStagesAgain) {
  Start(1);
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    emulation::SetRuntimeSeed(seed);
    EXPECT_FALSE(Step(-static_cast<int64_t>(seed), 3));
  }
  EXPECT_EQ(said_.size(), 1u);
  EXPECT_EQ(backend_->graphs_launched(), 0u);
}

TEST_F(Graphs, SayWhatTheyMayTake) {
  Start(size_t{3} << 20);
  EXPECT_EQ(backend_->graphs(), "decode steps, one for each batch size, at most 3.0 MiB");
  Start(0);  // a 64th of the device
  EXPECT_EQ(Account().limit, backend_->device_memory().total / 64);
}

}  // namespace
}  // namespace tessera::cuda
