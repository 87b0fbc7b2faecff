// Goldens of the chat template (made by tools/golden/make_chat_cases.py with Python's jinja2), and
// how templates are found and refused.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tools/verify/cases.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

const std::filesystem::path kData =
    std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/text/data/chat";

CalendarTime FridayMorning() {
  return {.year = 2024,
          .month = 7,
          .day = 26,
          .hour = 9,
          .minute = 5,
          .second = 3,
          .weekday = 4,
          .year_day = 208};
}

TEST(ChatTemplateGolden, FamiliesOfTemplates) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kData)) {
    if (entry.path().extension() != ".json" || entry.path().stem() == "snippets") continue;
    ++files;
    verify::Report report;
    verify::CheckChatCases(kData, entry.path(), report);
    EXPECT_EQ(report.failures(), 0u) << report.ToText(false);
  }
  EXPECT_GE(files, 25u);
}

TEST(ChatTemplateGolden, Snippets) {
  std::ifstream in(kData / "snippets.json");
  const Json file = Json::parse(in);
  size_t rendered_cases = 0, error_cases = 0;
  for (const Json& snippet : file["cases"]) {
    const auto source = snippet["template"].get<std::string>();
    RenderOptions options;
    options.add_generation_prompt = false;
    options.special_tokens = {{"bos_token", file["bos_token"]}, {"eos_token", file["eos_token"]}};
    options.now = FridayMorning;
    const auto chat_template = ChatTemplate::Compile(source, "snippet");
    const auto rendered = chat_template
                              ? chat_template->Render(file["messages"], options)
                              : Result<ProvenanceText>(tl::unexpected(chat_template.error()));
    if (snippet.contains("rendered")) {
      ++rendered_cases;
      ASSERT_TRUE(rendered) << source << "\n" << rendered.error().Describe();
      EXPECT_EQ(rendered->text(), snippet["rendered"].get<std::string>()) << source;
    } else {
      ++error_cases;
      EXPECT_FALSE(rendered) << source << "\ngave: " << rendered->text();
    }
  }
  EXPECT_GE(rendered_cases, 1000u);
  EXPECT_GE(error_cases, 500u);
}

// The error names what is wrong and its line.
TEST(ChatTemplateCompile, NamesConstructAndLine) {
  const struct {
    const char* source;
    const char* detail;
  } kCases[] = {
      {"a\n{% include 'x' %}", "line 2: the tag 'include' is outside the supported subset"},
      {"{% block a %}{% endblock %}", "line 1: the tag 'block' is outside"},
      {"\n\n{{ x|pprint }}", "line 3: the filter 'pprint' is outside the supported subset"},
      {"{{ 'a'.encode() }}", "line 1: the method .encode() is outside"},
      {"\n{{ x|nosuch }}", "line 2: No filter named 'nosuch'"},
      {"{{ x is nosuch }}", "line 1: No test named 'nosuch'"},
      {"{% frob %}", "line 1: Encountered unknown tag 'frob'"},
      {"{% if x %}\n\n", "Unexpected end of template"},
      {"{{ 1 + }}", "line 1: unexpected"},
      {"{% for loop in [1] %}{% endfor %}", "Can't assign to special loop variable"},
      {"{{ '\\N{BULLET}' }}", "outside the supported subset"},
      {"{% break %}", "outside loop"},
      {"x\n{{ (1 }}", "line 2: "},
  };
  for (const auto& c : kCases) {
    const auto chat_template = ChatTemplate::Compile(c.source, "chat_template.jinja");
    ASSERT_FALSE(chat_template) << c.source;
    EXPECT_EQ(chat_template.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(chat_template.error().field, "chat_template.jinja");
    EXPECT_THAT(chat_template.error().detail, HasSubstr(c.detail)) << c.source;
  }
  EXPECT_FALSE(ChatTemplate::Compile("\xff", "t"));
  EXPECT_FALSE(ChatTemplate::Compile(std::string((1 << 20) + 1, 'a'), "t"));
  EXPECT_TRUE(ChatTemplate::Compile(std::string(1 << 20, 'a'), "t"));
}

TEST(ChatTemplateRender, RefusalsAreInvalidArgumentWithDetail) {
  const auto chat_template = ChatTemplate::Compile(
      "\n{% if messages|length > 1 %}{{ raise_exception('too ' ~ messages[1].content) }}{% endif "
      "%}ok",
      "t");
  ASSERT_TRUE(chat_template);
  const auto refused = chat_template->Render(
      Json::parse(R"([{"role":"user","content":"a"},{"role":"user","content":"many"}])"), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().what.view(), "the chat template cannot render these messages");
  EXPECT_THAT(refused.error().detail, HasSubstr("t, line 2: too many"));
  for (const char* none : {"[]", "{}", "null", "\"x\""}) {
    const auto empty = chat_template->Render(Json::parse(none), {});
    ASSERT_FALSE(empty) << none;
    EXPECT_EQ(empty.error().field, "messages");
  }
}

TEST(ChatTemplateRender, Variables) {
  const auto render = [](std::string_view source, const RenderOptions& options) {
    const auto rendered = ChatTemplate::Compile(source, "t")
                              ->Render(Json::parse(R"([{"role":"user","content":"x"}])"), options);
    return rendered ? std::string(rendered->text()) : rendered.error().Describe();
  };
  RenderOptions options;
  options.now = FridayMorning;
  EXPECT_EQ(
      render("{{ add_generation_prompt }} {{ tools }} {{ documents }} {{ bos_token is defined }}",
             options),
      "True None None False");
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y, %H:%M') }}", options), "26 Jul 2024, 09:05");
  options.special_tokens = {{"bos_token", "<s>"}, {"image_token", "<i>"}};
  options.kwargs = Json::parse(
      R"({"date_string":"1 Jan 2030","tools":[{"b":1,"a":2}],"add_generation_prompt":false,"n":18446744073709551615})");
  EXPECT_EQ(render("{{ bos_token }}{{ image_token }}|{{ date_string }}|{{ strftime_now('%Y') }}|{{ "
                   "tools|tojson }}|"
                   "{{ add_generation_prompt }}|{{ n }}",
                   options),
            "<s><i>|1 Jan 2030|1 Jan 2030|[{\"b\": 1, \"a\": 2}]|False|18446744073709551615");
}

TEST(ChatTemplateRender, ContentFormatIsFoundByProbe) {
  const auto format = [](std::string_view source) {
    return ChatTemplate::Compile(source, "t")->content_format();
  };
  EXPECT_EQ(format("{% for m in messages %}{{ m.role ~ m.content }}{% endfor %}"),
            ContentFormat::kString);
  EXPECT_EQ(format("{% for m in messages %}{{ m.role + m.content }}{% endfor %}"),
            ContentFormat::kString);
  EXPECT_EQ(format("{{ messages[0].content if messages[0].content is string else '' }}"),
            ContentFormat::kString);
  EXPECT_EQ(format("{{ messages|tojson }}"), ContentFormat::kString);
  EXPECT_EQ(format("{% for p in messages[0].content %}{{ p.text }}{% endfor %}"),
            ContentFormat::kParts);
  for (const auto& [name, parts] :
       std::vector<std::pair<std::string, bool>>{{"llama32_vision_tools", true},
                                                 {"llava", true},
                                                 {"smolvlm", true},
                                                 {"gemma3", true},
                                                 {"pixtral", true},
                                                 {"qwen2_vl", true},
                                                 {"llama3", false},
                                                 {"chatml", false},
                                                 {"qwen3_thinking", false},
                                                 {"mistral_v1", false}}) {
    std::ifstream in(kData / (name + ".jinja"));
    const std::string source(std::istreambuf_iterator<char>(in), {});
    EXPECT_EQ(format(source) == ContentFormat::kParts, parts) << name;
  }
}

class ModelDir {
 public:
  ModelDir() {
    path_ =
        std::filesystem::path(testing::TempDir()) / ("chat_template_" + std::to_string(::getpid()));
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ModelDir() { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  std::string Render(const char* kwargs = "{}") const {
    const auto chat_template = ChatTemplate::LoadFromDir(path_);
    if (!chat_template) return chat_template.error().Describe();
    RenderOptions options;
    options.kwargs = Json::parse(kwargs);
    return std::string(
        chat_template->Render(Json::parse(R"([{"role":"user","content":"x"}])"), options)->text());
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(ChatTemplateLoad, FilesInTransformersOrder) {
  const ModelDir dir;
  const auto none = ChatTemplate::LoadFromDir(dir.path());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
  dir.Write("chat_template.json", R"({"chat_template":"json"})");
  EXPECT_EQ(dir.Render(), "json");
  dir.Write("tokenizer_config.json", R"({"chat_template":null})");
  EXPECT_EQ(dir.Render(), "json");
  dir.Write("tokenizer_config.json", R"({"chat_template":"config"})");
  EXPECT_EQ(dir.Render(), "config");
  dir.Write("chat_template.jinja", "jinja\n");
  EXPECT_EQ(dir.Render(), "jinja");
  dir.Write("preprocessor_config.json", "{}");
  EXPECT_EQ(dir.Render(), "json");
}

TEST(ChatTemplateLoad, NamedTemplates) {
  const ModelDir dir;
  dir.Write(
      "tokenizer_config.json",
      R"({"chat_template":[{"name":"tool_use","template":"with tools"},{"name":"default","template":"plain"}]})");
  EXPECT_EQ(dir.Render(), "plain");
  EXPECT_EQ(dir.Render(R"({"tools":null})"), "plain");
  EXPECT_EQ(dir.Render(R"({"tools":[]})"), "with tools");
  dir.Write("chat_template.jinja", "file");
  dir.Write("additional_chat_templates/tool_use.jinja", "file with tools");
  EXPECT_EQ(dir.Render(), "file");
  EXPECT_EQ(dir.Render(R"({"tools":[]})"), "file with tools");
}

TEST(ChatTemplateLoad, BadFilesAreErrors) {
  for (const char* config :
       {"", "[]", "{", R"({"chat_template":5})",
        R"({"chat_template":[{"name":"x","template":"y"}]})", R"({"chat_template":[5]})",
        R"({"chat_template":[{"name":"default"}]})", R"({"chat_template":"{% if %}"})"}) {
    const ModelDir dir;
    dir.Write("tokenizer_config.json", config);
    const auto chat_template = ChatTemplate::LoadFromDir(dir.path());
    ASSERT_FALSE(chat_template) << config;
    EXPECT_EQ(chat_template.error().code, ErrorCode::kInvalidArgument) << config;
    EXPECT_FALSE(chat_template.error().field.empty()) << config;
  }
}

TEST(ChatTemplateLoad, SpecialTokens) {
  const ModelDir dir;
  dir.Write("tokenizer_config.json",
            R"({"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"pad_token":null,
                                         "extra_special_tokens":{"image_token":"<image>"}})");
  dir.Write("special_tokens_map.json", R"({"bos_token":"other","unk_token":"<unk>"})");
  const auto tokens = ChatTemplate::LoadSpecialTokens(dir.path());
  ASSERT_TRUE(tokens);
  EXPECT_THAT(*tokens, testing::UnorderedElementsAre(testing::Pair("bos_token", "<s>"),
                                                     testing::Pair("eos_token", "</s>"),
                                                     testing::Pair("image_token", "<image>"),
                                                     testing::Pair("unk_token", "<unk>")));
}

}  // namespace
}  // namespace tessera
