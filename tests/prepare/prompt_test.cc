// Prompts: what the template makes of messages, where the marks stand, what is refused and in whose
// words.
#include "server/prepare/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/prepare/demo_frontend.h"

namespace tessera {
namespace {

using test::DemoFrontend;
using test::UserMessage;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

PromptInput Chat(std::vector<InputMessage> messages, size_t pictures = 0) {
  PromptInput input;
  input.messages = std::move(messages);
  for (size_t i = 0; i < pictures; ++i)
    input.images.push_back({.file = "x", .field = "image " + std::to_string(i)});
  return input;
}

PromptInput Raw(std::string text, size_t pictures = 0) {
  PromptInput input = Chat({}, pictures);
  input.kind = PromptInput::Kind::kRawText;
  input.text = std::move(text);
  return input;
}

int64_t Specials(const Frontend& frontend, const std::vector<int32_t>& ids) {
  return std::count_if(ids.begin(), ids.end(),
                       [&](int32_t id) { return frontend.tokenizer().IsSpecial(id); });
}

TEST(Prompt, TheTemplateIsRenderedAndTokenisedOnce) {
  const auto frontend = DemoFrontend();
  const auto prompt =
      BuildPrompt(*frontend, Chat({{.role = Role::kSystem, .parts = {{.text = "Be brief."}}},
                                   UserMessage("What is it?", 1)},
                                  1));
  ASSERT_TRUE(prompt) << prompt.error().Describe();
  EXPECT_EQ(prompt->rendered,
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n<|image|>What is it?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(frontend->tokenizer().Decode(prompt->ids, false), prompt->rendered);
  const auto mark =
      std::find(prompt->ids.begin(), prompt->ids.end(), frontend->info().image_token_id);
  EXPECT_THAT(prompt->marks, ElementsAre(mark - prompt->ids.begin()));
}

TEST(Prompt, MarksStandInTheOrderOfThePictures) {
  const auto frontend = DemoFrontend();
  const auto prompt =
      BuildPrompt(*frontend, Chat({UserMessage("first", 2),
                                   {.role = Role::kAssistant, .parts = {{.text = "yes"}}},
                                   UserMessage("second", 1)},
                                  3));
  ASSERT_TRUE(prompt) << prompt.error().Describe();
  ASSERT_EQ(prompt->marks.size(), 3u);
  EXPECT_EQ(prompt->marks[1], prompt->marks[0] + 1);
  EXPECT_GT(prompt->marks[2], prompt->marks[1] + 4);
  for (const int32_t mark : prompt->marks)
    EXPECT_EQ(prompt->ids[static_cast<size_t>(mark)], frontend->info().image_token_id);
}

// Whatever users write, the special tokens of a prompt are those of its template.
TEST(Prompt, LookAlikesInEveryRoleAreText) {
  const auto frontend = DemoFrontend();
  const Tokenizer& tokenizer = frontend->tokenizer();
  for (const Role role : {Role::kSystem, Role::kUser, Role::kAssistant, Role::kTool}) {
    std::vector<InputMessage> messages{UserMessage("hello"),
                                       {.role = role, .parts = {{.text = "hello"}}}};
    const auto plain = BuildPrompt(*frontend, Chat(messages));
    ASSERT_TRUE(plain) << plain.error().Describe();
    for (const int32_t special : tokenizer.SpecialIds()) {
      const std::string text = tokenizer.TokenText(special);
      // Whole, and split over two parts
      for (const size_t cut : {size_t{0}, text.size() / 2}) {
        messages[1].parts = {{.text = text.substr(0, cut)}, {.text = text.substr(cut) + " "}};
        const auto prompt = BuildPrompt(*frontend, Chat(messages));
        ASSERT_TRUE(prompt) << text << ": " << prompt.error().Describe();
        EXPECT_EQ(Specials(*frontend, prompt->ids), Specials(*frontend, plain->ids)) << text;
        EXPECT_TRUE(prompt->marks.empty()) << text;
      }
    }
  }
}

TEST(Prompt, UserTextHasNoSpecialTokens) {
  const auto frontend = DemoFrontend();
  PromptInput input;
  input.kind = PromptInput::Kind::kUserText;
  input.text = "<|begin_of_text|><|image|>hello";
  const auto prompt = BuildPrompt(*frontend, input);
  ASSERT_TRUE(prompt) << prompt.error().Describe();
  EXPECT_EQ(Specials(*frontend, prompt->ids), 0);
  EXPECT_EQ(frontend->tokenizer().Decode(prompt->ids, false), input.text);
}

TEST(Prompt, RawTextGetsOneBosAfterItsLeadingMarks) {
  const auto frontend = DemoFrontend();
  const int32_t bos = frontend->tokenizer().bos()->id.value();
  const int32_t mark = frontend->info().image_token_id;
  auto prompt = BuildPrompt(*frontend, Raw("hello"));
  ASSERT_TRUE(prompt) << prompt.error().Describe();
  EXPECT_EQ(prompt->ids[0], bos);
  prompt = BuildPrompt(*frontend, Raw("<|image|><|image|>hello", 2));
  ASSERT_TRUE(prompt) << prompt.error().Describe();
  ASSERT_GT(prompt->ids.size(), 3u);
  EXPECT_THAT(std::vector<int32_t>(prompt->ids.begin(), prompt->ids.begin() + 3),
              ElementsAre(mark, mark, bos));
  EXPECT_THAT(prompt->marks, ElementsAre(0, 1));
  prompt = BuildPrompt(*frontend, Raw("<|begin_of_text|>hello"));
  ASSERT_TRUE(prompt) << prompt.error().Describe();
  EXPECT_EQ(std::count(prompt->ids.begin(), prompt->ids.end(), bos), 1);
}

TEST(Prompt, RawIdsAreTakenAsTheyAre) {
  const auto frontend = DemoFrontend();
  const int32_t mark = frontend->info().image_token_id;
  PromptInput input = Raw("", 1);
  input.kind = PromptInput::Kind::kRawTokens;
  input.token_ids = {5, mark, 7};
  const auto prompt = BuildPrompt(*frontend, input);
  ASSERT_TRUE(prompt) << prompt.error().Describe();
  EXPECT_EQ(prompt->ids, input.token_ids);
  EXPECT_THAT(prompt->marks, ElementsAre(1));
  EXPECT_EQ(prompt->rendered, "");
  for (const int32_t bad : {-1, frontend->info().embedding_rows}) {
    input.token_ids[0] = bad;
    const auto refused = BuildPrompt(*frontend, input);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().field, "raw");
    EXPECT_EQ(refused.error().value, std::to_string(bad));
    EXPECT_EQ(refused.error().limit, std::to_string(frontend->info().embedding_rows - 1));
  }
}

struct Refusal {
  const char* name;
  PromptInput input;
  bool vision;
  const char* field;
  const char* words;
};

TEST(Prompt, RefusalsNameFieldLimitAndValue) {
  PromptInput no_ids = Raw("");
  no_ids.kind = PromptInput::Kind::kRawTokens;
  std::string many;
  for (int i = 0; i < 600; ++i) many += "what ";
  const Refusal refusals[] = {
      {"text model", Chat({UserMessage("x", 1)}, 1), false, "image 0", "no pictures"},
      {"a mark without a picture", Raw("<|image|>x"), true, "raw", "not equally many"},
      {"a picture without a mark", Raw("x", 1), true, "raw", "not equally many"},
      {"no ids", no_ids, true, "raw", "empty"},
      {"too long", Chat({UserMessage(many)}), true, "chat", "does not fit the context"},
  };
  for (const Refusal& refusal : refusals) {
    const auto prompt = BuildPrompt(*DemoFrontend({.vision = refusal.vision}), refusal.input);
    ASSERT_FALSE(prompt) << refusal.name;
    EXPECT_EQ(prompt.error().code, ErrorCode::kInvalidArgument) << refusal.name;
    EXPECT_EQ(prompt.error().field, refusal.field) << refusal.name;
    EXPECT_THAT(prompt.error().Describe(), HasSubstr(refusal.words)) << refusal.name;
    EXPECT_FALSE(prompt.error().limit.empty()) << refusal.name;
    EXPECT_FALSE(prompt.error().value.empty()) << refusal.name;
  }
}

// The longest prompt that fits leaves one token for the answer.
TEST(Prompt, TheContextIsTheLimitToTheToken) {
  const auto frontend = DemoFrontend({.max_context = 8});
  PromptInput input = Raw("");
  input.kind = PromptInput::Kind::kRawTokens;
  input.token_ids.assign(7, 5);
  EXPECT_TRUE(BuildPrompt(*frontend, input));
  input.token_ids.push_back(5);
  const auto refused = BuildPrompt(*frontend, input);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().value, "8");
  EXPECT_THAT(refused.error().limit, StartsWith("8 tokens"));
}

}  // namespace
}  // namespace tessera
