// Text of a user never becomes a special token, however it is cut, and never takes one from the
// template.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "text/tokenizer.h"

namespace tessera {
namespace {

using testing::ElementsAreArray;

const std::filesystem::path kData = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/text/data";

std::shared_ptr<const Tokenizer> Load(const char* name) { return *Tokenizer::Load(kData / name); }

std::vector<int32_t> SpecialsIn(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::vector<int32_t> out;
  for (const int32_t id : ids)
    if (tokenizer.IsSpecial(id)) out.push_back(id);
  return out;
}

// Special tokens that match in the middle of a text. (Where a normaliser prepends, the library
// looks for the prepended form of a `normalized` token, which stands at a start only.)
std::vector<int32_t> Matching(const Tokenizer& tokenizer) {
  std::vector<int32_t> out;
  for (const int32_t id : tokenizer.SpecialIds()) {
    std::string text = "a";
    text += tokenizer.TokenText(id);
    text += "b";
    const auto ids = tokenizer.Encode(text, SpecialParsing::kParse, false);
    if (std::find(ids.begin(), ids.end(), id) != ids.end()) out.push_back(id);
  }
  return out;
}

class Provenance : public testing::TestWithParam<const char*> {};

TEST_P(Provenance, OneWriterIsEitherModeOfTheReference) {
  const auto tokenizer = Load(GetParam());
  for (const int32_t id : Matching(*tokenizer)) {
    const std::string text = "a " + tokenizer->TokenText(id) + " b";
    EXPECT_EQ(tokenizer->Encode(ProvenanceText(text, Origin::kUser), false),
              tokenizer->Encode(text, SpecialParsing::kAsText, false));
    EXPECT_EQ(tokenizer->Encode(ProvenanceText(text, Origin::kTemplate), false),
              tokenizer->Encode(text, SpecialParsing::kParse, false));
    EXPECT_THAT(SpecialsIn(*tokenizer, tokenizer->Encode(text, SpecialParsing::kParse, false)),
                testing::Contains(id));
  }
}

// Every special token of a template stays, and only those, whatever a user puts around and between
// them.
TEST_P(Provenance, RandomMixtures) {
  const auto tokenizer = Load(GetParam());
  const std::vector<int32_t> specials = Matching(*tokenizer);
  // `unk` can come from any text that the vocabulary does not know
  const int32_t unk = tokenizer->unk() ? tokenizer->unk()->id.value_or(-1) : -1;
  std::mt19937 random(7);
  const auto pick = [&](size_t n) { return random() % n; };
  for (int round = 0; round < 4000; ++round) {
    ProvenanceText text;
    std::vector<int32_t> expected;
    for (size_t part = 0; part < 1 + pick(8); ++part) {
      const int32_t id = specials[pick(specials.size())];
      const std::string content = tokenizer->TokenText(id);
      if (unk == id) continue;
      switch (pick(6)) {
        case 0:
          text.Append(content, Origin::kTemplate);
          expected.push_back(id);
          break;
        case 1: text.Append(content, Origin::kUser); break;
        case 2: {  // the look-alike starts or ends in the template
          const size_t cut = 1 + pick(content.size() - 1);
          const Origin first = pick(2) ? Origin::kUser : Origin::kTemplate;
          text.Append(std::string_view(content).substr(0, cut), first);
          text.Append(std::string_view(content).substr(cut),
                      first == Origin::kUser ? Origin::kTemplate : Origin::kUser);
          break;
        }
        case 3:
          text.Append(std::string_view(content).substr(0, 1 + pick(content.size())), Origin::kUser);
          break;
        case 4: text.Append("user text, naïve\n", Origin::kUser); break;
        default: text.Append(" x\n", Origin::kTemplate); break;
      }
    }
    std::vector<int32_t> found;
    for (const int32_t id : SpecialsIn(*tokenizer, tokenizer->Encode(text, false)))
      if (unk != id) found.push_back(id);
    ASSERT_THAT(found, ElementsAreArray(expected)) << text.text();
  }
}

INSTANTIATE_TEST_SUITE_P(Data, Provenance,
                         testing::Values("llama3", "gpt2", "o200k", "llama2", "clip"),
                         [](const auto& info) { return std::string(info.param); });

// One token is a prefix of another: what a user writes after the shorter must not undo it.
TEST(ProvenanceBorders, AUserCannotTakeAwayATemplateToken) {
  const char* json = R"({"added_tokens": [
      {"id": 8, "content": "<x>", "special": true}, {"id": 9, "content": "<x><y>", "special": true},
      {"id": 10, "content": "<y>", "special": true}, {"id": 11, "content": "y>a", "special": false, "normalized": false}],
      "model": {"type": "BPE", "vocab": {"<": 0, "x": 1, "y": 2, ">": 3, "a": 4, "b": 5, "c": 6, "d": 7}, "merges": []}})";
  const auto tokenizer = Tokenizer::FromJson(json);
  ASSERT_TRUE(tokenizer) << tokenizer.error().Describe();
  using Parts = std::vector<std::pair<const char*, Origin>>;
  const auto encode = [&](const Parts& parts) {
    ProvenanceText text;
    for (const auto& [part, origin] : parts) text.Append(part, origin);
    return (*tokenizer)->Encode(text, false);
  };
  constexpr Origin kUser = Origin::kUser, kTemplate = Origin::kTemplate;
  EXPECT_THAT(encode({{"<x><y>", kTemplate}}), ElementsAreArray({9}));
  EXPECT_THAT(encode({{"<x>", kTemplate}, {"<y>", kUser}}), ElementsAreArray({8, 0, 2, 3}));
  EXPECT_THAT(encode({{"<x>", kUser}, {"<y>", kTemplate}}), ElementsAreArray({0, 1, 3, 10}));
  EXPECT_THAT(encode({{"<x><", kTemplate}, {"y>", kUser}}), ElementsAreArray({8, 0, 2, 3}));
  EXPECT_THAT(encode({{"<x", kUser}, {"><y>", kTemplate}}), ElementsAreArray({0, 1, 3, 10}));
  EXPECT_THAT(encode({{"<x><y>", kUser}}), ElementsAreArray({0, 1, 3, 0, 2, 3}));
  // An added token that is not special is ordinary vocabulary, also across the border
  EXPECT_THAT(encode({{"y", kUser}, {">a", kTemplate}}), ElementsAreArray({11}));
}

}  // namespace
}  // namespace tessera
