#include "server/engine/block_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/fake_runner.h"

namespace tessera {
namespace {

using testing::FakeDigest;

TEST(SelfPool, FreePagesGoFirstThenTheLeastRecentlyUsed) {
  SelfPool pool(4);
  const std::vector<int32_t> a = {pool.Allocate(), pool.Allocate()};
  const std::vector<int32_t> b = {pool.Allocate()};
  pool.Register(a[0], FakeDigest(1));
  pool.Register(a[1], FakeDigest(2));
  pool.Register(b[0], FakeDigest(3));
  pool.Release(a);
  pool.Release(b);
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.cached(), 3);
  pool.Allocate();  // the free one
  EXPECT_EQ(pool.cached(), 3);
  EXPECT_EQ(pool.Allocate(), a[1]);  // of a chain, its tail
  EXPECT_EQ(pool.Match(std::vector{FakeDigest(1), FakeDigest(2)}), std::vector{a[0]});
  EXPECT_EQ(pool.Allocate(), a[0]);
  EXPECT_EQ(pool.Allocate(), b[0]);
  EXPECT_EQ(pool.available(), 0);
  pool.CheckInvariants();
}

TEST(SelfPool, AKeyNamesOnePage) {
  SelfPool pool(3);
  const int32_t first = pool.Allocate(), second = pool.Allocate();
  pool.Register(first, FakeDigest(1));
  pool.Register(second, FakeDigest(1));
  EXPECT_TRUE(pool.IsShared(first));
  EXPECT_FALSE(pool.IsShared(second));
  pool.Forget(first);
  EXPECT_FALSE(pool.IsShared(first));
  EXPECT_TRUE(pool.Match(std::vector{FakeDigest(1)}).empty());
  pool.CheckInvariants();
}

TEST(SelfPool, RandomWalk) {
  std::mt19937_64 random(1);
  SelfPool pool(37);
  std::vector<std::vector<int32_t>> holders;
  uint64_t key = 0;
  for (int i = 0; i < 20000; ++i) {
    switch (random() % 5) {
      case 0:
      case 1:
        if (pool.available() > 0) {
          holders.push_back({pool.Allocate()});
          if (random() % 2) pool.Register(holders.back()[0], FakeDigest(++key));
        }
        break;
      case 2:
        if (!holders.empty()) {
          const size_t h = random() % holders.size();
          pool.Release(holders[h]);
          holders.erase(holders.begin() + static_cast<int64_t>(h));
        }
        break;
      case 3: {
        const auto found = pool.Match(std::vector{FakeDigest(1 + random() % (key + 1))});
        if (!found.empty()) {
          pool.Acquire(found);
          holders.push_back(found);
        }
        break;
      }
      case 4:
        if (!holders.empty() && random() % 8 == 0)
          pool.Forget(holders[random() % holders.size()][0]);
        break;
    }
    pool.CheckInvariants();
    std::vector<bool> held(37, false);
    for (const auto& pages : holders) held[pages[0]] = true;
    ASSERT_EQ(pool.available(), std::count(held.begin(), held.end(), false));
  }
}

TEST(CrossPool, PicturesAreSharedCachedAndEvictedWhole) {
  CrossPool pool(6);
  pool.Reserve(FakeDigest(1), 4);
  EXPECT_EQ(pool.available(), 2);
  pool.Acquire(FakeDigest(1));
  pool.MarkReady(FakeDigest(1));
  pool.Release(FakeDigest(1));
  EXPECT_EQ(pool.available(), 2);
  pool.Release(FakeDigest(1));
  EXPECT_EQ(pool.available(), 6);
  EXPECT_EQ(pool.cached(), 4);
  pool.Reserve(FakeDigest(2), 2);  // fits beside it
  EXPECT_NE(pool.Find(FakeDigest(1)), nullptr);
  pool.Reserve(FakeDigest(3), 1);
  EXPECT_EQ(pool.Find(FakeDigest(1)), nullptr);
  EXPECT_EQ(pool.free(), 3);
  pool.CheckInvariants();
}

TEST(CrossPool, HalfEncodedAndDoomedPicturesAreNotCached) {
  CrossPool pool(4);
  pool.Reserve(FakeDigest(1), 2);
  pool.Release(FakeDigest(1));
  EXPECT_EQ(pool.Find(FakeDigest(1)), nullptr);
  pool.Reserve(FakeDigest(2), 2);
  pool.MarkReady(FakeDigest(2));
  pool.Doom(FakeDigest(2));
  pool.Release(FakeDigest(2));
  EXPECT_EQ(pool.Find(FakeDigest(2)), nullptr);
  EXPECT_EQ(pool.free(), 4);
  pool.CheckInvariants();
}

TEST(CrossPool, RandomWalk) {
  std::mt19937_64 random(2);
  CrossPool pool(19);
  std::vector<Digest> holders;
  for (int i = 0; i < 20000; ++i) {
    const Digest digest = FakeDigest(random() % 12);
    const int tiles = 1 + digest.bytes[0] % 4;
    const CrossPool::Entry* entry = pool.Find(digest);
    switch (random() % 4) {
      case 0:
        if (entry != nullptr) {
          pool.Acquire(digest);
          holders.push_back(digest);
        } else if (pool.available() >= tiles) {
          pool.Reserve(digest, tiles);
          holders.push_back(digest);
        }
        break;
      case 1:
      case 2:
        if (!holders.empty()) {
          const size_t h = random() % holders.size();
          pool.Release(holders[h]);
          holders.erase(holders.begin() + static_cast<int64_t>(h));
        }
        break;
      case 3:
        if (entry != nullptr && entry->references > 0)
          random() % 5 ? pool.MarkReady(digest) : pool.Doom(digest);
        break;
    }
    pool.CheckInvariants();
  }
}

}  // namespace
}  // namespace tessera
