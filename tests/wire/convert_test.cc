// Every check of server/wire/convert.cc, one row each: what is changed in a good request, and which
// field the error names.
#include "server/wire/convert.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "server/wire/status_map.h"
#include "tessera/v1/tessera.pb.h"

namespace tessera {
namespace {

namespace pb = tessera::v1;

pb::GenerateRequest Good() {
  pb::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role(pb::ROLE_USER);
  message->add_parts()->mutable_image()->set_data("JPEG bytes");
  message->add_parts()->set_text("What is this?");
  return request;
}

Result<GenerateInput> Convert(const pb::GenerateRequest& request, const InputLimits& limits = {}) {
  return ConvertGenerate(StringPayload(request.SerializeAsString()), limits);
}

TEST(Convert, KeepsEverything) {
  pb::GenerateRequest request = Good();
  request.set_model("demo");
  request.set_client_request_id("job-17.a_b");
  request.set_n(3);
  request.set_logprobs(0);
  request.set_date_string("26 Jul 2024");
  request.set_keep_special_tokens(true);
  auto* sampling = request.mutable_sampling();
  sampling->set_temperature(0);
  sampling->set_top_k(5);
  sampling->set_top_p(0.5f);
  sampling->set_min_p(1);
  sampling->set_repetition_penalty(10);
  sampling->set_frequency_penalty(-10);
  sampling->set_presence_penalty(10);
  sampling->set_seed(std::numeric_limits<uint64_t>::max());
  (*sampling->mutable_logit_bias())[7] = 1.5f;
  (*sampling->mutable_logit_bias())[3] = -100;
  request.mutable_limits()->set_max_tokens(9);
  request.mutable_limits()->set_min_tokens(9);
  request.mutable_stopping()->add_stop("END");
  request.mutable_stopping()->set_include_stop(true);
  request.mutable_stopping()->add_stop_token_ids(11);
  request.mutable_stopping()->set_ignore_eos(true);
  const auto input = Convert(request);
  ASSERT_TRUE(input) << input.error().Describe();
  EXPECT_EQ(input->model, "demo");
  EXPECT_EQ(input->client_request_id, "job-17.a_b");
  EXPECT_EQ(input->n, 3);
  EXPECT_EQ(input->logprobs, 0);
  EXPECT_EQ(input->prompt.date_string, "26 Jul 2024");
  EXPECT_TRUE(input->keep_special_tokens);
  EXPECT_EQ(input->sampling.temperature, 0.0f);
  EXPECT_EQ(input->sampling.top_k, 5);
  EXPECT_EQ(input->sampling.top_p, 0.5f);
  EXPECT_EQ(input->sampling.min_p, 1.0f);
  EXPECT_EQ(input->sampling.repetition_penalty, 10.0f);
  EXPECT_EQ(input->sampling.frequency_penalty, -10.0f);
  EXPECT_EQ(input->sampling.presence_penalty, 10.0f);
  EXPECT_EQ(input->sampling.seed, std::numeric_limits<uint64_t>::max());
  ASSERT_EQ(input->sampling.bias.size(), 2u);
  EXPECT_EQ(input->sampling.bias[0].id, 3);  // ascending
  EXPECT_EQ(input->sampling.bias[1].bias, 1.5f);
  EXPECT_EQ(input->max_tokens, 9);
  EXPECT_EQ(input->min_tokens, 9);
  EXPECT_EQ(input->stop, std::vector<std::string>{"END"});
  EXPECT_TRUE(input->include_stop);
  EXPECT_EQ(input->stop_token_ids, std::vector<int32_t>{11});
  EXPECT_TRUE(input->ignore_eos);
  ASSERT_EQ(input->prompt.images.size(), 1u);
  EXPECT_EQ(input->prompt.images[0].file, "JPEG bytes");
  EXPECT_EQ(input->prompt.images[0].field, "chat.messages[0].parts[0].image");
  ASSERT_EQ(input->prompt.messages.size(), 1u);
  ASSERT_EQ(input->prompt.messages[0].parts.size(), 2u);
  EXPECT_TRUE(input->prompt.messages[0].parts[0].is_image);
  EXPECT_EQ(input->prompt.messages[0].parts[1].text, "What is this?");
}

TEST(Convert, UnsetStaysUnset) {
  const auto input = Convert(Good());
  ASSERT_TRUE(input);
  EXPECT_EQ(input->n, 1);
  EXPECT_EQ(input->logprobs, -1);
  EXPECT_FALSE(input->max_tokens);
  EXPECT_FALSE(input->sampling.temperature);
  EXPECT_FALSE(input->sampling.seed);
  EXPECT_EQ(input->prompt.date_string, "");
}

struct BadCase {
  const char* name;
  std::function<void(pb::GenerateRequest&)> change;
  const char* field;
  ErrorCode code = ErrorCode::kInvalidArgument;
};

pb::SamplingParams& Sampling(pb::GenerateRequest& r) { return *r.mutable_sampling(); }
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint32_t kHuge = std::numeric_limits<uint32_t>::max();

const std::vector<BadCase>& BadCases() {
  static const std::vector<BadCase> cases = {
      {"no prompt", [](auto& r) { r.clear_chat(); }, "prompt"},
      {"no messages", [](auto& r) { r.mutable_chat()->clear_messages(); }, "chat.messages"},
      {"too many messages",
       [](auto& r) {
         for (int i = 0; i < 1100; ++i) *r.mutable_chat()->add_messages() = r.chat().messages(0);
       },
       "chat.messages"},
      {"empty message", [](auto& r) { r.mutable_chat()->add_messages()->set_role(pb::ROLE_USER); },
       "chat.messages[1]"},
      {"message of empty text",
       [](auto& r) {
         auto* m = r.mutable_chat()->add_messages();
         m->set_role(pb::ROLE_USER);
         m->add_parts()->set_text("");
       },
       "chat.messages[1]"},
      {"no role", [](auto& r) { r.mutable_chat()->mutable_messages(0)->clear_role(); },
       "chat.messages[0].role"},
      {"unknown role",
       [](auto& r) { r.mutable_chat()->mutable_messages(0)->set_role(static_cast<pb::Role>(77)); },
       "chat.messages[0].role"},
      {"part of no kind", [](auto& r) { r.mutable_chat()->mutable_messages(0)->add_parts(); },
       "chat.messages[0].parts[2]"},
      {"part of a kind of the future",
       [](auto& r) {
         auto* part = r.mutable_chat()->mutable_messages(0)->add_parts();
         part->GetReflection()->MutableUnknownFields(part)->AddLengthDelimited(9, "video");
       },
       "chat.messages[0].parts[2]"},
      {"too many parts",
       [](auto& r) {
         for (int i = 0; i < 4096; ++i)
           r.mutable_chat()->mutable_messages(0)->add_parts()->set_text("x");
       },
       "chat.messages[0].parts"},
      {"empty picture",
       [](auto& r) {
         r.mutable_chat()->mutable_messages(0)->mutable_parts(0)->mutable_image()->clear_data();
       },
       "chat.messages[0].parts[0].image"},
      {"picture too large",
       [](auto& r) {
         r.mutable_chat()->mutable_messages(0)->mutable_parts(0)->mutable_image()->set_data(
             std::string((32 << 20) + 1, 'x'));
       },
       "chat.messages[0].parts[0].image"},
      {"pictures too large together",
       [](auto& r) {
         auto* m = r.mutable_chat()->mutable_messages(0);
         for (int i = 0; i < 2; ++i)
           m->add_parts()->mutable_image()->set_data(std::string(24 << 20, 'x'));
       },
       "chat.messages[0].parts[3].image"},
      {"too many pictures",
       [](auto& r) {
         auto* m = r.mutable_chat()->mutable_messages(0);
         for (int i = 0; i < 16; ++i) m->add_parts()->mutable_image()->set_data("x");
       },
       "chat.messages[0].parts[17].image"},
      {"too much text",
       [](auto& r) {
         r.mutable_chat()->mutable_messages(0)->mutable_parts(1)->set_text(
             std::string((4 << 20) + 1, 'x'));
       },
       "chat.messages[0].parts[1].text"},
      {"raw prompt not allowed", [](auto& r) { r.mutable_raw()->set_text("x"); }, "raw",
       ErrorCode::kPermissionDenied},
      {"temperature NaN", [](auto& r) { Sampling(r).set_temperature(kNan); },
       "sampling.temperature"},
      {"temperature negative", [](auto& r) { Sampling(r).set_temperature(-0.1f); },
       "sampling.temperature"},
      {"temperature infinite", [](auto& r) { Sampling(r).set_temperature(kInf); },
       "sampling.temperature"},
      {"temperature 101", [](auto& r) { Sampling(r).set_temperature(101); },
       "sampling.temperature"},
      {"top_k huge", [](auto& r) { Sampling(r).set_top_k(kHuge); }, "sampling.top_k"},
      {"top_p 0", [](auto& r) { Sampling(r).set_top_p(0); }, "sampling.top_p"},
      {"top_p 1.1", [](auto& r) { Sampling(r).set_top_p(1.1f); }, "sampling.top_p"},
      {"top_p NaN", [](auto& r) { Sampling(r).set_top_p(kNan); }, "sampling.top_p"},
      {"min_p -1", [](auto& r) { Sampling(r).set_min_p(-1); }, "sampling.min_p"},
      {"min_p NaN", [](auto& r) { Sampling(r).set_min_p(kNan); }, "sampling.min_p"},
      {"repetition 0", [](auto& r) { Sampling(r).set_repetition_penalty(0); },
       "sampling.repetition_penalty"},
      {"repetition inf", [](auto& r) { Sampling(r).set_repetition_penalty(kInf); },
       "sampling.repetition_penalty"},
      {"frequency 11", [](auto& r) { Sampling(r).set_frequency_penalty(11); },
       "sampling.frequency_penalty"},
      {"presence -11", [](auto& r) { Sampling(r).set_presence_penalty(-11); },
       "sampling.presence_penalty"},
      {"bias NaN", [](auto& r) { (*Sampling(r).mutable_logit_bias())[1] = kNan; },
       "sampling.logit_bias"},
      {"bias 101", [](auto& r) { (*Sampling(r).mutable_logit_bias())[1] = 101; },
       "sampling.logit_bias"},
      {"bias id huge", [](auto& r) { (*Sampling(r).mutable_logit_bias())[kHuge] = 1; },
       "sampling.logit_bias"},
      {"too many biases",
       [](auto& r) {
         for (uint32_t i = 0; i < 1025; ++i) (*Sampling(r).mutable_logit_bias())[i] = 1;
       },
       "sampling.logit_bias"},
      {"max_tokens 0", [](auto& r) { r.mutable_limits()->set_max_tokens(0); }, "limits.max_tokens"},
      {"max_tokens huge", [](auto& r) { r.mutable_limits()->set_max_tokens(kHuge); },
       "limits.max_tokens"},
      {"min_tokens huge", [](auto& r) { r.mutable_limits()->set_min_tokens(kHuge); },
       "limits.min_tokens"},
      {"min above max",
       [](auto& r) {
         r.mutable_limits()->set_max_tokens(5);
         r.mutable_limits()->set_min_tokens(6);
       },
       "limits.min_tokens"},
      {"17 stop strings",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.mutable_stopping()->add_stop(std::string(1, 'x'));
       },
       "stopping.stop"},
      {"long stop string", [](auto& r) { r.mutable_stopping()->add_stop(std::string(257, 'x')); },
       "stopping.stop[0]"},
      {"empty stop string", [](auto& r) { r.mutable_stopping()->add_stop(std::string()); },
       "stopping.stop[0]"},
      {"65 stop ids",
       [](auto& r) {
         for (int i = 0; i < 65; ++i) r.mutable_stopping()->add_stop_token_ids(1);
       },
       "stopping.stop_token_ids"},
      {"stop id huge", [](auto& r) { r.mutable_stopping()->add_stop_token_ids(kHuge); },
       "stopping.stop_token_ids"},
      {"n 17", [](auto& r) { r.set_n(17); }, "n"},
      {"n huge", [](auto& r) { r.set_n(kHuge); }, "n"},
      {"logprobs 21", [](auto& r) { r.set_logprobs(21); }, "logprobs"},
      {"long request id", [](auto& r) { r.set_client_request_id(std::string(65, 'a')); },
       "client_request_id"},
      {"forged log line", [](auto& r) { r.set_client_request_id("a\nb"); }, "client_request_id"},
      {"model with a path", [](auto& r) { r.set_model("../../etc/passwd"); }, "model"},
      {"long model name", [](auto& r) { r.set_model(std::string(65, 'a')); }, "model"},
      {"long date", [](auto& r) { r.set_date_string(std::string(33, '1')); }, "date_string"},
  };
  return cases;
}

TEST(Convert, RefusesAndNamesTheField) {
  for (const BadCase& bad : BadCases()) {
    SCOPED_TRACE(bad.name);
    pb::GenerateRequest request = Good();
    bad.change(request);
    const auto input = Convert(request);
    if (input) {
      ADD_FAILURE() << "accepted";
      continue;
    }
    EXPECT_EQ(input.error().code, bad.code) << input.error().Describe();
    EXPECT_EQ(input.error().field, bad.field) << input.error().Describe();
    const WireStatus status = ToWireStatus(input.error(), "r-1");
    // What the error names reaches the client: the filter knows all our fields.
    EXPECT_NE(status.message.find(bad.field), std::string::npos) << status.message;
  }
}

TEST(Convert, ExactlyAtTheLimitIsTaken) {
  pb::GenerateRequest request = Good();
  request.set_n(16);
  request.set_logprobs(20);
  request.set_client_request_id(std::string(64, 'a'));
  request.set_date_string(std::string(32, '1'));
  for (int i = 0; i < 16; ++i) request.mutable_stopping()->add_stop(std::string(256, 'x'));
  for (int i = 0; i < 64; ++i) request.mutable_stopping()->add_stop_token_ids(1);
  for (uint32_t i = 0; i < 1024; ++i) (*request.mutable_sampling()->mutable_logit_bias())[i] = 100;
  auto* message = request.mutable_chat()->mutable_messages(0);
  message->mutable_parts(0)->mutable_image()->set_data(std::string(32 << 20, 'x'));
  message->add_parts()->mutable_image()->set_data(std::string(16 << 20, 'x'));
  message->mutable_parts(1)->set_text(std::string(4 << 20, 'x'));
  const auto input = Convert(request);
  EXPECT_TRUE(input) << input.error().Describe();
}

TEST(Convert, RawPromptsWhereAllowed) {
  const InputLimits limits{.allow_raw_prompts = true};
  pb::GenerateRequest request;
  request.mutable_raw()->set_text("<|image|>Hello");
  request.mutable_raw()->add_images()->set_data("x");
  auto input = Convert(request, limits);
  ASSERT_TRUE(input) << input.error().Describe();
  EXPECT_EQ(input->prompt.kind, PromptInput::Kind::kRawText);
  EXPECT_EQ(input->prompt.images[0].field, "raw.images[0]");
  request.mutable_raw()->add_token_ids(5);
  EXPECT_EQ(Convert(request, limits).error().field, "raw.token_ids");  // both
  request.mutable_raw()->clear_text();
  input = Convert(request, limits);
  ASSERT_TRUE(input);
  EXPECT_EQ(input->prompt.token_ids, std::vector<int32_t>{5});
  request.mutable_raw()->set_token_ids(0, kHuge);
  EXPECT_EQ(Convert(request, limits).error().field, "raw.token_ids");
  request.mutable_raw()->clear_token_ids();
  EXPECT_EQ(Convert(request, limits).error().field, "raw");  // neither
}

TEST(Convert, Tokenize) {
  pb::TokenizeRequest request;
  const auto convert = [&] {
    return ConvertTokenize(StringPayload(request.SerializeAsString()), {});
  };
  EXPECT_EQ(convert().error().field, "prompt");
  request.set_text("<|image|>");
  ASSERT_TRUE(convert());
  EXPECT_EQ(convert()->prompt.kind, PromptInput::Kind::kUserText);
  *request.mutable_chat() = Good().chat();
  ASSERT_TRUE(convert());
  EXPECT_EQ(convert()->prompt.images.size(), 1u);
}

}  // namespace
}  // namespace tessera
