// All code points: character classes, normalisers and pre-tokenizers against the counts and CRCs
// that the library gives (tests/text/data/classes.json), so that a table of another Unicode version
// cannot pass.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/thread_time.h"
#include "text/pretokenizer.h"
#include "text/pretokenizer_regex.h"
#include "text/tokenizer_normalizer.h"
#include "text/utf8.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

Json Golden() {
  return Json::parse(std::ifstream(TESSERA_SOURCE_DIR "/tests/text/data/classes.json"));
}

// CRC-32 (IEEE 802.3) of items, each ended by 0xFF, which no UTF-8 holds.
class Crc {
 public:
  Crc() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      table_[i] = c;
    }
  }
  void Add(std::string_view item) {
    for (const char c : item) Byte(static_cast<uint8_t>(c));
    Byte(0xFF);
  }
  uint32_t value() const { return ~crc_; }

 private:
  void Byte(uint8_t byte) { crc_ = table_[(crc_ ^ byte) & 0xFF] ^ (crc_ >> 8); }
  uint32_t table_[256];
  uint32_t crc_ = ~0u;
};

template <typename F>
void ForEachCodePoint(F f) {
  std::string text;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    text.clear();
    AppendUtf8(text, c);
    f(text);
  }
}

TEST(UnicodeWalk, CharacterClasses) {
  const Json golden = Golden();
  ASSERT_GE(golden["classes"].size(), 50u);
  for (const Json& item : golden["classes"]) {
    const std::string pattern = item["pattern"];
    const auto regex = TokenRegex::Compile(pattern, "test");
    ASSERT_TRUE(regex) << pattern << ": " << regex.error().Describe();
    Crc crc;
    size_t count = 0;
    ForEachCodePoint([&](const std::string& c) {
      (*regex)->ForEachPiece(c, [&](size_t begin, size_t end, bool is_match) {
        if (!is_match || begin == end) return;
        ++count;
        crc.Add(c);
      });
    });
    EXPECT_EQ(count, item["count"].get<size_t>()) << pattern;
    EXPECT_EQ(crc.value(), item["crc"].get<uint32_t>()) << pattern;
  }
}

TEST(UnicodeWalk, Normalisers) {
  const Json golden = Golden();
  ASSERT_EQ(golden["normalizers"].size(), 7u);
  for (const Json& item : golden["normalizers"]) {
    const TokenizerJson root{{"normalizer", {{"type", item["type"]}}}};
    const auto normalizer = TextNormalizer::FromJson(JsonNode(root, ""));
    ASSERT_TRUE(normalizer);
    Crc alone, in_context;
    ForEachCodePoint([&](const std::string& c) {
      alone.Add(normalizer->Apply(c));
      in_context.Add(normalizer->Apply("a" + c + "\u0323\u0301\u0334 \u1100" + c + "\u1161"));
    });
    EXPECT_EQ(alone.value(), item["alone"].get<uint32_t>()) << item["type"];
    EXPECT_EQ(in_context.value(), item["in_context"].get<uint32_t>()) << item["type"];
  }
}

TEST(UnicodeWalk, PreTokenizers) {
  const Json golden = Golden();
  ASSERT_EQ(golden["pre_tokenizers"].size(), 6u);
  for (const Json& item : golden["pre_tokenizers"]) {
    const TokenizerJson root{{"pre_tokenizer", item["config"]}};
    const auto splitter = PreTokenizer::FromJson(JsonNode(root, ""));
    ASSERT_TRUE(splitter);
    Crc crc;
    std::string text;
    ForEachCodePoint([&](const std::string& c) {
      text = "a" + c;
      text += "1 ";
      text += c;
      text += ".";
      text += c;
      splitter->ForEachPiece(text, true, [&](std::string_view piece) { crc.Add(piece); });
    });
    EXPECT_EQ(crc.value(), item["crc"].get<uint32_t>()) << item["config"].dump();
  }
}

// A long run of marks in the worst order costs n log n, not n squared.
TEST(UnicodeWalk, LongRunsOfMarks) {
  std::string marks = "a";
  for (int i = 0; i < 200000; ++i) marks += "\u0301\u0323";
  const double start = test::ThreadSeconds();
  std::string out;
  UnicodeNormalizer(NormalForm::kNfc).Append(marks, out);
  EXPECT_LT(test::ThreadSeconds() - start, 5);
  // The first mark below goes into the letter, the others below come before all above
  EXPECT_TRUE(out.starts_with("\u1EA1\u0323\u0323")) << out.substr(0, 12);
  EXPECT_TRUE(out.ends_with("\u0301\u0301"));
}

}  // namespace
}  // namespace tessera
