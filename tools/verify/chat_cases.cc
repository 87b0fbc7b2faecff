// Chat goldens (docs/fidelity.md): a template, its special tokens, and what transformers renders
// from each conversation.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "text/chat_template.h"
#include "tools/verify/cases.h"

namespace tessera::verify {

namespace {

using Json = nlohmann::ordered_json;

std::optional<std::string> ReadText(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// Where two texts part, with some of both around it.
std::string Difference(std::string_view expected, std::string_view got) {
  const size_t shorter = std::min(expected.size(), got.size());
  size_t at = 0;
  while (at < shorter && expected[at] == got[at]) ++at;
  const size_t from = at > 30 ? at - 30 : 0;
  return fmt::format("first difference at byte {} of {}: expected \"{}\", got \"{}\"", at,
                     expected.size(), EscapeForLog(expected.substr(from, 80)),
                     EscapeForLog(got.substr(from, 80)));
}

void CheckCase(const ChatTemplate& chat_template, const Json& file, const Json& chat_case,
               const std::string& id, Report& report) {
  RenderOptions options;
  for (const char* token : {"bos_token", "eos_token"}) {
    if (const auto it = file.find(token); it != file.end() && it->is_string()) {
      options.special_tokens.emplace_back(token, it->get<std::string>());
    }
  }
  options.add_generation_prompt = false;
  if (const auto kwargs = chat_case.find("kwargs"); kwargs != chat_case.end())
    options.kwargs = *kwargs;
  const Json messages = chat_case.value("messages", Json::array());
  const Result<ProvenanceText> rendered = chat_template.Render(messages, options);
  const auto expected = chat_case.find("rendered");
  if (expected == chat_case.end() || !expected->is_string()) {
    if (rendered) {
      report.Fail(id, "error", fmt::format("expected an error, got {} bytes", rendered->size()));
    } else {
      report.Pass(id, "error", rendered.error().Describe());
    }
    return;
  }
  const auto& text = expected->get_ref<const std::string&>();
  if (!rendered) {
    report.Fail(id, "rendered", rendered.error().Describe());
  } else if (rendered->text() != text) {
    report.Fail(id, "rendered", Difference(text, rendered->text()));
  } else {
    report.Pass(id, "rendered");
  }
}

}  // namespace

void CheckChatCases(const std::filesystem::path& tokenizer_dir, const std::filesystem::path& cases,
                    Report& report) {
  const std::string name = cases.filename().string();
  const std::optional<std::string> text = ReadText(cases);
  const Json file = text ? Json::parse(*text, nullptr, false) : Json();
  if (!file.is_object() || !file.contains("cases") || !file["cases"].is_array() ||
      !file.contains("template") || !file["template"].is_string()) {
    report.Fail(name, "file", "not a file of chat cases: it needs template and cases");
    return;
  }
  const std::string template_name = file["template"].get<std::string>();
  const std::optional<std::string> source = ReadText(tokenizer_dir / template_name);
  if (!source) {
    report.Fail(name, "template", fmt::format("cannot read {}", template_name));
    return;
  }
  const Result<ChatTemplate> chat_template = ChatTemplate::Compile(*source, template_name);
  size_t i = 0;
  for (const Json& chat_case : file["cases"]) {
    std::string id = fmt::format("{}[{}]", name, i++);
    if (!chat_case.is_object()) {
      report.Fail(id, "case", "not an object");
      continue;
    }
    if (const auto it = chat_case.find("name"); it != chat_case.end() && it->is_string())
      id = it->get<std::string>();
    if (chat_template) {
      CheckCase(*chat_template, file, chat_case, id, report);
    } else if (chat_case.contains("rendered")) {
      report.Fail(id, "template", chat_template.error().Describe());
    } else {
      report.Pass(id, "error", chat_template.error().Describe());
    }
  }
}

}  // namespace tessera::verify
