// Broken and hostile tokenizer files: one error that names the place, no crash, no big allocation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "text/tokenizer.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

const std::filesystem::path kData = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/text/data";

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

Json Small() {
  return Json::parse(R"({"version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 5, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                      "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, "merges": ["a b", "ab c"]}})");
}

TEST(BadTokenizerFile, TheSmallOneIsGood) {
  const auto tokenizer = Tokenizer::FromJson(Small().dump());
  ASSERT_TRUE(tokenizer) << tokenizer.error().Describe();
  EXPECT_THAT((*tokenizer)->Encode("abcab<s>", SpecialParsing::kParse, true),
              testing::ElementsAre(5, 4, 3, 5));
}

struct Case {
  const char* pointer;  // where in the file
  const char* value;    // JSON put there; null: the member is removed
  const char* named;    // what the error must name
};

class BadValue : public testing::TestWithParam<Case> {};

TEST_P(BadValue, IsNamed) {
  const Case& bad = GetParam();
  Json json = Small();
  const Json::json_pointer pointer(bad.pointer);
  if (bad.value != nullptr)
    json[pointer] = Json::parse(bad.value);
  else
    json[pointer.parent_pointer()].erase(pointer.back());
  const auto tokenizer = Tokenizer::FromJson(json.dump());
  ASSERT_FALSE(tokenizer) << json.dump();
  const std::string text = tokenizer.error().Describe();
  EXPECT_THAT(text, HasSubstr(bad.named));
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadValue,
    testing::Values(
        Case{"/model", "null", "model"}, Case{"/model", "[]", "model"},
        Case{"/model/type", "\"Unigram\"", "Unigram"},
        Case{"/model/type", "\"WordPiece\"", "model.type"}, Case{"/model/type", "7", "model.type"},
        Case{"/model/vocab", nullptr, "model.vocab"}, Case{"/model/vocab", "[]", "model.vocab"},
        Case{"/model/vocab", "{}", "merges"}, Case{"/model/vocab/a", "-1", "model.vocab.a"},
        Case{"/model/vocab/a", "4294967296", "4294967296"},
        Case{"/model/vocab/a", "99999999999999999999", "model.vocab.a"},
        Case{"/model/vocab/a", "16000000", "16000000"},
        Case{"/model/vocab/a", "1.5", "model.vocab.a"},
        Case{"/model/vocab/a", "\"0\"", "model.vocab.a"},
        Case{"/model/vocab/a", "null", "model.vocab.a"},
        Case{"/model/vocab/a", "{}", "model.vocab.a"},
        Case{"/model/vocab/a", "1", "duplicate token id"},
        Case{"/model/merges/0", "\"a\"", "model.merges[0]"},
        Case{"/model/merges/0", "\"a b c\"", "model.merges[0]"},
        Case{"/model/merges/0", "[\"a\"]", "model.merges[0]"},
        Case{"/model/merges/1", "[\"a\",\"b\",\"c\"]", "model.merges[1]"},
        Case{"/model/merges/1", "\"x y\"", "x"}, Case{"/model/merges/1", "\"c c\"", "cc"},
        Case{"/model/merges/1", "3", "model.merges[1]"},
        Case{"/model/merges/1", "[[\"a\"],\"b\"]", "model.merges[1]"},
        Case{"/model/dropout", "0.5", "model.dropout"},
        Case{"/model/byte_fallback", "1", "model.byte_fallback"},
        Case{"/model/unk_token", "[]", "model.unk_token"},
        Case{"/model/fuse_unk", "\"yes\"", "model.fuse_unk"},
        Case{"/added_tokens", "{}", "added_tokens"},
        Case{"/added_tokens/0", "5", "added_tokens[0]"},
        Case{"/added_tokens/0/id", "6", "added_tokens[0].id"},
        Case{"/added_tokens/0/id", "-1", "added_tokens[0].id"},
        Case{"/added_tokens/0/id", "1e9", "added_tokens[0].id"},
        Case{"/added_tokens/0/id", nullptr, "added_tokens[0].id"},
        Case{"/added_tokens/0/content", "\"\"", "added_tokens[0].content"},
        Case{"/added_tokens/0/content", "7", "added_tokens[0].content"},
        Case{"/added_tokens/0/special", "\"true\"", "added_tokens[0].special"},
        Case{"/added_tokens/1", R"({"id": 6, "content": "<s>"})", "added_tokens[1]"},
        Case{"/normalizer", R"({"type": "Nmt"})", "normalizer.type: got \"Nmt\""},
        Case{"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "AAAA"})",
             "normalizer.type"},
        Case{"/normalizer", "\"NFC\"", "normalizer"},
        Case{"/normalizer", R"({})", "normalizer.type"},
        Case{"/normalizer",
             R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend"}]})",
             "normalizer.normalizers[1].prepend"},
        Case{"/normalizer", R"({"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""})",
             "normalizer.pattern.Regex"},
        Case{"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})",
             "normalizer.pattern.String"},
        Case{"/pre_tokenizer", R"({"type": "UnicodeScripts"})",
             "pre_tokenizer.type: got \"UnicodeScripts\""},
        Case{
            "/pre_tokenizer",
            R"({"type": "Split", "pattern": {"Regex": "(a)\\1"}, "behavior": "Isolated", "invert": false})",
            "pre_tokenizer.pattern.Regex"},
        Case{"/pre_tokenizer",
             R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolatd"})",
             "pre_tokenizer.behavior"},
        Case{"/pre_tokenizer", R"({"type": "Split", "pattern": "a", "behavior": "Isolated"})",
             "pre_tokenizer.pattern"},
        Case{"/pre_tokenizer", R"({"type": "FixedLength", "length": 0})", "pre_tokenizer.length"},
        Case{"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "ab"})",
             "pre_tokenizer.replacement"},
        Case{"/pre_tokenizer",
             R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
             "prepend_scheme"},
        Case{"/post_processor/type", "\"Nothing\"", "post_processor.type"},
        Case{"/post_processor/single", "[]", "post_processor.single"},
        Case{"/post_processor/special_tokens", "{}", "post_processor.special_tokens.<s>"},
        Case{"/post_processor/special_tokens/<s>/ids/0", "99", "ids[0]"},
        Case{"/post_processor/single/1/Sequence/id", "\"B\"",
             "post_processor.single[1].Sequence.id"},
        Case{"/post_processor",
             R"({"type": "RobertaProcessing", "cls": ["<s>", 5], "sep": ["</s>", 6]})",
             "post_processor.sep"},
        Case{"/decoder/type", "\"CTC\"", "decoder.type: got \"CTC\""},
        Case{"/decoder", R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})",
             "decoder.start"}));

TEST(BadTokenizerFile, NotEvenJson) {
  for (const std::string text : {"", "{", "null", "[]", "{\"model\":", "{\"a\":\"\xFF\"}",
                                 "{\"a\":1e999}", "\xEF\xBB\xBF"}) {
    const auto tokenizer = Tokenizer::FromJson(text);
    ASSERT_FALSE(tokenizer) << text;
    EXPECT_THAT(tokenizer.error().Describe(), HasSubstr("tokenizer.json"));
  }
  EXPECT_FALSE(Tokenizer::FromJson(std::string(1 << 20, '[')));
  EXPECT_FALSE(Tokenizer::FromJson("{\"normalizer\":" + std::string(1 << 20, '[')));
}

TEST(BadTokenizerFile, DuplicateTokensAndMissingFiles) {
  const auto twice =
      Tokenizer::FromJson(R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}})");
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().Describe(), HasSubstr("duplicate token"));
  const auto missing = Tokenizer::Load(kData / "no such directory");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().Describe(), HasSubstr("tokenizer.json"));
}

TEST(BadTokenizerFile, WrongConfig) {
  const std::string good = Small().dump();
  for (const char* config :
       {"[]", "{", R"({"bos_token": 3})", R"({"eos_token": {"contents": "x"}})",
        R"({"pad_token": {"content": 1}})"}) {
    const auto tokenizer = Tokenizer::FromJson(good, config);
    ASSERT_FALSE(tokenizer) << config;
    EXPECT_THAT(tokenizer.error().Describe(), HasSubstr("tokenizer_config.json"));
  }
  // A name that the vocabulary lacks has no id; special_tokens_map.json fills in
  const auto tokenizer = Tokenizer::FromJson(good, R"({"bos_token": "<none>"})",
                                             R"({"eos_token": "<s>", "bos_token": "<s>"})");
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ((*tokenizer)->bos()->text, "<none>");
  EXPECT_FALSE((*tokenizer)->bos()->id);
  EXPECT_EQ((*tokenizer)->eos()->id, 5);
}

// Bytes of real files changed, cut, doubled: an error or a tokenizer that works.
TEST(BadTokenizerFile, Mutations) {
  std::mt19937 random(3);
  for (const char* name : {"metaspace", "llama3", "clip"}) {
    const std::string good = ReadFile(kData / name / "tokenizer.json");
    const size_t head = std::min<size_t>(good.size(), good.find("\"vocab\""));
    int loaded = 0;
    for (int round = 0; round < 120; ++round) {
      std::string bad = good;
      for (int i = 0; i < 1 + static_cast<int>(random() % 3); ++i) {
        const size_t at = random() % (round % 2 ? head : bad.size());
        switch (random() % 4) {
          case 0: bad[at] = static_cast<char>(random()); break;
          case 1: bad.erase(at, random() % 40); break;
          case 2: bad.insert(at, bad.substr(random() % bad.size(), random() % 40)); break;
          default: bad[at] = "0123456789\"{}[],:-"[random() % 18]; break;
        }
      }
      const auto tokenizer = Tokenizer::FromJson(bad);
      if (!tokenizer) {
        EXPECT_FALSE(tokenizer.error().Describe().empty());
        continue;
      }
      ++loaded;
      const auto ids =
          (*tokenizer)->Encode("Hello naïve 漢字 123 <s> don't\n", SpecialParsing::kParse, true);
      (*tokenizer)->Decode(ids, false);
    }
    std::printf("%s: %d of 120 mutants loaded\n", name, loaded);
  }
}

}  // namespace
}  // namespace tessera
