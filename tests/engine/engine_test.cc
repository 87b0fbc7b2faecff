// The engine with its thread: submit, cancel, deadlines, slow readers, drain. No sleeps; time is a
// fake.
#include "server/engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/answer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_runner.h"

namespace tessera::testing {
namespace {

// Lets a test hold the engine's thread at the beginning of a step.
class Gate {
 public:
  void Close() {
    std::lock_guard lock(mu_);
    open_ = false;
  }
  void Open() {
    std::lock_guard lock(mu_);
    open_ = true;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mu_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  // Waits until somebody stands before the gate or has passed it since the last call.
  void AwaitArrival() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return arrived_ > seen_; });
    seen_ = arrived_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool open_ = true;
  int arrived_ = 0;
  int seen_ = 0;
};

class EngineTest : public ::testing::Test {
 protected:
  void Start(const FakeModel& model, const EngineOptions& options = {}) {
    model_ = model;
    auto runner = std::make_unique<FakeRunner>(model);
    runner_ = runner.get();
    runner_->before_step = [this](const Step&) { gate_.Pass(); };
    engine_ = std::make_unique<Engine>(options, std::move(runner), FakeDecoders(), clock_);
  }
  RequestHandle Submit(const std::shared_ptr<PreparedRequest>& request, Reader& reader) {
    const Result<RequestHandle> handle = engine_->Submit(request, reader.stream());
    EXPECT_TRUE(handle);
    return handle.value_or(0);
  }
  // The engine publishes its figures after it has pushed the last event.
  EngineStats WhenIdle() {
    for (;;) {
      const EngineStats stats = engine_->stats();
      if (stats.running + stats.waiting == 0) return stats;
      std::this_thread::yield();
    }
  }
  void ExpectRightWords(const PreparedRequest& request, const Answer& answer) {
    ASSERT_TRUE(answer.end && !answer.end->error);
    for (int choice = 0; choice < request.n; ++choice) {
      EXPECT_EQ(answer.choices.at(choice).ids, FakeAnswer(model_, request, choice));
    }
  }

  FakeModel model_;
  FakeClock clock_;
  Gate gate_;
  FakeRunner* runner_ = nullptr;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, ManySubmittersAtOnce) {
  Start({.self_pages = 60, .cross_pages = 8});
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 20; ++i) {
        auto request = FakeRequest(t * 100 + i, static_cast<int>(5 + i));
        request->media = {FakePicture(i % 4, 2, 1)};
        Reader reader;
        const RequestHandle handle = Submit(request, reader);
        if (i % 5 == 4) {
          engine_->Cancel(handle);
          const Answer& answer = reader.Wait();
          EXPECT_TRUE(!answer.end->error || answer.error() == ErrorCode::kCancelled);
        } else {
          ExpectRightWords(*request, reader.Wait());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const EngineStats stats = WhenIdle();
  EXPECT_EQ(stats.requests_accepted, 120);
  EXPECT_EQ(stats.requests_finished + stats.requests_cancelled, 120);
  EXPECT_EQ(stats.self_pages_free, stats.self_pages_total);
  EXPECT_EQ(stats.cross_pages_free, stats.cross_pages_total);
}

TEST_F(EngineTest, CancelIsSeenAtTheEndOfTheStepInFlight) {
  Start({});
  auto request = FakeRequest(1, 20);
  request->max_tokens = 500;
  request->end_ids.clear();
  Reader reader;
  gate_.Close();
  const RequestHandle handle = Submit(request, reader);
  gate_.AwaitArrival();
  engine_->Cancel(handle);  // while its first step runs
  gate_.Open();
  EXPECT_EQ(reader.Wait().error(), ErrorCode::kCancelled);
  const EngineStats stats = WhenIdle();
  EXPECT_EQ(stats.steps, 1);
  EXPECT_EQ(stats.self_pages_free, stats.self_pages_total);
  engine_->Cancel(handle);  // after the end: nothing
}

TEST_F(EngineTest, QueueIsBounded) {
  Start({}, {.max_queue = 2, .max_running = 1});
  gate_.Close();
  std::vector<Reader> readers(4);
  std::vector<std::shared_ptr<PreparedRequest>> requests;
  for (uint64_t i = 0; i < 4; ++i) requests.push_back(FakeRequest(i, 10));
  Submit(requests[0], readers[0]);
  gate_.AwaitArrival();  // the first runs
  int accepted = 1;
  for (size_t i = 1; i < 4; ++i) {
    const Result<RequestHandle> handle = engine_->Submit(requests[i], readers[i].stream());
    if (handle) {
      ++accepted;
      continue;
    }
    EXPECT_EQ(handle.error().code, ErrorCode::kResourceExhausted);
    EXPECT_EQ(handle.error().limit, "2");
  }
  EXPECT_LE(accepted, 3);
  EXPECT_GE(accepted, 2);
  gate_.Open();
  for (int i = 0; i < accepted; ++i)
    ExpectRightWords(*requests[static_cast<size_t>(i)], readers[static_cast<size_t>(i)].Wait());
  EXPECT_EQ(engine_->stats().requests_refused, 4 - accepted);
}

TEST_F(EngineTest, ADeadlineWakesTheSleepingEngine) {
  // A reader that never reads: nothing is scheduled, the engine sleeps until the deadline.
  Start({.self_pages = 200, .max_context = 4096});
  auto request = FakeRequest(1, 10);
  request->max_tokens = 2400;
  request->end_ids.clear();
  request->deadline = clock_.Now() + std::chrono::seconds(20);
  Reader reader;
  Submit(request, reader);
  while (!reader.stream()->Full()) std::this_thread::yield();
  clock_.Advance(std::chrono::seconds(20));
  while (engine_->stats().running > 0) std::this_thread::yield();
  EXPECT_EQ(reader.Wait().error(), ErrorCode::kDeadlineExceeded);
}

TEST_F(EngineTest, AStalledReaderEndsAfterThirtySeconds) {
  Start({.self_pages = 200, .max_context = 4096});
  auto request = FakeRequest(1, 10);
  request->max_tokens = 2400;
  request->end_ids.clear();
  Reader reader;
  Submit(request, reader);
  while (!reader.stream()->Full()) std::this_thread::yield();
  clock_.Advance(std::chrono::seconds(30));
  const EngineStats stats = WhenIdle();
  EXPECT_EQ(stats.self_pages_free, stats.self_pages_total);
  EXPECT_EQ(reader.Wait().error(), ErrorCode::kResourceExhausted);
}

TEST_F(EngineTest, AReaderThatReadsWakesTheSleepingEngine) {
  Start({.self_pages = 200, .max_context = 4096});
  auto request = FakeRequest(1, 10);
  request->max_tokens = 2400;
  request->end_ids.clear();
  Reader reader;
  Submit(request, reader);
  while (!reader.stream()->Full()) std::this_thread::yield();
  ExpectRightWords(*request, reader.Wait());
}

TEST_F(EngineTest, TheSleepingEngineDoesNothing) {
  Start({});
  auto request = FakeRequest(1, 10);
  Reader reader;
  Submit(request, reader);
  reader.Wait();
  const int64_t steps = WhenIdle().steps;
  clock_.Advance(std::chrono::hours(2));
  EXPECT_EQ(engine_->stats().steps, steps);
}

TEST_F(EngineTest, DrainFinishesWhatWasAccepted) {
  Start({});
  std::vector<Reader> readers(4);
  std::vector<std::shared_ptr<PreparedRequest>> requests;
  gate_.Close();
  for (uint64_t i = 0; i < 4; ++i) {
    requests.push_back(FakeRequest(i, 10));
    Submit(requests.back(), readers[i]);
  }
  engine_->BeginDrain();
  EXPECT_FALSE(engine_->Drained());
  Reader late;
  const Result<RequestHandle> refused = engine_->Submit(FakeRequest(9, 10), late.stream());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  gate_.Open();
  for (size_t i = 0; i < 4; ++i) ExpectRightWords(*requests[i], readers[i].Wait());
  while (!engine_->Drained()) std::this_thread::yield();
  EXPECT_FALSE(late.stream()->Pop());
}

TEST_F(EngineTest, TheEnginesEndIsOneUnavailableForEverybody) {
  // Nobody reads, so that nobody can be finished when the end comes.
  Start({.self_pages = 500, .max_context = 4096});
  std::vector<Reader> readers(3);
  for (uint64_t i = 0; i < 3; ++i) {
    auto request = FakeRequest(i, 10);
    request->max_tokens = 2400;
    request->end_ids.clear();
    Submit(request, readers[i]);
  }
  gate_.AwaitArrival();
  engine_.reset();
  for (Reader& reader : readers) EXPECT_EQ(reader.Wait().error(), ErrorCode::kUnavailable);
}

TEST_F(EngineTest, ALostDeviceTurnsUnhealthyAndRefuses) {
  Start({});
  gate_.Close();
  Reader reader;
  Submit(FakeRequest(1, 10), reader);
  gate_.AwaitArrival();
  runner_->error = Error{.code = ErrorCode::kUnavailable, .what = "injected"};
  gate_.Open();
  EXPECT_EQ(reader.Wait().error(), ErrorCode::kUnavailable);
  while (engine_->healthy()) std::this_thread::yield();
  Reader late;
  const Result<RequestHandle> refused = engine_->Submit(FakeRequest(2, 10), late.stream());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace tessera::testing
