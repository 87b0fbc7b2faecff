// The golden of the words can fail: by a bit, a distance, a word too many or too few.
#include "tests/cuda/wrapper_golden.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::cuda_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

WrapperGolden Golden(unsigned char byte, float number) {
  WrapperGolden golden;
  const std::vector<unsigned char> bytes = {1, 2, byte};
  const std::vector<float> numbers = {1.0f, number, -0.0f};
  golden.KeepExact("shfl", bytes);
  golden.KeepNear("mma", numbers, 0x1p-20, 0);
  return golden;
}

TEST(WrapperGolden, HoldsToBitsAndDistances) {
  const WrapperGolden golden = Golden(3, 5.0f);
  const std::string json = golden.ToJson("a GPU");
  EXPECT_THAT(golden.DifferencesFrom(json), IsEmpty());
  EXPECT_THAT(Golden(3, 5.0f + 0x1p-19f).DifferencesFrom(json), IsEmpty());
  EXPECT_THAT(Golden(3, 5.0f + 0x1p-16f).DifferencesFrom(json), ElementsAre(HasSubstr("number 1")));
  EXPECT_THAT(Golden(4, 5.0f).DifferencesFrom(json), ElementsAre(HasSubstr("other bits")));
}

TEST(WrapperGolden, HoldsToTheWordsThemselves) {
  const WrapperGolden golden = Golden(3, 5.0f);
  WrapperGolden more = golden;
  more.KeepExact("ballot", std::vector<unsigned char>{1});
  EXPECT_THAT(more.DifferencesFrom(golden.ToJson("")), ElementsAre(HasSubstr("ballot")));
  EXPECT_THAT(golden.DifferencesFrom(more.ToJson("")), ElementsAre(HasSubstr("did not run")));
  WrapperGolden twice = golden;
  twice.KeepExact("shfl", std::vector<unsigned char>{1});
  EXPECT_THAT(twice.DifferencesFrom(golden.ToJson("")), ElementsAre(HasSubstr("other outputs")));
  for (const char* broken : {"", "{", "[]", "{\"words\": 3}"})
    EXPECT_FALSE(golden.DifferencesFrom(broken).empty()) << broken;
}

}  // namespace
}  // namespace tessera::cuda_test
