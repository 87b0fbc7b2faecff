// A device that serves allocates nothing and frees nothing: cudaMalloc and cudaFree wait for what
// runs, and what is allocated late can be missing.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/emulation/runtime_controls.h"
#include "server/engine/clock.h"
#include "server/engine/engine.h"
#include "tests/cuda/served_model.h"
#include "tests/support/answer.h"
#include "tests/support/fake_runner.h"

namespace tessera::testing {
namespace {

using cuda::emulation::Call;

struct Calls {
  uint64_t allocations = cuda::emulation::CallsOf(Call::kAllocate);
  uint64_t pinned = cuda::emulation::CallsOf(Call::kAllocatePinned);
  uint64_t frees = cuda::emulation::CountFrees();
  uint64_t streams = cuda::emulation::CallsOf(Call::kCreateStream);
  uint64_t events = cuda::emulation::CallsOf(Call::kCreateEvent);
  bool operator==(const Calls&) const = default;
};
void PrintTo(const Calls& calls, std::ostream* out) {
  *out << calls.allocations << " allocations, " << calls.pinned << " of pinned memory, "
       << calls.frees << " frees, " << calls.streams << " streams, " << calls.events << " events";
}

class SteadyState : public ::testing::Test {
 protected:
  void SetUp() override {
    cuda::emulation::ClearFailures();
    cuda::emulation::SetRuntimeSeed(7);
  }
  void Start(const BackendOptions& options) {
    engine_.reset();
    engine_ = std::make_unique<Engine>(EngineOptions{}, std::move(LoadServed(options).value()),
                                       FakeDecoders(), clock_);
  }
  // The ids of each answer to requests that run together.
  std::vector<std::vector<int32_t>> Answers(const std::vector<ServedWant>& wants, uint64_t seed) {
    std::vector<Reader> readers(wants.size());
    for (size_t i = 0; i < wants.size(); ++i)
      EXPECT_TRUE(
          engine_->Submit(ServedRequest(engine_->info(), seed + i, wants[i]), readers[i].stream()));
    std::vector<std::vector<int32_t>> answers;
    for (size_t i = 0; i < wants.size(); ++i) {
      const Answer& answer = readers[i].Wait();
      EXPECT_FALSE(answer.error());
      const auto found = answer.choices.find(0);
      answers.push_back(found == answer.choices.end() ? std::vector<int32_t>{} : found->second.ids);
      EXPECT_EQ(std::ssize(answers.back()), wants[i].tokens);
    }
    return answers;
  }

  const SystemClock clock_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(SteadyState, ServingAllocatesNothing) {
  Start({.device = "cuda-emulated"});
  const Calls loaded;
  ASSERT_GT(loaded.allocations, 20u);
  // From the first request on: prompts and pictures, alone and together, and the same ones again.
  for (int round = 0; round < 3; ++round) {
    (void)Answers({{.picture = true}, {.picture = false}, {.picture = true}}, 1);
    EXPECT_EQ(Calls(), loaded) << "pictures, round " << round;
  }
  for (uint64_t seed = 10; seed < 16; ++seed) (void)Answers({{.picture = true}}, seed);
  EXPECT_EQ(Calls(), loaded) << "new pictures, which push out old ones";
  const uint64_t launches = cuda::emulation::CallsOf(Call::kLaunchGraph);
  (void)Answers({{.tokens = 120}, {.picture = true, .tokens = 110}}, 30);
  EXPECT_GE(cuda::emulation::CallsOf(Call::kLaunchGraph) - launches, 100u);
  EXPECT_EQ(Calls(), loaded) << "100 decode steps";
  engine_.reset();
  EXPECT_GE(Calls().frees, loaded.allocations + loaded.pinned) << "all of it is freed in the end";
}

// No room for a graph of any step, or for a few: the same answers, and one line that says so.
// Batch-invariant, since which requests meet in a step is a matter of time.
TEST_F(SteadyState, AnswersDoNotDependOnGraphs) {
  const std::vector<ServedWant> wants = {{.tokens = 9},
                                         {.picture = true, .tokens = 6},
                                         {.tokens = 4},
                                         {.picture = true, .tokens = 12}};
  Start({.device = "cuda-emulated", .batch_invariant = true});
  const auto with = Answers(wants, 50);
  for (const int64_t bytes : {int64_t{1}, int64_t{200} << 10}) {
    std::vector<std::string> said;
    Start({.device = "cuda-emulated", .graph_memory = bytes, .say = [&said](std::string_view line) {
             said.emplace_back(line);
           }});
    EXPECT_EQ(Answers(wants, 50), with) << bytes;
    engine_.reset();
    EXPECT_LE(said.size(), 1u) << bytes;
    if (bytes == 1) {
      ASSERT_EQ(said.size(), 1u);
      EXPECT_EQ(said[0].find("CUDA graphs take 0.0 MiB of at most 0.0, and there is no room"), 0u)
          << said[0];
    }
  }
}

}  // namespace
}  // namespace tessera::testing
