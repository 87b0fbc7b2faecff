#include "media/decode_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace tessera {
namespace {

using std::chrono::milliseconds;

void WaitForWaiters(const DecodeBudget& budget, int64_t count) {
  while (budget.waiting() != count) std::this_thread::yield();
}

TEST(DecodeBudget, CountsLeases) {
  DecodeBudget budget(100);
  {
    auto first = budget.Acquire(60);
    ASSERT_TRUE(first);
    auto second = budget.Acquire(40);
    ASSERT_TRUE(second);
    EXPECT_EQ(budget.in_use(), 100);
    first->ShrinkTo(10);
    EXPECT_EQ(budget.in_use(), 50);
    DecodeBudget::Lease moved = std::move(*first);
    EXPECT_EQ(first->bytes(), 0);
    EXPECT_EQ(moved.bytes(), 10);
    moved = DecodeBudget::Lease();
    EXPECT_EQ(budget.in_use(), 40);
  }
  EXPECT_EQ(budget.in_use(), 0);
  EXPECT_EQ(budget.peak(), 100);
}

TEST(DecodeBudget, WhatNeverFitsIsRefusedAtOnce) {
  DecodeBudget budget(100);
  const auto lease = budget.Acquire(101);
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(lease.error().field, "image");
  EXPECT_EQ(lease.error().limit, "100 bytes");
  EXPECT_EQ(lease.error().value, "101 bytes");
}

TEST(DecodeBudget, PatienceDeadlineAndStopEndTheWait) {
  DecodeBudget budget(100);
  const auto held = budget.Acquire(100);
  const auto patience = budget.Acquire(1, {.patience = milliseconds(1)});
  ASSERT_FALSE(patience);
  EXPECT_EQ(patience.error().code, ErrorCode::kResourceExhausted);
  const auto deadline =
      budget.Acquire(1, {.deadline = std::chrono::steady_clock::now() - milliseconds(1)});
  ASSERT_FALSE(deadline);
  EXPECT_EQ(deadline.error().code, ErrorCode::kDeadlineExceeded);
  std::stop_source stop;
  std::jthread stopper([&] {
    WaitForWaiters(budget, 1);
    stop.request_stop();
  });
  const auto stopped =
      budget.Acquire(1, {.stop = stop.get_token(), .patience = std::chrono::hours(1)});
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(budget.waiting(), 0);
}

TEST(DecodeBudget, FirstComeFirstServed) {
  DecodeBudget budget(100);
  auto held = budget.Acquire(60);
  std::atomic<int> order = 0;
  int large_rank = 0, small_rank = 0;
  std::jthread large([&] {
    const auto lease = budget.Acquire(90, {.patience = std::chrono::hours(1)});
    ASSERT_TRUE(lease);
    large_rank = ++order;
  });
  WaitForWaiters(budget, 1);
  std::jthread small([&] {  // would fit at once, but stands behind the large one
    const auto lease = budget.Acquire(20, {.patience = std::chrono::hours(1)});
    ASSERT_TRUE(lease);
    small_rank = ++order;
  });
  WaitForWaiters(budget, 2);
  held->Release();
  large.join();
  small.join();
  EXPECT_EQ(large_rank, 1);
  EXPECT_EQ(small_rank, 2);
  EXPECT_EQ(budget.in_use(), 0);
}

TEST(DecodeBudget, NeverExceededByManyThreads) {
  DecodeBudget budget(1000);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const auto lease =
            budget.Acquire(1 + (i * 37 + t * 101) % 700, {.patience = std::chrono::hours(1)});
        ASSERT_TRUE(lease);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(budget.in_use(), 0);
  EXPECT_LE(budget.peak(), 1000);
}

}  // namespace
}  // namespace tessera
