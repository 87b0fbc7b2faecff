// Patterns against what the `tokenizers` library's regex engine does
// (tests/text/data/classes.json), and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "text/pretokenizer.h"
#include "text/pretokenizer_regex.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

Json Golden() {
  return Json::parse(std::ifstream(TESSERA_SOURCE_DIR "/tests/text/data/classes.json"));
}

std::vector<std::string> PiecesOf(const TokenRegex& regex, const std::string& text) {
  std::vector<std::string> pieces;
  regex.ForEachPiece(text, [&](size_t begin, size_t end, bool) {
    if (begin < end) pieces.push_back(text.substr(begin, end - begin));
  });
  return pieces;
}

TEST(TokenRegexTest, MatchesWhatTheLibraryMatches) {
  const Json golden = Golden();
  const auto texts = golden["texts"].get<std::vector<std::string>>();
  ASSERT_GE(golden["patterns"].size(), 80u);
  for (const Json& item : golden["patterns"]) {
    const std::string pattern = item["pattern"];
    const auto regex = TokenRegex::Compile(pattern, "test");
    ASSERT_TRUE(regex) << pattern << ": " << regex.error().Describe();
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(PiecesOf(**regex, texts[i]), item["pieces"][i].get<std::vector<std::string>>())
          << pattern << " in \"" << texts[i] << "\"";
  }
}

TEST(TokenRegexTest, SplitBehaviours) {
  const Json golden = Golden();
  const auto texts = golden["behaviour_texts"].get<std::vector<std::string>>();
  ASSERT_EQ(golden["behaviours"].size(), 50u);
  for (const Json& item : golden["behaviours"]) {
    const TokenizerJson root{{"pre_tokenizer", item["config"]}};
    const auto splitter = PreTokenizer::FromJson(JsonNode(root, ""));
    ASSERT_TRUE(splitter) << splitter.error().Describe();
    for (size_t i = 0; i < texts.size(); ++i) {
      std::vector<std::string> got;
      splitter->ForEachPiece(texts[i], true,
                             [&](std::string_view piece) { got.emplace_back(piece); });
      EXPECT_EQ(got, item["pieces"][i].get<std::vector<std::string>>())
          << item["config"].dump() << " in \"" << texts[i] << "\"";
    }
  }
}

TEST(TokenRegexTest, RefusesWhatItCannotDoByName) {
  const std::pair<std::string, std::string> cases[] = {
      {R"((a)\1)", "escape"},
      {R"((?=abc)a)", "look-around over more than one character"},
      {R"((?<!ab)c)", "look-around over more than one character"},
      {R"((?>a|ab)c)", "atomic group"},
      {R"((?:ab)++c)", "possessive"},
      {R"(\p{Klingon})", "property Klingon"},
      {R"(\X)", "escape"},
      {R"(\G)", "escape"},
      {R"((?x) a)", "group"},
      {R"((?i:ss))", "two characters"},
      {"(a", "group without end"},
      {"a)", "unmatched"},
      {"[a", "class without end"},
      {"*a", "nothing before"},
      {"a{2000}", "repeat count"},
      {"[b-a]", "range"},
      {"\\", "backslash"},
      {std::string(200, '(') + std::string(200, ')'), "too deep"},
      {std::string(70000, 'a'), "65536"},
      {"\xFF", "UTF-8"},
  };
  for (const auto& [pattern, word] : cases) {
    const auto regex = TokenRegex::Compile(pattern, "pre_tokenizer.pattern.Regex");
    ASSERT_FALSE(regex) << pattern;
    EXPECT_THAT(regex.error().value, HasSubstr(word)) << pattern.substr(0, 50);
    EXPECT_EQ(regex.error().field, "pre_tokenizer.pattern.Regex");
  }
}

// A pattern whose automaton explodes is refused, soon and in bounded memory.
TEST(TokenRegexTest, RefusesPatternsWhoseAutomatonIsTooBig) {
  for (const std::string pattern :
       {"(?:a|b)*a(?:a|b){30}", "(?:(?:a{0,100}){0,100}){0,100}", "(?:.{0,900}a.{0,900})b"}) {
    const auto regex = TokenRegex::Compile(pattern, "test");
    ASSERT_FALSE(regex) << pattern;
    EXPECT_EQ(regex.error().what.view(), "pattern too complex");
  }
}

}  // namespace
}  // namespace tessera
