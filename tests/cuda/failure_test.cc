// A device that fails: every call of the runtime in turn, while a model loads and while it serves.
// No crash, no hang, nothing left behind, and every request gets its one terminal event.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "kernels/cuda/emulation/runtime_controls.h"
#include "server/engine/clock.h"
#include "server/engine/engine.h"
#include "tests/cuda/served_model.h"
#include "tests/support/answer.h"
#include "tests/support/fake_runner.h"

namespace tessera::testing {
namespace {

using cuda::emulation::Call;
constexpr auto kCalls = static_cast<size_t>(Call::kCount);
using Counts = std::array<uint64_t, kCalls>;

Counts CountCalls() {
  Counts counts{};
  for (size_t call = 0; call < kCalls; ++call)
    counts[call] = cuda::emulation::CallsOf(static_cast<Call>(call));
  return counts;
}

// What became of a run.
struct Outcome {
  bool loaded = false;
  bool healthy = false;
  std::vector<std::optional<ErrorCode>> ends;  // of the requests, as far as they were accepted
};

// Loads and serves three requests; `arm` is called before loading or before serving.
Outcome LoadAndServe(const std::function<void()>& before_load,
                     const std::function<void()>& before_serving) {
  Outcome outcome;
  const SystemClock clock;
  before_load();
  auto runner = LoadServed();
  if (!runner) {
    EXPECT_FALSE(runner.error().Describe().empty());
    return outcome;
  }
  outcome.loaded = true;
  before_serving();
  Engine engine({}, std::move(*runner), FakeDecoders(), clock);
  std::vector<Reader> readers(3);
  std::vector<bool> accepted;
  for (size_t i = 0; i < readers.size(); ++i) {
    const auto handle = engine.Submit(ServedRequest(engine.info(), i + 1, {.picture = i != 1}),
                                      readers[i].stream());
    accepted.push_back(handle.has_value());
    if (!handle) {
      EXPECT_EQ(handle.error().code, ErrorCode::kUnavailable);
    }
  }
  for (size_t i = 0; i < readers.size(); ++i) {
    if (accepted[i]) outcome.ends.push_back(readers[i].Wait().error());
  }
  // Health follows the events: the engine publishes it at the end of its round.
  const bool failed =
      std::ranges::any_of(outcome.ends, [](const auto& e) { return e.has_value(); });
  for (int i = 0; failed && engine.healthy() && i < 500; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  outcome.healthy = engine.healthy();
  return outcome;
}

class DeviceFailure : public ::testing::Test {
 protected:
  void SetUp() override {
    cuda::emulation::ClearFailures();
    cuda::emulation::SetRuntimeSeed(11);
    before_ = cuda::emulation::CountAlive();
  }
  void TearDown() override { cuda::emulation::ClearFailures(); }
  void ExpectNothingLeft(const std::string& what) {
    cuda::emulation::ClearFailures();
    EXPECT_EQ(cuda::emulation::CountAlive(), before_) << "left behind after " << what;
  }
  static std::vector<uint64_t> Chosen(uint64_t calls) {
    std::vector<uint64_t> chosen;
    for (const uint64_t nth : {uint64_t{1}, uint64_t{2}, calls / 2, calls}) {
      if (nth >= 1 && nth <= calls && (chosen.empty() || nth > chosen.back()))
        chosen.push_back(nth);
    }
    return chosen;
  }

  cuda::emulation::Alive before_;
};

TEST_F(DeviceFailure, EveryCallInTurn) {
  Counts load{}, all{};
  const Outcome clean = LoadAndServe([] {}, [&] { load = CountCalls(); });
  all = CountCalls();
  ASSERT_TRUE(clean.loaded && clean.healthy);
  ASSERT_EQ(clean.ends.size(), 3u);
  for (const auto& end : clean.ends) ASSERT_FALSE(end) << "an error without a failure";
  ExpectNothingLeft("a clean run");

  int failures = 0, lost = 0, not_loaded = 0;
  for (size_t index = 0; index < kCalls; ++index) {
    const auto call = static_cast<Call>(index);
    for (const bool sticky : {false, true}) {
      for (const uint64_t nth : Chosen(load[index])) {
        const std::string what = fmt::format("{} {}{} while loading", cuda::emulation::Name(call),
                                             nth, sticky ? ", sticky," : "");
        const Outcome outcome = LoadAndServe(
            [&] { cuda::emulation::FailCall(call, nth, cuda::emulation::kIllegalAddress, sticky); },
            [] {});
        ExpectNothingLeft(what);
        ++failures;
        not_loaded += outcome.loaded ? 0 : 1;
        // Only a question for the free memory may fail without consequence.
        if (call != Call::kReadMemoryInfo) {
          EXPECT_FALSE(outcome.loaded) << what;
        }
      }
      for (const uint64_t nth : Chosen(all[index] - load[index])) {
        const std::string what = fmt::format("{} {}{} while serving", cuda::emulation::Name(call),
                                             nth, sticky ? ", sticky," : "");
        const Outcome outcome = LoadAndServe(
            [] {},
            [&] {
              cuda::emulation::FailCall(call, nth, cuda::emulation::kIllegalAddress, sticky);
            });
        ExpectNothingLeft(what);
        ++failures;
        lost += outcome.healthy ? 0 : 1;
        ASSERT_TRUE(outcome.loaded) << what;
        bool any = false;
        for (const auto& end : outcome.ends) {
          any = any || end.has_value();
          if (end) {
            EXPECT_EQ(*end, ErrorCode::kUnavailable) << what;
          }
        }
        // Which calls a schedule makes may differ a little from the clean run's: the failure may
        // come after the last answer. Where it came, everybody in flight knows, and so does health.
        EXPECT_TRUE(outcome.healthy || any || outcome.ends.size() < 3) << what;
        if (any) {
          EXPECT_FALSE(outcome.healthy) << what;
        }
      }
    }
  }
  EXPECT_GT(failures, 60);
  EXPECT_GT(lost, 30);
  EXPECT_GT(not_loaded, 20);
  RecordProperty("failures", failures);
}

TEST_F(DeviceFailure, TooLittleMemoryIsOneLine) {
  for (const size_t bytes : {size_t{1} << 20, size_t{34} << 20, size_t{36} << 20}) {
    cuda::emulation::SetDeviceMemory(bytes);
    const auto runner = LoadServed();
    if (!runner) {
      EXPECT_EQ(runner.error().code, ErrorCode::kResourceExhausted);
      EXPECT_EQ(runner.error().Describe().find('\n'), std::string::npos);
    }
    EXPECT_TRUE(!runner || bytes > (size_t{32} << 20));
  }
  cuda::emulation::SetDeviceMemory(0);
  ExpectNothingLeft("too little memory");
}

TEST_F(DeviceFailure, NoDevice) {
  cuda::emulation::FailCall(Call::kOpenDevice, 1, cuda::emulation::kNoDevice, false);
  const auto runner = LoadServed();
  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(runner.error().field, "device");
}

}  // namespace
}  // namespace tessera::testing
