#include "server/engine/prefix_key.h"

#include <gtest/gtest.h>

#include "tests/support/fake_runner.h"

namespace tessera {
namespace {

using testing::FakeDigest;
using testing::FakePicture;
using testing::FakeRequest;

std::vector<Digest> Keys(const PreparedRequest& request, UnseenRows unseen = UnseenRows::kZero) {
  PrefixKeys keys(request, unseen);
  keys.Extend(request.prompt);
  return keys.keys();
}

TEST(PrefixKeys, OnlyWholePagesAndTheSameInPieces) {
  const auto request = FakeRequest(1, 47);
  EXPECT_EQ(Keys(*request).size(), 2u);
  PrefixKeys keys(*request, UnseenRows::kZero);
  for (size_t length = 0; length <= 47; ++length)
    keys.Extend(std::span(request->prompt).first(length));
  EXPECT_EQ(keys.keys(), Keys(*request));
}

TEST(PrefixKeys, AChainDependsOnEverythingBefore) {
  const auto a = FakeRequest(1, 48);
  auto b = FakeRequest(1, 48);
  b->prompt[20] += 1;
  const auto ka = Keys(*a), kb = Keys(*b);
  EXPECT_EQ(ka[0], kb[0]);
  EXPECT_NE(ka[1], kb[1]);
  EXPECT_NE(ka[2], kb[2]);
}

TEST(PrefixKeys, TenantsNeverShare) {
  const auto a = FakeRequest(1, 48);
  auto b = FakeRequest(1, 48);
  b->cache_salt = FakeDigest(9);
  for (size_t i = 0; i < 3; ++i) EXPECT_NE(Keys(*a)[i], Keys(*b)[i]);
}

TEST(PrefixKeys, ZeroMixesInThePicturesOfThePrefixOnly) {
  auto none = FakeRequest(1, 48), first = FakeRequest(1, 48), second = FakeRequest(1, 48),
       moved = FakeRequest(1, 48);
  first->media = {FakePicture(1, 1, 20)};
  second->media = {FakePicture(2, 1, 20)};
  moved->media = {FakePicture(1, 1, 21)};
  const auto k0 = Keys(*none), k1 = Keys(*first), k2 = Keys(*second), k3 = Keys(*moved);
  EXPECT_EQ(k1[0], k0[0]);
  EXPECT_EQ(k1[0], k2[0]);
  for (size_t i : {1, 2}) {
    EXPECT_NE(k1[i], k0[i]);
    EXPECT_NE(k1[i], k2[i]);
    EXPECT_NE(k1[i], k3[i]);
  }
}

TEST(PrefixKeys, AttendMixesInAllPictures) {
  auto none = FakeRequest(1, 48), first = FakeRequest(1, 48), second = FakeRequest(1, 48),
       two = FakeRequest(1, 48), swapped = FakeRequest(1, 48);
  first->media = {FakePicture(1, 1, 40)};
  second->media = {FakePicture(2, 1, 40)};
  two->media = {FakePicture(1, 1, 40), FakePicture(2, 1, 44)};
  swapped->media = {FakePicture(2, 1, 40), FakePicture(1, 1, 44)};
  std::vector<Digest> firsts;
  for (const auto* request : {&none, &first, &second, &two, &swapped})
    firsts.push_back(Keys(**request, UnseenRows::kAttend)[0]);
  for (size_t i = 0; i < firsts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(firsts[i], firsts[j]) << i << " " << j;
  }
}

}  // namespace
}  // namespace tessera
