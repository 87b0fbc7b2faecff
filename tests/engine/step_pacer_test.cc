// The budget of what joins streams: on simulated machines, and through the engine on a clock that
// costs.
#include "server/engine/step_pacer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/engine/core_harness.h"

namespace tessera::testing {
namespace {

// Seconds of a step: reading the weights takes `alone`, and what joins is hidden behind it until
// the arithmetic takes longer.
struct Machine {
  double alone, flops_per_second;
  double Seconds(double stream_flops, double joined) const {
    return std::max(alone, (stream_flops + joined) / flops_per_second);
  }
};

TEST(StepPacer, KeepsToTheSlowdownOnEveryMachine) {
  for (const Machine machine : {Machine{0.1, 1e11}, Machine{0.002, 3e11}, Machine{1, 5e12}}) {
    StepPacer pacer(2, 1e9, 1e8);
    for (int i = 0; i < 10; ++i) pacer.Observe(8, 0, machine.Seconds(1e9, 0));
    for (int i = 0; i < 200; ++i) {
      const double seconds = machine.Seconds(1e9, pacer.budget());
      if (i > 20) {
        EXPECT_LE(seconds, 2 * pacer.alone());
        EXPECT_GE(seconds, i > 100 ? 1.3 * pacer.alone() : 0);  // and uses it
      }
      pacer.Observe(8, pacer.budget(), seconds);
    }
  }
}

TEST(StepPacer, FollowsAMachineThatSlowsDown) {
  StepPacer pacer(2, 1e9, 1e8);
  Machine machine{0.1, 1e11};
  for (int i = 0; i < 100; ++i) {
    pacer.Observe(1, 0, machine.Seconds(0, 0));
    pacer.Observe(1, pacer.budget(), machine.Seconds(0, pacer.budget()));
  }
  const double before = pacer.budget();
  machine.flops_per_second = 2e10;
  for (int i = 0; i < 6; ++i) pacer.Observe(1, pacer.budget(), machine.Seconds(0, pacer.budget()));
  EXPECT_LT(pacer.budget(), before / 4);
  EXPECT_LE(machine.Seconds(0, pacer.budget()), 0.2);
}

TEST(StepPacer, LearnsNothingFromWhatSaysNothing) {
  StepPacer pacer(2, 1e9, 1e8);
  pacer.Observe(0, 1e12, 100);  // nobody was kept waiting
  pacer.Observe(4, 1e9, 0);     // a clock that stands still
  pacer.Observe(4, 1e9, 50);    // nothing to compare with
  EXPECT_EQ(pacer.budget(), 1e9);
  pacer.Observe(4, 0, 0.1);
  pacer.Observe(4, 1e6, 0.1);  // a prompt's short tail
  EXPECT_EQ(pacer.budget(), 1e9);
  for (int i = 0; i < 100; ++i) pacer.Observe(4, pacer.budget(), 100);
  EXPECT_EQ(pacer.budget(), 1e8);
}

// Eight streams run; a long prompt and a picture come in. Counted in FLOPs on a machine where 20
// rows cost what reading the weights does, no step may take more than twice as long.
TEST(StepPacer, StreamsHardlyNoticeALongPromptOrAPicture) {
  FakeModel model;
  model.self_pages = 400;
  model.max_rows = 512;
  model.max_context = 4096;
  model.encode_units = 64;
  model.flops_per_unit = 5e7;
  model.answers = 3;
  for (const bool picture : {false, true}) {
    CoreHarness harness(model);
    std::vector<double> seconds;
    bool joined = false;
    harness.runner().before_step = [&](const Step& step) {
      double flops = static_cast<double>(step.batch.rows()) * model.flops_per_token;
      for (const EncodeSlice& slice : step.encode)
        flops += (slice.unit_end - slice.unit_begin) * model.flops_per_unit;
      const double cost = std::max(1.0, flops / (20 * model.flops_per_token));
      if (joined) seconds.push_back(cost);
      harness.clock().Advance(std::chrono::nanoseconds(std::llround(cost * 1e7)));
    };
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      auto request = FakeRequest(seed, 20);
      request->max_tokens = 300;
      harness.Add(request);
    }
    for (int i = 0; i < 60; ++i) harness.Step();
    joined = true;
    auto request = FakeRequest(99, picture ? 30 : 2000);
    if (picture) {
      request->media.push_back(FakePicture(5, 4, 3));
      request->prompt[3] = model.vocab;
    }
    const uint64_t id = harness.Add(request);
    int steps = 0;
    while (harness.answer(id).choices.empty() && steps < 400) {
      harness.Step();
      ++steps;
    }
    EXPECT_LT(steps, picture ? 40 : 150);
    EXPECT_GT(steps, 5);
    int over = 0;
    for (double cost : seconds) {
      EXPECT_LE(cost, 2.6);  // while the budget finds its level
      over += cost > 2.0 ? 1 : 0;
    }
    EXPECT_LE(over, 2) << "of " << seconds.size();
    harness.RunAll();
    harness.ExpectRightWords(id);
  }
}

}  // namespace
}  // namespace tessera::testing
