#include "text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <fstream>

#include "text/jinja_interpreter.h"
#include "text/jinja_runtime.h"

namespace tessera {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxTemplateBytes = 1 << 20;
constexpr uintmax_t kMaxConfigBytes = 64 << 20;
constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool"};

// Bytes of the input, for the limits: texts as they are, and something for every value.
size_t InputBytes(const Json& json, int depth = 0) {
  if (depth > 200) return 0;  // FromJson refuses it
  size_t bytes = 8;
  if (json.is_string()) {
    bytes += json.get_ref<const std::string&>().size();
  } else if (json.is_array()) {
    for (const auto& item : json) bytes += InputBytes(item, depth + 1);
  } else if (json.is_object()) {
    for (const auto& [key, value] : json.items())
      bytes += key.size() + InputBytes(value, depth + 1);
  }
  return bytes;
}

// Role names are words of an enum: see RenderOptions::trust_role_names.
void TrustRoles(const jinja::Value& messages, jinja::Budget& budget) {
  const jinja::Value role_key(jinja::Str("role", Origin::kTemplate));
  for (const jinja::Value& message : messages.as<jinja::ListObject>().items) {
    if (!message.is(jinja::Kind::kDict)) continue;
    jinja::Value* role = message.as<jinja::DictObject>().Find(role_key, budget);
    if (!role || !role->string()) continue;
    for (const std::string_view known : kRoles) {
      if (role->str().view() == known)
        *role = jinja::Value(jinja::Str(std::string(known), Origin::kTemplate));
    }
  }
}

tl::unexpected<Error> Refused(const std::string& name, const jinja::TemplateError& error,
                              int line) {
  const int at = error.line() ? error.line() : line;
  return Fail(
      ErrorCode::kInvalidArgument, "the chat template cannot render these messages",
      {.field = "messages", .detail = fmt::format("{}, line {}: {}", name, at, error.what())});
}

Result<std::string> ReadFile(const std::filesystem::path& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error)
    return Invalid("cannot read a file", {.field = path.string(), .detail = error.message()});
  if (size > kMaxConfigBytes) {
    return Invalid("a file of the model is too big", {.field = path.string(),
                                                      .limit = std::to_string(kMaxConfigBytes),
                                                      .value = std::to_string(size)});
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<size_t>(size), '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size))) {
    return Invalid("cannot read a file", {.field = path.string()});
  }
  return text;
}

Result<Json> ReadJson(const std::filesystem::path& path) {
  TESSERA_TRY(const std::string text, ReadFile(path));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Invalid("not a JSON object", {.field = path.string()});
  return json;
}

bool Exists(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

struct Sources {
  std::string text, name;
  std::optional<std::string> tool_use;
};

// The "chat_template" of a JSON file: a string, or a list of {name, template}; none where absent or
// null.
Result<std::optional<Sources>> FromConfig(const std::filesystem::path& path) {
  if (!Exists(path)) return std::nullopt;
  TESSERA_TRY(const Json json, ReadJson(path));
  const auto it = json.find("chat_template");
  if (it == json.end() || it->is_null()) return std::nullopt;
  Sources sources{.text = {}, .name = path.filename().string(), .tool_use = std::nullopt};
  if (it->is_string()) {
    sources.text = it->get<std::string>();
    return sources;
  }
  bool found = false;
  auto take = [&](const std::string& name, const Json& text) {
    if (name == "default") {
      sources.text = text.get<std::string>();
      found = true;
    } else if (name == "tool_use") {
      sources.tool_use = text.get<std::string>();
    }
  };
  const tl::unexpected<Error> wrong_type = Invalid(
      "chat_template must be a string or a list of named templates", {.field = path.string()});
  if (it->is_array()) {
    for (const Json& entry : *it) {
      if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
          !entry.contains("template") || !entry["template"].is_string()) {
        return wrong_type;
      }
      take(entry["name"].get<std::string>(), entry["template"]);
    }
  } else if (it->is_object()) {
    for (const auto& [name, text] : it->items()) {
      if (!text.is_string()) return wrong_type;
      take(name, text);
    }
  } else {
    return wrong_type;
  }
  if (!found)
    return Invalid("the list of chat templates has none named 'default'", {.field = path.string()});
  return sources;
}

Result<std::optional<Sources>> FromJinjaFiles(const std::filesystem::path& dir) {
  if (!Exists(dir / "chat_template.jinja")) return std::nullopt;
  TESSERA_TRY(std::string text, ReadFile(dir / "chat_template.jinja"));
  Sources sources{.text = std::move(text), .name = "chat_template.jinja", .tool_use = std::nullopt};
  const std::filesystem::path tool_use = dir / "additional_chat_templates" / "tool_use.jinja";
  if (Exists(tool_use)) {
    TESSERA_TRY(sources.tool_use, ReadFile(tool_use));
  }
  return sources;
}

}  // namespace

struct ChatTemplate::Program {
  std::unique_ptr<const jinja::TemplateTree> tree;

  static Result<std::shared_ptr<const Program>> Make(std::string_view source,
                                                     const std::string& name) {
    if (source.size() > kMaxTemplateBytes) {
      return Invalid("the chat template is too long", {.field = name,
                                                       .limit = std::to_string(kMaxTemplateBytes),
                                                       .value = std::to_string(source.size())});
    }
    if (!jinja::IsValidUtf8(source))
      return Invalid("the chat template is not UTF-8", {.field = name});
    try {
      auto program = std::make_shared<Program>();
      program->tree = jinja::Parse(source);
      return program;
    } catch (const jinja::TemplateError& error) {
      return Invalid(
          "the chat template is not in the supported subset of Jinja",
          {.field = name, .detail = fmt::format("line {}: {}", error.line(), error.what())});
    }
  }
};

CalendarTime LocalTimeNow() {
  const std::time_t now = std::time(nullptr);
  std::tm tm{};
  localtime_r(&now, &tm);
  return {.year = tm.tm_year + 1900,
          .month = tm.tm_mon + 1,
          .day = tm.tm_mday,
          .hour = tm.tm_hour,
          .minute = tm.tm_min,
          .second = std::min(tm.tm_sec, 59),
          .weekday = (tm.tm_wday + 6) % 7,
          .year_day = tm.tm_yday + 1};
}

Result<ChatTemplate> ChatTemplate::Compile(std::string_view source, std::string name) {
  ChatTemplate result;
  result.name_ = std::move(name);
  TESSERA_TRY(result.program_, Program::Make(source, result.name_));

  // Does a list of parts come out as its text? Where it does not (the list printed as data, left
  // out, or an error), the template wants one string.
  constexpr std::string_view kProbe = "tessera probe";
  RenderOptions options;
  options.special_tokens = {
      {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}};
  options.kwargs["date_string"] = "26 Jul 2024";
  options.limits.steps = 200'000;
  const Json parts =
      Json::array({{{"role", "user"}, {"content", {{{"type", "text"}, {"text", kProbe}}}}}});
  const Result<ProvenanceText> rendered = result.Render(parts, options);
  if (rendered && rendered->text().find(kProbe) != std::string_view::npos &&
      rendered->text().find("'text'") == std::string_view::npos &&
      rendered->text().find("\"text\"") == std::string_view::npos) {
    result.content_format_ = ContentFormat::kParts;
  }
  return result;
}

Result<ChatTemplate> ChatTemplate::LoadFromDir(const std::filesystem::path& dir) {
  const bool processor =
      Exists(dir / "preprocessor_config.json") || Exists(dir / "processor_config.json");
  std::optional<Sources> sources;
  if (processor) {
    TESSERA_TRY(sources, FromConfig(dir / "chat_template.json"));
  }
  if (!sources) {
    TESSERA_TRY(sources, FromJinjaFiles(dir));
  }
  if (!sources) {
    TESSERA_TRY(sources, FromConfig(dir / "tokenizer_config.json"));
  }
  if (!sources && !processor) {
    TESSERA_TRY(sources, FromConfig(dir / "chat_template.json"));
  }
  if (!sources) {
    return Fail(
        ErrorCode::kNotFound, "the model has no chat template",
        {.field = dir.string(),
         .detail = "looked for chat_template.jinja, chat_template.json and tokenizer_config.json"});
  }
  TESSERA_TRY(ChatTemplate result, Compile(sources->text, sources->name));
  if (sources->tool_use) {
    TESSERA_TRY(result.tool_use_, Program::Make(*sources->tool_use, sources->name + " (tool_use)"));
  }
  return result;
}

Result<std::vector<std::pair<std::string, std::string>>> ChatTemplate::LoadSpecialTokens(
    const std::filesystem::path& dir) {
  static constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                           "pad_token", "cls_token", "mask_token"};
  std::vector<std::pair<std::string, std::string>> tokens;
  auto add = [&](const std::string& name, const Json& value) {
    // A string, or an AddedToken with its content.
    const Json* text = &value;
    if (value.is_object() && value.contains("content")) text = &value["content"];
    const bool known =
        std::any_of(tokens.begin(), tokens.end(), [&](const auto& t) { return t.first == name; });
    if (text->is_string() && !known) tokens.emplace_back(name, text->get<std::string>());
  };
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    if (!Exists(dir / file)) continue;
    TESSERA_TRY(const Json json, ReadJson(dir / file));
    for (const char* name : kNames) {
      if (json.contains(name)) add(name, json[name]);
    }
    if (const auto extra = json.find("extra_special_tokens");
        extra != json.end() && extra->is_object()) {
      for (const auto& [name, value] : extra->items()) add(name, value);
    }
  }
  return tokens;
}

Result<ProvenanceText> ChatTemplate::Render(const nlohmann::ordered_json& messages,
                                            const RenderOptions& options) const {
  if (!messages.is_array() || messages.empty())
    return Invalid("there are no messages", {.field = "messages"});
  const auto tools = options.kwargs.find("tools");
  const bool with_tools = tool_use_ && tools != options.kwargs.end() && !tools->is_null();
  const Program& program = with_tools ? *tool_use_ : *program_;

  jinja::Runtime rt(options.limits, InputBytes(messages) + InputBytes(options.kwargs));
  rt.now = options.now;
  try {
    rt.SetVariable("tools", jinja::Value::None());
    rt.SetVariable("documents", jinja::Value::None());
    rt.SetVariable("add_generation_prompt", jinja::Value::Bool(options.add_generation_prompt));
    for (const auto& [name, token] : options.special_tokens) {
      if (!jinja::IsValidUtf8(token)) jinja::Raise("the special token {} is not UTF-8", name);
      rt.SetVariable(name, jinja::Value(jinja::Str(token, Origin::kTemplate)));
    }
    for (const auto& [name, value] : options.kwargs.items())
      rt.SetVariable(name, rt.FromJson(value));
    if (const auto date = options.kwargs.find("date_string");
        date != options.kwargs.end() && date->is_string()) {
      rt.date_string = rt.Lookup("date_string").str();
    }
    jinja::Value list = rt.FromJson(messages);
    if (options.trust_role_names) TrustRoles(list, rt.budget());
    rt.SetVariable("messages", std::move(list));
    return jinja::Interpreter(*program.tree, rt).Run();
  } catch (const jinja::TemplateError& error) {
    return Refused(name_, error, rt.line);
  }
}

}  // namespace tessera
