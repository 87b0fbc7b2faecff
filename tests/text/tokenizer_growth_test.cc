// Encoding is near-linear: 1 MiB takes at most five times what 256 KiB takes, on text made to hurt.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/thread_time.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace tessera {
namespace {

const std::filesystem::path kData = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/text/data";

std::string Repeat(std::string_view unit, size_t size) {
  std::string text;
  while (text.size() + unit.size() <= size) text += unit;
  return text;
}

std::vector<std::pair<std::string, std::string>> Patterns(size_t size) {
  std::string random;
  uint64_t state = 88172645463325252u;  // xorshift64: bytes as Latin-1, written in UTF-8
  while (random.size() + 2 <= size) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    AppendUtf8(random, static_cast<char32_t>(state >> 32 & 0xFF));
  }
  return {{"all a", Repeat("a", size)},
          {"alternating", Repeat("ab", size)},
          {"spaces", Repeat(" ", size)},
          {"newlines", Repeat("\n", size)},
          {"digits", Repeat("1234567890", size)},
          {"emoji", Repeat("😀👍🏽", size)},
          {"combining marks", Repeat("a\u0301\u0323\u0334", size)},
          {"marks alone", Repeat("\u0301\u0323", size)},
          {"CJK without breaks", Repeat("漢字今日は天気がいい", size)},
          {"contractions", Repeat("I'll we've 'S don't'd", size)},
          {"random bytes", random},
          {"space and newline", Repeat(" \n", size)},
          {"starts of special tokens", Repeat("<|eot_id|", size)},
          {"special tokens", Repeat("<|eot_id|>", size)},
          {"stripping tokens", Repeat("<mask>   <sep>   ", size)}};
}

class TokenizerGrowth : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGrowth, FourTimesTheTextAtMostFiveTimesTheTime) {
  const auto tokenizer = Tokenizer::Load(kData / GetParam());
  ASSERT_TRUE(tokenizer);
  const auto small = Patterns(256 << 10), large = Patterns(1 << 20);
  for (size_t i = 0; i < small.size(); ++i) {
    ASSERT_TRUE(IsValidUtf8(large[i].second));
    // (Some normalisers leave nothing of white space or marks.)
    const auto seconds = [&](const std::string& text) {
      const double start = test::ThreadSeconds();
      const auto ids = (*tokenizer)->Encode(text, SpecialParsing::kParse, false);
      const double taken = test::ThreadSeconds() - start;
      EXPECT_FALSE(ids.empty() && GetParam() == std::string_view("llama3")) << small[i].first;
      return taken;
    };
    // Best of several, in turn, so that a busy machine disturbs both alike; more only while the
    // ratio is not met
    double best_small = 1e9, best_large = 1e9;
    for (int run = 0; run < 3 || (run < 12 && best_large > 5 * best_small); ++run) {
      best_small = std::min(best_small, seconds(small[i].second));
      best_large = std::min(best_large, seconds(large[i].second));
    }
    EXPECT_LE(best_large, 5 * best_small) << small[i].first;
    RecordProperty(small[i].first, std::to_string(best_large * 1e3) + " ms, ratio " +
                                       std::to_string(best_large / best_small));
    std::printf("%-10s %-26s %8.1f ms for 1 MiB, ratio %.2f\n", GetParam(), small[i].first.c_str(),
                best_large * 1e3, best_large / best_small);
  }
}

INSTANTIATE_TEST_SUITE_P(Data, TokenizerGrowth,
                         testing::Values("llama3", "gpt2", "o200k", "llama2", "metaspace", "clip"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tessera
