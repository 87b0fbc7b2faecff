// EngineCore on a FakeRunner, stepped by hand, invariants checked after every step.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

#include "server/engine/engine_core.h"
#include "tests/support/answer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_runner.h"

namespace tessera::testing {

class CoreHarness {
 public:
  explicit CoreHarness(const FakeModel& model = {}, const EngineOptions& options = {})
      : model_(model) {
    auto runner = std::make_unique<FakeRunner>(model);
    runner_ = runner.get();
    core_ = std::make_unique<EngineCore>(options, std::move(runner), FakeDecoders(), clock_);
  }

  // The request must pass CheckRequest.
  uint64_t Add(std::shared_ptr<const PreparedRequest> spec) {
    const Result<void> checked = CheckRequest(*spec, *runner_, core_->max_running());
    EXPECT_TRUE(checked) << checked.error().Describe();
    const uint64_t id = ++last_id_;
    Entry& entry = entries_[id];
    entry.spec = spec;
    entry.stream = std::make_shared<EventStream>();
    core_->Add(id, std::move(spec), entry.stream);
    return id;
  }
  bool Step() {
    const bool ran = core_->RunOnce();
    core_->CheckInvariants();
    for (auto& [id, entry] : entries_) {
      if (entry.reads) entry.answer.Drain(*entry.stream);
    }
    return ran;
  }
  void RunAll() {
    int steps = 0;
    while (Step()) ASSERT_LT(++steps, 20000) << "the engine does not come to an end";
  }
  void StopReading(uint64_t id) { entries_[id].reads = false; }
  void Read(uint64_t id) {
    entries_[id].reads = true;
    entries_[id].answer.Drain(*entries_[id].stream);
  }

  const Answer& answer(uint64_t id) { return entries_.at(id).answer; }
  const PreparedRequest& spec(uint64_t id) { return *entries_.at(id).spec; }
  EventStream& stream(uint64_t id) { return *entries_.at(id).stream; }
  EngineCore& core() { return *core_; }
  FakeRunner& runner() { return *runner_; }
  FakeClock& clock() { return clock_; }
  const FakeModel& model() const { return model_; }
  std::vector<uint64_t> ids() const {
    std::vector<uint64_t> ids;
    for (const auto& [id, entry] : entries_) ids.push_back(id);
    return ids;
  }

  // All choices are what a straight recomputation gives.
  void ExpectRightWords(uint64_t id) {
    const Answer& answer = entries_.at(id).answer;
    ASSERT_TRUE(answer.end) << "request " << id;
    ASSERT_FALSE(answer.end->error) << "request " << id << ": " << answer.end->error->Describe();
    for (int choice = 0; choice < spec(id).n; ++choice) {
      const std::vector<int32_t> expected = FakeAnswer(model_, spec(id), choice);
      ASSERT_EQ(answer.choices.at(choice).ids, expected)
          << "request " << id << " choice " << choice;
    }
  }
  // Everything is free again.
  void ExpectNothingHeld() {
    const EngineStats stats = core_->stats();
    EXPECT_EQ(stats.self_pages_free, stats.self_pages_total);
    EXPECT_EQ(stats.cross_pages_free, stats.cross_pages_total);
    EXPECT_EQ(stats.running + stats.waiting, 0);
  }

 private:
  struct Entry {
    std::shared_ptr<const PreparedRequest> spec;
    std::shared_ptr<EventStream> stream;
    Answer answer;
    bool reads = true;
  };
  const FakeModel model_;
  FakeClock clock_;
  FakeRunner* runner_;
  std::unique_ptr<EngineCore> core_;
  std::map<uint64_t, Entry> entries_;
  uint64_t last_id_ = 0;
};

}  // namespace tessera::testing
