// The emulated runtime: what it must show (copies too late, missing events, captured waits, bounds)
// and what it must not invent.
#include "kernels/cuda/runtime.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/emulation/runtime_controls.h"
#include "kernels/cuda/staging.h"

namespace tessera::cuda {
namespace {

using emulation::Call;

class Runtime : public ::testing::Test {
 protected:
  void SetUp() override {
    emulation::ClearFailures();
    before_ = emulation::CountAlive();
  }
  void TearDown() override {
    emulation::ClearFailures();
    emulation::SetDeviceMemory(0);
    EXPECT_EQ(emulation::CountAlive(), before_) << "something was not given back";
  }

  static void Good(const LaunchStatus& status) { ASSERT_TRUE(status.ok()) << status.message; }

  // Two streams, two device integers and a pinned one, freed at the end.
  struct Things {
    Stream a = nullptr, b = nullptr;
    Event event = nullptr;
    void *x = nullptr, *y = nullptr;
    int32_t* host = nullptr;
    Things() {
      void* pinned = nullptr;
      Good(CreateStream(&a));
      Good(CreateStream(&b));
      Good(CreateEvent(&event));
      Good(Allocate(4, &x));
      Good(Allocate(4, &y));
      Good(AllocatePinned(16, &pinned));
      host = static_cast<int32_t*>(pinned);
    }
    ~Things() {
      DestroyStream(a);
      DestroyStream(b);
      DestroyEvent(event);
      Free(x);
      Free(y);
      FreePinned(host);
    }
  };

  emulation::Alive before_;
};

TEST_F(Runtime, ASourceThatIsReusedTooEarlyShows) {
  Things t;
  t.host[0] = 1;
  Good(CopyToDeviceAsync(t.x, t.host, 4, t.a));
  t.host[0] = 2;  // the copy has not run
  Good(CopyToHostAsync(t.host + 1, t.x, 4, t.a));
  EXPECT_NE(t.host[1], 1);
  Good(Synchronize(t.a));
  EXPECT_EQ(t.host[1], 2);
}

TEST_F(Runtime, OnlyEventsOrderStreams) {
  int wrong = 0;
  for (uint64_t seed = 1; seed <= 64; ++seed) {
    for (const bool ordered : {false, true}) {
      Things t;
      emulation::SetRuntimeSeed(seed);
      t.host[0] = 7;
      Good(FillAsync(t.x, 0, 4, t.a));
      Good(CopyToDeviceAsync(t.x, t.host, 4, t.a));
      Good(RecordEvent(t.event, t.a));
      if (ordered) Good(WaitForEvent(t.b, t.event));
      Good(CopyOnDeviceAsync(t.y, t.x, 4, t.b));
      Good(CopyToHostAsync(t.host + 1, t.y, 4, t.b));
      Good(SynchronizeDevice());
      if (ordered) {
        EXPECT_EQ(t.host[1], 7) << "seed " << seed;
      } else {
        wrong += t.host[1] != 7;
      }
    }
  }
  EXPECT_GT(wrong, 16);  // without the event, often
  EXPECT_LT(wrong, 64);  // but not always
}

TEST_F(Runtime, AWaitForOneStreamDoesNotRunTheOther) {
  bool left = false;
  for (uint64_t seed = 1; seed <= 32; ++seed) {
    Things t;
    emulation::SetRuntimeSeed(seed);
    t.host[0] = 5;
    Good(FillAsync(t.x, 0, 4, t.a));
    Good(CopyToHostAsync(t.host, t.x, 4, t.b));
    Good(Synchronize(t.a));
    left = left || t.host[0] != 0;
    Good(Synchronize(t.b));
  }
  EXPECT_TRUE(left);
}

TEST_F(Runtime, GraphsTakeNewArgumentsAndNewShapes) {
  Things t;
  Graph graph = nullptr;
  GraphBuild build;
  const auto capture = [&](uint8_t value, bool copy) {
    Good(BeginCapture(t.a));
    Good(FillAsync(t.x, value, 4, t.a));
    if (copy) Good(CopyOnDeviceAsync(t.y, t.x, 4, t.a));
    Good(EndCapture(t.a, &graph, &build));
  };
  const auto run = [&](const void* from) {
    Good(LaunchGraph(graph, t.a));
    Good(CopyToHostAsync(t.host, from, 4, t.a));
    Good(Synchronize(t.a));
    return t.host[0];
  };
  Good(FillAsync(t.x, 9, 4, t.a));
  capture(1, true);
  EXPECT_TRUE(build.rebuilt);
  Good(CopyToHostAsync(t.host, t.x, 4, t.a));
  Good(Synchronize(t.a));
  EXPECT_EQ(t.host[0], 0x09090909) << "capturing runs nothing";
  EXPECT_EQ(run(t.y), 0x01010101);
  EXPECT_EQ(run(t.y), 0x01010101);
  capture(2, true);
  EXPECT_FALSE(build.rebuilt);
  EXPECT_EQ(run(t.y), 0x02020202);
  capture(3, false);
  EXPECT_TRUE(build.rebuilt);
  EXPECT_EQ(run(t.x), 0x03030303);
  DestroyGraph(graph);
}

TEST_F(Runtime, ACaptureRefusesWhatWaits) {
  Things t;
  Graph graph = nullptr;
  GraphBuild build;
  Good(BeginCapture(t.a));
  EXPECT_FALSE(Synchronize(t.a).ok());
  EXPECT_FALSE(RecordEvent(t.event, t.a).ok());
  EXPECT_FALSE(BeginCapture(t.a).ok());
  Good(EndCapture(t.a, &graph, &build));
  DestroyGraph(graph);
}

TEST_F(Runtime, CopiesAreHeldToTheirBounds) {
  {
    Things t;
    int32_t unpinned = 0;
    EXPECT_FALSE(CopyToHostAsync(&unpinned, t.x, 4, t.a).ok());
    Good(CopyToDeviceAsync(t.x, t.host, 8, t.a));  // one word too much
    const LaunchStatus status = Synchronize(t.a);
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message.find("leaves its device allocation"), std::string::npos);
    // It is sticky.
    EXPECT_FALSE(FillAsync(t.x, 0, 4, t.a).ok());
    emulation::ClearFailures();
  }
  Things t;
  void* other = nullptr;
  Good(Allocate(4, &other));
  Good(FillAsync(other, 1, 4, t.a));
  Free(other);  // waits first: the fill is not lost in freed memory
  Good(Synchronize(t.a));
}

TEST_F(Runtime, FailuresComeWhenTheyAreAskedFor) {
  Things t;
  emulation::FailCall(Call::kFill, 2, emulation::kIllegalAddress, false);
  EXPECT_TRUE(FillAsync(t.x, 0, 4, t.a).ok());
  EXPECT_EQ(FillAsync(t.x, 0, 4, t.a).code, emulation::kIllegalAddress);
  EXPECT_TRUE(FillAsync(t.x, 0, 4, t.a).ok());
  Good(Synchronize(t.a));

  emulation::FailCall(Call::kExecute, 1, emulation::kIllegalAddress, true);
  Good(FillAsync(t.x, 0, 4, t.a));
  EXPECT_EQ(Synchronize(t.a).code, emulation::kIllegalAddress);
  EXPECT_EQ(Synchronize(t.b).code, emulation::kIllegalAddress);
  EXPECT_EQ(RecordEvent(t.event, t.a).code, emulation::kIllegalAddress);
}

TEST_F(Runtime, MemoryEnds) {
  emulation::SetDeviceMemory(1000);
  void* first = nullptr;
  void* second = nullptr;
  MemoryInfo info;
  Good(ReadMemoryInfo(info));
  const size_t free = info.free;
  Good(Allocate(free, &first));
  EXPECT_EQ(Allocate(1, &second).code, emulation::kOutOfMemory);
  EXPECT_EQ(second, nullptr);
  Free(first);
  Good(Allocate(1, &second));
  Free(second);
}

// More pieces than the ring holds, read back at once.
TEST_F(Runtime, StagingKeepsEveryPiece) {
  for (uint64_t seed = 1; seed <= 16; ++seed) {
    emulation::SetRuntimeSeed(seed);
    Things t;
    {
      const auto staging = std::move(Staging::Make({}, t.a, 1024).value());
      void* kept = nullptr;
      void* pinned = nullptr;
      constexpr int kPieces = 40;
      Good(Allocate(kPieces * 100 * 4, &kept));
      Good(AllocatePinned(kPieces * 100 * 4, &pinned));
      for (int piece = 0; piece < kPieces; ++piece) {
        const std::vector<int32_t> values(100, piece);
        const void* device = nullptr;
        Good(staging->Stage(values.data(), 400, &device));
        Good(CopyOnDeviceAsync(static_cast<char*>(kept) + piece * 400, device, 400, t.a));
      }
      Good(CopyToHostAsync(pinned, kept, kPieces * 400, t.a));
      Good(Synchronize(t.a));
      for (int i = 0; i < kPieces * 100; ++i)
        ASSERT_EQ(static_cast<int32_t*>(pinned)[i], i / 100) << "seed " << seed;
      FreePinned(pinned);
      Free(kept);
    }
  }
}

// A segment holds what was asked for, to its last byte; so does that of a graph.
TEST_F(Runtime, StagingTakesTheLargestPiece) {
  Things t;
  const auto staging = std::move(Staging::Make({}, t.a, 1000).value());
  EXPECT_EQ(staging->segment_bytes(), 1024u);
  const std::vector<int32_t> values(256, 5);
  const void* device = nullptr;
  Good(staging->Stage(values.data(), 1000, &device));
  Good(staging->BeginCapture());
  Good(staging->Stage(values.data(), 1024, &device));
  staging->EndCapture();
  Good(Synchronize(t.a));
}

// In whichever segment they lie.
TEST_F(Runtime, EqualContentsAreFoundInEverySegment) {
  Things t;
  const auto staging = std::move(Staging::Make({}, t.a, 1024).value());
  const void* first[4] = {};
  const void* again = nullptr;
  for (int32_t piece = 0; piece < 4; ++piece)
    Good(staging->Stage(std::vector<int32_t>(256, piece).data(), 1024, &first[piece]));
  for (int32_t piece = 0; piece < 4; ++piece) {
    Good(staging->Stage(std::vector<int32_t>(256, piece).data(), 1024, &again));
    EXPECT_EQ(again, first[piece]) << piece;
  }
  Good(Synchronize(t.a));
}

// Two pieces with one hash: what a step of the hash makes of the first word is undone by the
// second.
TEST_F(Runtime, ContentsOfOneHashAreToldApart) {
  Things t;
  const auto step = [](uint64_t word) {
    const uint64_t hash = (0xcbf29ce484222325u ^ word) * 0x100000001b3u;
    return hash ^ hash >> 29;
  };
  const std::vector<uint64_t> values = {1, 2}, others = {7, 2 ^ step(1) ^ step(7)};
  const auto staging = std::move(Staging::Make({}, t.a, 4096).value());
  const void* first = nullptr;
  const void* second = nullptr;
  Good(staging->Stage(values.data(), 16, &first));
  Good(staging->Stage(others.data(), 16, &second));
  EXPECT_NE(first, second);
  Good(Synchronize(t.a));
}

TEST_F(Runtime, ScratchThatIsLargeEnoughStays) {
  emulation::SetRuntimeSeed(3);
  auto backend = std::move(CudaBackend::Make({.device = "cuda-emulated"}).value());
  const ScratchLimits limits{.max_rows = 64, .widest = 512, .max_heads = 4, .vocab = 100};
  ASSERT_TRUE(backend->Reserve(limits));
  const uint64_t allocations = emulation::CallsOf(Call::kAllocate);
  ASSERT_TRUE(backend->Reserve(limits));
  EXPECT_EQ(emulation::CallsOf(Call::kAllocate), allocations);
}

TEST_F(Runtime, EqualContentsAreCopiedOnceAStep) {
  Things t;
  const auto staging = std::move(Staging::Make({}, t.a, 4096).value());
  const std::vector<int32_t> values = {1, 2, 3}, others = {1, 2, 4};
  const void* first = nullptr;
  const void* second = nullptr;
  const uint64_t copies = emulation::CallsOf(Call::kCopyToDevice);
  Good(staging->Stage(values.data(), 12, &first));
  Good(staging->Stage(values.data(), 12, &second));
  EXPECT_EQ(first, second);
  Good(staging->Stage(others.data(), 12, &second));
  EXPECT_NE(first, second);
  EXPECT_EQ(emulation::CallsOf(Call::kCopyToDevice) - copies, 2u);
  staging->Forget();
  Good(staging->Stage(values.data(), 12, &second));
  EXPECT_NE(first, second);
  Good(Synchronize(t.a));
}

}  // namespace
}  // namespace tessera::cuda
