#include "server/prepare/prompt.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

// The message as Hugging Face's templates take it: content is a list of parts, or one string where
// the template wants that. Texts are joined as they are; a picture has no place in a string.
Json MessageJson(const InputMessage& message, bool parts) {
  Json json{{"role", RoleName(message.role)}};
  if (parts) {
    Json content = Json::array();
    for (const InputPart& part : message.parts) {
      if (part.is_image) {
        content.push_back({{"type", "image"}});
      } else {
        content.push_back({{"type", "text"}, {"text", part.text}});
      }
    }
    json["content"] = std::move(content);
  } else {
    std::string text;
    for (const InputPart& part : message.parts) text += part.text;
    json["content"] = std::move(text);
  }
  return json;
}

bool HasImage(const InputMessage& message) {
  for (const InputPart& part : message.parts) {
    if (part.is_image) return true;
  }
  return false;
}

// Where MllamaProcessor puts BOS: after the image marks that the text begins with
// (build_string_from_input).
size_t AfterLeadingMarks(std::string_view text, std::string_view mark) {
  size_t at = 0;
  while (!mark.empty() && text.substr(at).starts_with(mark)) at += mark.size();
  return at;
}

bool HasTemplateToken(const ProvenanceText& text, std::string_view token) {
  for (size_t at = text.text().find(token); at != std::string_view::npos;
       at = text.text().find(token, at + 1)) {
    if (text.FromTemplate(at, at + token.size())) return true;
  }
  return false;
}

// mllama: BOS is put in unless it is there; other families get it from their template or
// post-processor.
ProvenanceText WithBos(const Frontend& frontend, ProvenanceText text) {
  const auto& bos = frontend.tokenizer().bos();
  if (frontend.info().family != "mllama" || !bos || HasTemplateToken(text, bos->text)) return text;
  const std::string mark = frontend.tokenizer().TokenText(frontend.info().image_token_id);
  const size_t at = AfterLeadingMarks(text.text(), mark);
  ProvenanceText out = text.Substr(0, at);
  out.Append(bos->text, Origin::kTemplate);
  out.Append(text.Substr(at, text.size() - at));
  return out;
}

Result<Prompt> FromChat(const Frontend& frontend, const PromptInput& input) {
  const ChatTemplate* chat_template = frontend.chat_template();
  if (chat_template == nullptr)
    return Invalid("this model has no chat template", {.field = "chat"});
  Json messages = Json::array();
  for (size_t m = 0; m < input.messages.size(); ++m) {
    const InputMessage& message = input.messages[m];
    const bool parts = frontend.takes_parts(message.role);
    if (!parts && HasImage(message)) {
      return Invalid("the model's chat template takes no pictures in messages of this role",
                     {.field = fmt::format("chat.messages[{}].role", m)});
    }
    messages.push_back(MessageJson(message, parts));
  }
  auto rendered = chat_template->Render(messages, frontend.render_options(input.date_string));
  if (!rendered) {
    Error error = std::move(rendered).error();
    // Its words may quote the messages; they stay out of what the client reads.
    error.field = "chat.messages";
    error.limit.clear();
    error.value.clear();
    return tl::unexpected<Error>(std::move(error));
  }
  const ProvenanceText text = WithBos(frontend, *std::move(rendered));
  return Prompt{.ids = frontend.tokenizer().Encode(text, /*add_special_tokens=*/false),
                .rendered = std::string(text.text())};
}

Prompt FromRawText(const Frontend& frontend, const std::string& raw) {
  const auto& bos = frontend.tokenizer().bos();
  const ProvenanceText text = WithBos(frontend, ProvenanceText(raw, Origin::kTemplate));
  // As the reference's tokenizer would, but never a second BOS.
  const bool add_special =
      frontend.info().family != "mllama" && !(bos && raw.starts_with(bos->text));
  return Prompt{.ids = frontend.tokenizer().Encode(text, add_special),
                .rendered = std::string(text.text())};
}

Result<Prompt> Tokenised(const Frontend& frontend, const PromptInput& input) {
  switch (input.kind) {
    case PromptInput::Kind::kChat: return FromChat(frontend, input);
    case PromptInput::Kind::kUserText:
      return Prompt{.ids = frontend.tokenizer().Encode(input.text, SpecialParsing::kAsText, false),
                    .rendered = input.text};
    case PromptInput::Kind::kRawText: return FromRawText(frontend, input.text);
    case PromptInput::Kind::kRawTokens: return Prompt{.ids = input.token_ids};
  }
  return Prompt{};
}

}  // namespace

Result<Prompt> BuildPrompt(const Frontend& frontend, const PromptInput& input) {
  const ModelInfo& info = frontend.info();
  const auto pictures = static_cast<int64_t>(input.images.size());
  if (pictures > 0 && !info.has_vision()) {
    return Invalid(
        "this model takes no pictures",
        {.field = input.images[0].field, .limit = "0", .value = std::to_string(pictures)});
  }
  TESSERA_TRY(Prompt prompt, Tokenised(frontend, input));
  const std::string field = input.kind == PromptInput::Kind::kChat       ? "chat"
                            : input.kind == PromptInput::Kind::kUserText ? "text"
                                                                         : "raw";
  if (prompt.ids.empty() && input.kind != PromptInput::Kind::kUserText)
    return Invalid("the prompt is empty",
                   {.field = field, .limit = "at least 1 token", .value = "0"});
  const auto tokens = static_cast<int64_t>(prompt.ids.size());
  if (tokens + 1 > frontend.max_context()) {
    return Invalid(
        "the prompt does not fit the context",
        {.field = field,
         .limit = fmt::format("{} tokens, 1 of them for the answer", frontend.max_context()),
         .value = std::to_string(tokens)});
  }
  for (size_t i = 0; i < prompt.ids.size(); ++i) {
    const int32_t id = prompt.ids[i];
    if (id < 0 || id >= info.embedding_rows) {
      return Invalid("the model has no such token",
                     {.field = field,
                      .limit = std::to_string(info.embedding_rows - 1),
                      .value = std::to_string(id)});
    }
    if (info.has_vision() && id == info.image_token_id)
      prompt.marks.push_back(static_cast<int32_t>(i));
  }
  const auto marks = static_cast<int64_t>(prompt.marks.size());
  if (marks != pictures && input.kind != PromptInput::Kind::kUserText) {
    return Invalid("the prompt's image marks and its pictures are not equally many",
                   {.field = field,
                    .limit = fmt::format("{} marks", marks),
                    .value = std::to_string(pictures)});
  }
  return prompt;
}

}  // namespace tessera
