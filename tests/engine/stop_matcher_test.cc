#include "server/engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace tessera {
namespace {

std::string FeedAll(StopMatcher& matcher, const std::vector<std::string>& pieces, int* match) {
  std::string text;
  *match = -1;
  for (const std::string& piece : pieces) {
    StopMatcher::Output out = matcher.Feed(piece, true);
    text += out.text;
    *match = out.match;
    if (out.match >= 0) return text;
  }
  return text + matcher.Flush();
}

TEST(StopMatcher, HoldsBackTheLongestPossiblePrefix) {
  StopMatcher matcher({"</end>", "<x>"}, false);
  EXPECT_EQ(matcher.Feed("hello <", true).text, "hello ");
  EXPECT_EQ(matcher.Feed("/en", true).text, "");
  EXPECT_EQ(matcher.Feed("ds <", true).text, "</ends ");
  const StopMatcher::Output out = matcher.Feed("x>tail", true);
  EXPECT_EQ(out.match, 1);
  EXPECT_EQ(out.text, "");
}

TEST(StopMatcher, IncludeStopKeepsTheMatchAndDropsTheRest) {
  StopMatcher matcher({"END"}, true);
  EXPECT_EQ(matcher.Feed("abcE", true).text, "abc");
  const StopMatcher::Output out = matcher.Feed("NDxyz", true);
  EXPECT_EQ(out.match, 0);
  EXPECT_EQ(out.text, "END");
}

TEST(StopMatcher, NothingStopsBeforeMinTokens) {
  StopMatcher matcher({"ab"}, false);
  EXPECT_EQ(matcher.Feed("xabx", false).match, -1);
  EXPECT_EQ(matcher.Feed("ab", true).match, 0);
}

TEST(StopMatcher, CutsBetweenCharacters) {
  StopMatcher matcher({"\xC3\xA9!"}, false);  // e acute
  EXPECT_EQ(matcher.Feed("caf\xC3\xA9", true).text, "caf");
  EXPECT_EQ(matcher.Feed("\xC3\xA8", true).text, "\xC3\xA9\xC3\xA8");
}

// Against a search in the whole text, for random pieces over a small alphabet.
TEST(StopMatcher, EqualsASearchInTheWholeText) {
  std::mt19937_64 random(3);
  const auto word = [&](size_t longest) {
    std::string out;
    for (size_t i = 1 + random() % longest; i > 0; --i)
      out += static_cast<char>('a' + random() % 2);
    return out;
  };
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::string> stops, pieces;
    for (size_t k = 1 + random() % 3; k > 0; --k) stops.push_back(word(5));
    for (size_t k = random() % 8; k > 0; --k) pieces.push_back(word(4));
    std::string whole;
    for (const std::string& piece : pieces) whole += piece;
    int expected = -1;
    std::string text = whole;
    const bool include = random() % 2;
    for (size_t end = 1; end <= whole.size() && expected < 0; ++end) {
      for (size_t s = 0; s < stops.size(); ++s) {
        if (!whole.substr(0, end).ends_with(stops[s])) continue;
        if (expected >= 0 && stops[s].size() <= stops[expected].size()) continue;
        expected = static_cast<int>(s);
        text = whole.substr(0, include ? end : end - stops[s].size());
      }
    }
    StopMatcher matcher(stops, include);
    int match = -1;
    ASSERT_EQ(FeedAll(matcher, pieces, &match), text);
    ASSERT_EQ(match, expected);
  }
}

}  // namespace
}  // namespace tessera
