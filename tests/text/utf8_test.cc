#include "text/utf8.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(Utf8, EveryCodePointRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    std::string text;
    AppendUtf8(text, c);
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(IsValidUtf8(text), !surrogate) << static_cast<uint32_t>(c);
    if (surrogate) continue;
    const DecodedChar decoded = DecodeUtf8(text);
    ASSERT_EQ(decoded.code_point, c);
    ASSERT_EQ(decoded.length, text.size());
    for (size_t n = 1; n < text.size(); ++n) {
      ASSERT_FALSE(IsValidUtf8(text.substr(0, n)));
      ASSERT_TRUE(IsIncompleteUtf8(text.substr(0, n)));
    }
    ASSERT_FALSE(IsIncompleteUtf8(text));
  }
}

// All sequences of three bytes, against the table of the Unicode standard (3.9, table 3-7) written
// out as ranges.
TEST(Utf8, ValidityOfShortSequences) {
  const auto valid = [](const std::string& s) {
    for (size_t i = 0; i < s.size();) {
      const auto b = [&](size_t k) -> int {
        return i + k < s.size() ? static_cast<uint8_t>(s[i + k]) : -1;
      };
      const auto tail = [&](size_t k) { return b(k) >= 0x80 && b(k) <= 0xBF; };
      if (b(0) <= 0x7F)
        i += 1;
      else if (b(0) >= 0xC2 && b(0) <= 0xDF && tail(1))
        i += 2;
      else if (b(0) == 0xE0 && b(1) >= 0xA0 && b(1) <= 0xBF && tail(2))
        i += 3;
      else if (b(0) >= 0xE1 && b(0) <= 0xEF && b(0) != 0xED && tail(1) && tail(2))
        i += 3;
      else if (b(0) == 0xED && b(1) >= 0x80 && b(1) <= 0x9F && tail(2))
        i += 3;
      else
        return false;
    }
    return true;
  };
  for (int a = 0; a < 256; a += 1)
    for (int b = 0x7E; b < 0xC3; ++b)
      for (int c = 0x7E; c < 0xC3; ++c) {
        const std::string s{static_cast<char>(a), static_cast<char>(b), static_cast<char>(c)};
        ASSERT_EQ(IsValidUtf8(s), valid(s)) << a << " " << b << " " << c;
      }
  EXPECT_TRUE(IsValidUtf8("\xF0\x90\x80\x80"));
  EXPECT_FALSE(IsValidUtf8("\xF0\x8F\x80\x80"));
  EXPECT_TRUE(IsValidUtf8("\xF4\x8F\xBF\xBF"));
  EXPECT_FALSE(IsValidUtf8("\xF4\x90\x80\x80"));
  EXPECT_FALSE(IsValidUtf8("\xF5\x80\x80\x80"));
  EXPECT_TRUE(IsValidUtf8(""));
}

TEST(Utf8, AnInvalidByteIsFoundWhereverItStands) {
  for (size_t n = 0; n < 40; ++n) {
    std::string text(40, 'a');
    text[n] = '\xFF';
    EXPECT_EQ(ValidUtf8Prefix(text), n);
  }
}

TEST(Utf8, MaximalSubparts) {
  EXPECT_EQ(DecodeUtf8("\xE2\x82").length, 2u);  // cut short
  EXPECT_EQ(DecodeUtf8("\xE2\x82z").length, 2u);
  EXPECT_EQ(DecodeUtf8("\xE2z").length, 1u);
  EXPECT_EQ(DecodeUtf8("\xE0\x80\x80").length, 1u);  // overlong: the second byte is not part of it
  EXPECT_EQ(DecodeUtf8("\xED\xA0\x80").length, 1u);  // surrogate
  EXPECT_EQ(DecodeUtf8("\xF0\x9F\x98z").length, 3u);
  EXPECT_EQ(DecodeUtf8("\x80").length, 1u);
  EXPECT_EQ(DecodeUtf8("\xE2\x82").code_point, kReplacementCharacter);
}

}  // namespace
}  // namespace tessera
