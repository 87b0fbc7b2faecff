#include "server/wire/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "server/wire/scan.h"
#include "tessera/v1/tessera.pb.h"

namespace tessera {
namespace {

namespace pb = tessera::v1;

// Room for names, stop strings and dates beside the text itself, so that it is the exact checks
// below that refuse them.
constexpr ScanLimits kGenerateScan{
    .submessages = 2 * kMaxParts + kMaxMessages + kMaxLogitBias + 1024,
    .elements = kMaxTokenIds + 65536,
    .string_bytes = kMaxTextBytes + 65536};
constexpr ScanLimits kSmallScan{.submessages = 16, .elements = 64, .string_bytes = 65536};

// Scans, then parses.
template <typename Message>
Result<Message> Parse(const Payload& payload, const ScanLimits& scan) {
  if (payload.size() > kMaxMessageBytes) {
    return Invalid("the message is too large", {.limit = fmt::format("{} bytes", kMaxMessageBytes),
                                                .value = std::to_string(payload.size())});
  }
  TESSERA_RETURN_IF_ERROR(ScanMessage(payload, *Message::descriptor(), scan));
  Message message;
  const auto stream = payload.Open();
  if (!message.ParseFromZeroCopyStream(stream.get())) {
    return Invalid("the request is not a well-formed protocol buffer message");
  }
  return message;
}

Result<void> CheckCount(Literal what, std::string_view field, int64_t count, int64_t limit) {
  if (count <= limit) return {};
  return Invalid(what, {.field = std::string(field),
                        .limit = std::to_string(limit),
                        .value = std::to_string(count)});
}

Result<void> CheckRange(std::string_view field, float value, float low, float high,
                        bool open_low = false) {
  if (value >= low && value <= high && !(open_low && value == low)) return {};  // false for NaN
  return Invalid("the value is out of range",
                 {.field = std::string(field),
                  .limit = fmt::format("{}{}, {}]", open_low ? '(' : '[', low, high),
                  .value = fmt::format("{}", value)});
}

bool IsName(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

Result<std::string> Name(std::string_view field, std::string text) {
  TESSERA_RETURN_IF_ERROR(
      CheckCount("the name is too long", field, static_cast<int64_t>(text.size()), kMaxNameBytes));
  if (!IsName(text))
    return Invalid("the name has characters that are not allowed",
                   {.field = std::string(field), .limit = "A-Z a-z 0-9 . _ -"});
  return text;
}

Result<int32_t> TokenId(std::string_view field, uint32_t id) {
  constexpr uint32_t limit = std::numeric_limits<int32_t>::max();
  if (id > limit)
    return Invalid("no such token", {.field = std::string(field), .value = std::to_string(id)});
  return static_cast<int32_t>(id);
}

// Collects pictures and text of one prompt against the limits of all of them together.
class PromptBuilder {
 public:
  explicit PromptBuilder(const InputLimits& limits) : limits_(limits) {}

  Result<PromptInput> Chat(pb::Conversation& chat) {
    prompt_.kind = PromptInput::Kind::kChat;
    if (chat.messages_size() == 0)
      return Invalid("there are no messages", {.field = "chat.messages", .limit = "at least 1"});
    TESSERA_RETURN_IF_ERROR(
        CheckCount("too many messages", "chat.messages", chat.messages_size(), kMaxMessages));
    int64_t parts = 0;
    for (int m = 0; m < chat.messages_size(); ++m) {
      pb::Message& message = *chat.mutable_messages(m);
      const std::string field = fmt::format("chat.messages[{}]", m);
      parts += message.parts_size();
      TESSERA_RETURN_IF_ERROR(CheckCount("too many parts", field + ".parts", parts, kMaxParts));
      TESSERA_TRY(InputMessage converted, ConvertMessage(message, field));
      prompt_.messages.push_back(std::move(converted));
    }
    return std::move(prompt_);
  }

  Result<PromptInput> Raw(pb::RawPrompt& raw) {
    if (!limits_.allow_raw_prompts) {
      return Fail(ErrorCode::kPermissionDenied, "this server takes no raw prompts",
                  {.field = "raw"});
    }
    for (int i = 0; i < raw.images_size(); ++i) {
      TESSERA_RETURN_IF_ERROR(AddImage(*raw.mutable_images(i), fmt::format("raw.images[{}]", i)));
    }
    if (raw.token_ids_size() > 0) {
      if (!raw.text().empty())
        return Invalid("give either text or token ids", {.field = "raw.token_ids"});
      TESSERA_RETURN_IF_ERROR(
          CheckCount("too many token ids", "raw.token_ids", raw.token_ids_size(), kMaxTokenIds));
      prompt_.kind = PromptInput::Kind::kRawTokens;
      prompt_.token_ids.reserve(static_cast<size_t>(raw.token_ids_size()));
      for (const uint32_t id : raw.token_ids()) {
        TESSERA_TRY(const int32_t checked, TokenId("raw.token_ids", id));
        prompt_.token_ids.push_back(checked);
      }
      return std::move(prompt_);
    }
    if (raw.text().empty()) return Invalid("the prompt is empty", {.field = "raw"});
    TESSERA_RETURN_IF_ERROR(AddText(raw.text(), "raw.text"));
    prompt_.kind = PromptInput::Kind::kRawText;
    prompt_.text = std::move(*raw.mutable_text());
    return std::move(prompt_);
  }

  Result<PromptInput> UserText(std::string text) {
    TESSERA_RETURN_IF_ERROR(AddText(text, "text"));
    prompt_.kind = PromptInput::Kind::kUserText;
    prompt_.text = std::move(text);
    return std::move(prompt_);
  }

 private:
  Result<InputMessage> ConvertMessage(pb::Message& message, const std::string& field) {
    InputMessage out;
    switch (message.role()) {
      case pb::ROLE_SYSTEM: out.role = Role::kSystem; break;
      case pb::ROLE_USER: out.role = Role::kUser; break;
      case pb::ROLE_ASSISTANT: out.role = Role::kAssistant; break;
      case pb::ROLE_TOOL: out.role = Role::kTool; break;
      default:
        return Invalid("the role is not known",
                       {.field = field + ".role",
                        .limit = "ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL",
                        .value = std::to_string(static_cast<int>(message.role()))});
    }
    bool empty = true;
    for (int p = 0; p < message.parts_size(); ++p) {
      pb::Part& part = *message.mutable_parts(p);
      const std::string part_field = fmt::format("{}.parts[{}]", field, p);
      switch (part.kind_case()) {
        case pb::Part::kText:
          TESSERA_RETURN_IF_ERROR(AddText(part.text(), part_field + ".text"));
          empty = empty && part.text().empty();
          out.parts.push_back({.text = std::move(*part.mutable_text())});
          break;
        case pb::Part::kImage:
          TESSERA_RETURN_IF_ERROR(AddImage(*part.mutable_image(), part_field + ".image"));
          empty = false;
          out.parts.push_back({.is_image = true});
          break;
        case pb::Part::KIND_NOT_SET:
          // A kind that this server does not know yet also ends here: nothing is left out silently.
          return Invalid("the part is of no known kind",
                         {.field = part_field, .limit = "text, image"});
      }
    }
    if (empty) return Invalid("the message is empty", {.field = field});
    return out;
  }

  Result<void> AddText(std::string_view text, const std::string& field) {
    text_bytes_ += static_cast<int64_t>(text.size());
    if (text_bytes_ <= kMaxTextBytes) return {};
    return Invalid("too much text",
                   {.field = field, .limit = fmt::format("{} bytes in all", kMaxTextBytes)});
  }

  Result<void> AddImage(pb::Image& image, std::string field) {
    const auto bytes = static_cast<int64_t>(image.data().size());
    if (bytes == 0) return Invalid("the picture is empty", {.field = field});
    if (bytes > limits_.image_bytes) {
      return Invalid("the picture's file is too large",
                     {.field = field,
                      .limit = fmt::format("{} bytes", limits_.image_bytes),
                      .value = std::to_string(bytes)});
    }
    image_bytes_ += bytes;
    if (image_bytes_ > limits_.images_bytes) {
      return Invalid("the pictures' files are too large together",
                     {.field = field,
                      .limit = fmt::format("{} bytes", limits_.images_bytes),
                      .value = std::to_string(image_bytes_)});
    }
    TESSERA_RETURN_IF_ERROR(CheckCount("too many pictures", field,
                                       static_cast<int64_t>(prompt_.images.size()) + 1,
                                       limits_.images));
    prompt_.images.push_back({.file = std::move(*image.mutable_data()), .field = std::move(field)});
    return {};
  }

  const InputLimits& limits_;
  PromptInput prompt_;
  int64_t text_bytes_ = 0;
  int64_t image_bytes_ = 0;
};

Result<SamplingInput> ConvertSampling(const pb::SamplingParams& in) {
  SamplingInput out;
  if (in.has_temperature()) {
    TESSERA_RETURN_IF_ERROR(
        CheckRange("sampling.temperature", in.temperature(), 0, kMaxTemperature));
    out.temperature = in.temperature();
  }
  if (in.has_top_k()) {
    TESSERA_RETURN_IF_ERROR(
        CheckCount("the value is out of range", "sampling.top_k", in.top_k(), kMaxTopK));
    out.top_k = static_cast<int32_t>(in.top_k());
  }
  if (in.has_top_p()) {
    TESSERA_RETURN_IF_ERROR(CheckRange("sampling.top_p", in.top_p(), 0, 1, /*open_low=*/true));
    out.top_p = in.top_p();
  }
  if (in.has_min_p()) {
    TESSERA_RETURN_IF_ERROR(CheckRange("sampling.min_p", in.min_p(), 0, 1));
    out.min_p = in.min_p();
  }
  if (in.has_repetition_penalty()) {
    TESSERA_RETURN_IF_ERROR(CheckRange("sampling.repetition_penalty", in.repetition_penalty(), 0,
                                       kMaxRepetitionPenalty, /*open_low=*/true));
    out.repetition_penalty = in.repetition_penalty();
  }
  if (in.has_frequency_penalty()) {
    TESSERA_RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", in.frequency_penalty(),
                                       -kMaxPenalty, kMaxPenalty));
    out.frequency_penalty = in.frequency_penalty();
  }
  if (in.has_presence_penalty()) {
    TESSERA_RETURN_IF_ERROR(
        CheckRange("sampling.presence_penalty", in.presence_penalty(), -kMaxPenalty, kMaxPenalty));
    out.presence_penalty = in.presence_penalty();
  }
  if (in.has_seed()) out.seed = in.seed();
  TESSERA_RETURN_IF_ERROR(CheckCount("too many biases", "sampling.logit_bias",
                                     static_cast<int64_t>(in.logit_bias().size()), kMaxLogitBias));
  for (const auto& [id, bias] : in.logit_bias()) {
    TESSERA_TRY(const int32_t checked, TokenId("sampling.logit_bias", id));
    TESSERA_RETURN_IF_ERROR(CheckRange("sampling.logit_bias", bias, -kMaxBias, kMaxBias));
    out.bias.push_back({checked, bias});
  }
  std::sort(out.bias.begin(), out.bias.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.id < b.id; });
  return out;
}

Result<void> ConvertLimits(const pb::Limits& in, GenerateInput& out) {
  if (in.has_max_tokens()) {
    if (in.max_tokens() == 0)
      return Invalid("the value is out of range",
                     {.field = "limits.max_tokens", .limit = "at least 1", .value = "0"});
    TESSERA_RETURN_IF_ERROR(
        CheckCount("the value is out of range", "limits.max_tokens", in.max_tokens(), kMaxTokens));
    out.max_tokens = static_cast<int32_t>(in.max_tokens());
  }
  TESSERA_RETURN_IF_ERROR(
      CheckCount("the value is out of range", "limits.min_tokens", in.min_tokens(), kMaxTokens));
  out.min_tokens = static_cast<int32_t>(in.min_tokens());
  if (out.max_tokens && out.min_tokens > *out.max_tokens) {
    return Invalid("min_tokens is larger than max_tokens",
                   {.field = "limits.min_tokens",
                    .limit = std::to_string(*out.max_tokens),
                    .value = std::to_string(out.min_tokens)});
  }
  return {};
}

Result<void> ConvertStopping(pb::StopConditions& in, GenerateInput& out) {
  TESSERA_RETURN_IF_ERROR(
      CheckCount("too many stop strings", "stopping.stop", in.stop_size(), kMaxStopStrings));
  for (int i = 0; i < in.stop_size(); ++i) {
    const std::string field = fmt::format("stopping.stop[{}]", i);
    if (in.stop(i).empty())
      return Invalid("the stop string is empty", {.field = field, .limit = "at least 1 byte"});
    TESSERA_RETURN_IF_ERROR(CheckCount("the stop string is too long", field,
                                       static_cast<int64_t>(in.stop(i).size()), kMaxStopBytes));
    out.stop.push_back(std::move(*in.mutable_stop(i)));
  }
  out.include_stop = in.include_stop();
  TESSERA_RETURN_IF_ERROR(CheckCount("too many stop token ids", "stopping.stop_token_ids",
                                     in.stop_token_ids_size(), kMaxStopTokenIds));
  for (const uint32_t id : in.stop_token_ids()) {
    TESSERA_TRY(const int32_t checked, TokenId("stopping.stop_token_ids", id));
    out.stop_token_ids.push_back(checked);
  }
  out.ignore_eos = in.ignore_eos();
  return {};
}

Result<std::string> Date(std::string text) {
  TESSERA_RETURN_IF_ERROR(CheckCount("the date is too long", "date_string",
                                     static_cast<int64_t>(text.size()), kMaxDateBytes));
  return text;
}

}  // namespace

Result<GenerateInput> ConvertGenerate(const Payload& payload, const InputLimits& limits) {
  TESSERA_TRY(pb::GenerateRequest in, Parse<pb::GenerateRequest>(payload, kGenerateScan));
  GenerateInput out;
  TESSERA_TRY(out.model, Name("model", std::move(*in.mutable_model())));
  TESSERA_TRY(out.client_request_id,
              Name("client_request_id", std::move(*in.mutable_client_request_id())));
  TESSERA_RETURN_IF_ERROR(CheckCount("too many choices", "n", in.n(), kMaxChoices));
  out.n = std::max<int32_t>(1, static_cast<int32_t>(in.n()));
  if (in.has_logprobs()) {
    TESSERA_RETURN_IF_ERROR(
        CheckCount("the value is out of range", "logprobs", in.logprobs(), kMaxLogprobs));
    out.logprobs = static_cast<int32_t>(in.logprobs());
  }
  out.keep_special_tokens = in.keep_special_tokens();
  TESSERA_TRY(out.sampling, ConvertSampling(in.sampling()));
  TESSERA_RETURN_IF_ERROR(ConvertLimits(in.limits(), out));
  TESSERA_RETURN_IF_ERROR(ConvertStopping(*in.mutable_stopping(), out));
  TESSERA_TRY(std::string date, Date(std::move(*in.mutable_date_string())));
  PromptBuilder builder(limits);
  switch (in.prompt_case()) {
    case pb::GenerateRequest::kChat: {
      TESSERA_TRY(out.prompt, builder.Chat(*in.mutable_chat()));
      break;
    }
    case pb::GenerateRequest::kRaw: {
      TESSERA_TRY(out.prompt, builder.Raw(*in.mutable_raw()));
      break;
    }
    case pb::GenerateRequest::PROMPT_NOT_SET:
      return Invalid("there is no prompt of a known kind",
                     {.field = "prompt", .limit = "chat, raw"});
  }
  out.prompt.date_string = std::move(date);
  return out;
}

Result<TokenizeInput> ConvertTokenize(const Payload& payload, const InputLimits& limits) {
  TESSERA_TRY(pb::TokenizeRequest in, Parse<pb::TokenizeRequest>(payload, kGenerateScan));
  TokenizeInput out;
  TESSERA_TRY(out.model, Name("model", std::move(*in.mutable_model())));
  TESSERA_TRY(std::string date, Date(std::move(*in.mutable_date_string())));
  PromptBuilder builder(limits);
  switch (in.prompt_case()) {
    case pb::TokenizeRequest::kChat: {
      TESSERA_TRY(out.prompt, builder.Chat(*in.mutable_chat()));
      break;
    }
    case pb::TokenizeRequest::kText: {
      TESSERA_TRY(out.prompt, builder.UserText(std::move(*in.mutable_text())));
      break;
    }
    case pb::TokenizeRequest::PROMPT_NOT_SET:
      return Invalid("there is no prompt of a known kind",
                     {.field = "prompt", .limit = "chat, text"});
  }
  out.prompt.date_string = std::move(date);
  return out;
}

Result<std::string> ConvertGetModel(const Payload& payload) {
  TESSERA_TRY(pb::GetModelRequest in, Parse<pb::GetModelRequest>(payload, kSmallScan));
  return Name("model", std::move(*in.mutable_model()));
}

Result<void> ConvertListModels(const Payload& payload) {
  TESSERA_TRY(const pb::ListModelsRequest in, Parse<pb::ListModelsRequest>(payload, kSmallScan));
  (void)in;
  return {};
}

}  // namespace tessera
