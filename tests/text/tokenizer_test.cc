// The interface: names, ids, bytes, streams; encoding from several threads at once.
#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/thread_time.h"
#include "text/streaming_decoder.h"

namespace tessera {
namespace {

using testing::ElementsAre;

const std::filesystem::path kData = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/text/data";

std::shared_ptr<const Tokenizer> Load(const char* name) { return *Tokenizer::Load(kData / name); }

TEST(TokenizerTest, NamedTokensAndIds) {
  const auto tokenizer = Load("llama3");
  ASSERT_TRUE(tokenizer->bos() && tokenizer->eos() && tokenizer->pad());
  EXPECT_EQ(tokenizer->bos()->text, "<|begin_of_text|>");
  EXPECT_EQ(tokenizer->bos()->id, tokenizer->IdOf("<|begin_of_text|>"));
  EXPECT_EQ(tokenizer->pad()->text, "<|reserved_special_token_1|>");  // an object in the file
  EXPECT_FALSE(tokenizer->unk());
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_THAT(tokenizer->prefix_ids(), ElementsAre(*tokenizer->bos()->id));
  EXPECT_TRUE(tokenizer->suffix_ids().empty());
  EXPECT_EQ(tokenizer->SpecialIds().size(), 8u);
  EXPECT_TRUE(tokenizer->IsSpecial(*tokenizer->eos()->id));
  EXPECT_FALSE(tokenizer->IsSpecial(0));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_EQ(tokenizer->vocab_size(), tokenizer->SpecialIds().back() + 1);
  EXPECT_EQ(tokenizer->IdOf("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenText(-5), "");
  EXPECT_EQ(tokenizer->TokenText(1 << 30), "");
  EXPECT_FALSE(Load("gpt2")->adds_bos());
  EXPECT_FALSE(Load("llama2")->pad());  // null in the file
}

TEST(TokenizerTest, TokenBytes) {
  const auto llama3 = Load("llama3");
  EXPECT_EQ(llama3->TokenBytes(*llama3->IdOf("Ġthe")), " the");
  EXPECT_EQ(llama3->TokenBytes(*llama3->IdOf("Ć")), "\x06");
  EXPECT_EQ(llama3->TokenBytes(*llama3->IdOf("<|eot_id|>")), "<|eot_id|>");
  const auto llama2 = Load("llama2");
  EXPECT_EQ(llama2->TokenBytes(*llama2->IdOf("<0xE6>")), "\xE6");
  EXPECT_EQ(llama2->TokenBytes(*llama2->IdOf("▁the")), " the");
  EXPECT_EQ(llama2->TokenBytes(99999), "");
  // Over a whole text the bytes join to the text, whatever characters the tokens cut
  const std::string text = "naïve 😀 漢字 text";
  std::string joined;
  for (const int32_t id : llama3->Encode(text, SpecialParsing::kParse, false))
    joined += llama3->TokenBytes(id);
  EXPECT_EQ(joined, text);
}

TEST(TokenizerTest, EmptyTextAndIds) {
  for (const char* name : {"llama3", "gpt2", "llama2", "metaspace", "clip"}) {
    const auto tokenizer = Load(name);
    EXPECT_TRUE(tokenizer->Encode("", SpecialParsing::kParse, false).empty()) << name;
    EXPECT_TRUE(tokenizer->Encode(ProvenanceText(), false).empty()) << name;
    EXPECT_EQ(tokenizer->Decode({}, false), "") << name;
    const auto ids = tokenizer->Encode(ProvenanceText(), true);
    EXPECT_EQ(ids.size(), tokenizer->prefix_ids().size() + tokenizer->suffix_ids().size()) << name;
  }
}

// Callers check; if one does not, nothing breaks.
TEST(TokenizerTest, InvalidUtf8DoesNoHarm) {
  for (const char* name : {"llama3", "llama2", "metaspace", "clip", "o200k", "gpt2"}) {
    const auto tokenizer = Load(name);
    for (const std::string_view text :
         {"\xFF", "a\x80 b", "\xE2\x82", "\xF0\x9F\x98", "\xED\xA0\x80", "<|eot\xFF_id|>"})
      tokenizer->Encode(text, SpecialParsing::kParse, true);
  }
}

TEST(StreamingDecoderTest, HoldsBackHalfCharactersAndForks) {
  const auto tokenizer = Load("llama3");
  const auto ids = tokenizer->Encode("a\u13A0b", SpecialParsing::kParse, false);
  ASSERT_GE(ids.size(), 4u);
  StreamingDecoder stream(tokenizer, false);
  EXPECT_EQ(stream.Push(ids[0]), "a");
  EXPECT_TRUE(stream.empty());
  EXPECT_EQ(stream.Push(ids[1]), "");
  EXPECT_FALSE(stream.empty());
  StreamingDecoder fork = stream;
  EXPECT_EQ(fork.Flush(), "\uFFFD");
  EXPECT_TRUE(fork.empty());
  std::string rest;
  for (size_t i = 2; i < ids.size(); ++i) rest += stream.Push(ids[i]);
  EXPECT_EQ(rest, "\u13A0b");
  EXPECT_EQ(stream.Flush(), "");
}

TEST(StreamingDecoderTest, AfterFlushItStandsAtTheStart) {
  const auto tokenizer = Load("llama2");  // the first space of a text is taken away
  const int32_t the = *tokenizer->IdOf("▁the");
  StreamingDecoder stream(tokenizer, false);
  EXPECT_EQ(stream.Push(the), "the");
  EXPECT_EQ(stream.Push(the), " the");
  EXPECT_EQ(stream.Flush(), "");
  EXPECT_EQ(stream.Push(the), "the");
}

// A run of byte tokens is one unit; its cost is its length, not its square.
TEST(StreamingDecoderTest, LongRunOfByteTokens) {
  const auto tokenizer = Load("llama2");
  const int32_t byte = *tokenizer->IdOf("<0xE6>");
  StreamingDecoder stream(tokenizer, false);
  const double start = test::ThreadSeconds();
  for (int i = 0; i < 200000; ++i) ASSERT_EQ(stream.Push(byte), "");
  std::string expected;
  for (int i = 0; i < 200000; ++i) expected += "\uFFFD";
  EXPECT_EQ(stream.Flush(), expected);
  EXPECT_LT(test::ThreadSeconds() - start, 5);
}

TEST(TokenizerTest, ManyThreads) {
  const auto tokenizer = Load("llama3");
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += "The quick brown fox " + std::to_string(i) + " 漢字 naïve\n";
  const auto expected = tokenizer->Encode(text, SpecialParsing::kParse, true);
  std::vector<std::thread> threads;
  std::vector<int> equal(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const auto ids = tokenizer->Encode(text, SpecialParsing::kParse, true);
        equal[t] += ids == expected && tokenizer->Decode(ids, true) == text;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(equal, testing::Each(10));
}

}  // namespace
}  // namespace tessera
