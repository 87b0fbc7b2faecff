#include "base/error.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0)
    return Invalid("odd number", {.field = "n", .limit = "even", .value = std::to_string(n)});
  return n / 2;
}

Result<int> Quarter(int n) {
  TESSERA_TRY(const int half, Half(n));
  return Half(half);
}

TEST(Error, TryPassesValuesAndErrors) {
  EXPECT_EQ(*Quarter(8), 2);
  ASSERT_FALSE(Quarter(6));
  EXPECT_EQ(Quarter(6).error().Describe(), "odd number: n: got 3, allowed: even");
}

TEST(Error, DescribeIsOneSafeLine) {
  const Error error{ErrorCode::kInvalidArgument, "bad",         "a\nb", "",
                    std::string(500, 'x'),       "\x1b[31m\xff"};
  const std::string line = error.Describe();
  EXPECT_EQ(line.find_first_of("\n\x1b\xff"), std::string::npos);
  EXPECT_LT(line.size(), 300u);
}

TEST(Error, EscapeKeepsUtf8AndEscapesTheRest) {
  EXPECT_EQ(EscapeForLog("caf\xc3\xa9 \xe2\x82\xac"), "caf\xc3\xa9 \xe2\x82\xac");
  EXPECT_EQ(EscapeForLog("\xc0\x80\xed\xa0\x80"), "\\xc0\\x80\\xed\\xa0\\x80");
}

}  // namespace
}  // namespace tessera
