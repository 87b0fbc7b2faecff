// Hostile templates end at load or render with an error, hostile messages with an error or a text:
// never a crash, a hang, or memory without bound. Large harmless input passes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "text/chat_template.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

std::string Repeat(std::string_view text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

const Json kOneMessage = Json::parse(R"([{"role":"user","content":"x"}])");

Result<ProvenanceText> Render(std::string_view source, const Json& messages = kOneMessage,
                              int64_t steps = TemplateLimits().steps) {
  const auto chat_template = ChatTemplate::Compile(source, "t");
  if (!chat_template) return tl::unexpected(chat_template.error());
  RenderOptions options;
  options.limits.steps = steps;
  return chat_template->Render(messages, options);
}

TEST(ChatTemplateBounds, DeepNestingIsAnErrorAtLoad) {
  for (const std::string& source :
       {"{{ " + Repeat("(", 100'000) + "1" + Repeat(")", 100'000) + " }}",
        "{{ " + Repeat("[", 50'000) + " }}", "{{ " + Repeat("-", 50'000) + "1 }}",
        "{{ " + Repeat("not ", 50'000) + "1 }}", "{{ 1" + Repeat("+1", 50'000) + " }}",
        "{{ 1" + Repeat("|abs", 50'000) + " }}", "{{ x" + Repeat(".a", 50'000) + " }}",
        "{{ x" + Repeat("[0]", 50'000) + " }}", "{{ x" + Repeat("()", 50'000) + " }}",
        "{{ " + Repeat("a if b else ", 50'000) + "c }}", "{{ 1" + Repeat(" and 1", 50'000) + " }}",
        "{{ 2" + Repeat("**2", 50'000) + " }}", Repeat("{% if 1 %}", 50'000),
        Repeat("{% for x in y %}", 20'000), Repeat("{% macro m() %}", 20'000),
        "{{ " + Repeat("{1:", 50'000) + " }}", "{{ x is " + Repeat("in (", 50'000) + " }}",
        "{% set " + Repeat("(", 50'000) + "x" + Repeat(")", 50'000) + " = 1 %}"}) {
    const auto chat_template = ChatTemplate::Compile(source, "t");
    ASSERT_FALSE(chat_template) << source.substr(0, 30);
    EXPECT_EQ(chat_template.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(ChatTemplate::Compile("{{ " + Repeat("(", 30) + "1" + Repeat(")", 30) + " }}", "t"));
  EXPECT_TRUE(ChatTemplate::Compile("{{ 'a'" + Repeat(" + 'a'", 100) + " }}", "t"));
  EXPECT_TRUE(ChatTemplate::Compile("{{ 'a'" + Repeat(" ~ 'a'", 10'000) + " }}", "t"));
  EXPECT_TRUE(
      ChatTemplate::Compile("{% if a %}" + Repeat("{% elif a %}", 10'000) + "{% endif %}", "t"));
}

// Each ends at a limit, and at the one meant for it: what is counted are steps, levels and bytes,
// so that no machine is too slow for this test.
TEST(ChatTemplateBounds, RunawayTemplatesEnd) {
  constexpr int64_t kMostSteps = 500'000;
  const char* const kSteps =
      "takes more than 500896 steps";  // with those of the message's 56 bytes
  const char* const kDepth = "nests deeper than 1000 levels";
  const char* const kText = "a text of the template grows beyond 4194752 bytes";
  const char* const kHeld = "the template holds more than 67112448 bytes";
  const char* const kBits = "an integer grows beyond 128 bits";
  const char* const kPrecision = "a width or precision of more than 1048576";
  const struct {
    const char* reason;
    const char* source;
  } kCases[] = {
      {kSteps, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"},
      {kDepth, "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"},
      {kDepth, "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"},
      {kDepth,
       "{% macro a(n) %}{% for i in [1] %}{% if 1 %}{{ b(n) }}{% endif %}{% endfor %}{% endmacro "
       "%}{% macro b(n) %}{{ a(n) ~ '' }}{% endmacro %}{{ a(1) }}"},
      {kDepth, "{% for x in [[]] recursive %}{{ loop([[]]) }}{% endfor %}"},
      {kText,
       "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% "
       "endfor %}"},
      {kSteps,
       "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% "
       "endfor %}"},
      {"recursion depth exceeded while getting the repr",
       "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor "
       "%}{{ ns.s }}"},
      {"recursion depth exceeded while encoding a JSON object",
       "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor "
       "%}{{ ns.s|tojson }}"},
      {"recursion depth exceeded in comparison",
       "{% set ns = namespace(s=[], t=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% "
       "set ns.t = [ns.t] %}{% endfor %}{{ ns.s == ns.t }}"},
      {"recursion depth exceeded in comparison",
       "{% set ns = namespace(s=(), t=()) %}{% for i in range(9999) %}{% set ns.s = (ns.s,) %}{% "
       "endfor %}{{ {ns.s: 1} }}"},
      {kSteps,
       "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% "
       "endfor %}{{ ns.s }}"},
      {kSteps,
       "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] "
       "%}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}"},
      {"recursion depth exceeded while getting the repr",
       "{% set ns = namespace() %}{% set ns.l = [ns] %}{{ ns }}"},
      {kText, "{{ 'a' * 9999999999 }}"},
      {kText, "{{ 'a' * (2 ** 100) }}"},
      {kSteps, "{{ [1] * 9999999999 }}"},
      {"a list of the template grows too long", "{{ [1] * (2 ** 100) }}"},
      {kSteps, "{{ (1,) * 100000000 }}"},
      {kBits, "{{ 9 ** 9 ** 9 }}"},
      {"Range too big", "{{ range(10 ** 9)|list }}"},
      {kText, "{{ 'x'|center(9999999999) }}"},
      {kText, "{{ 'x'.ljust(9999999999) }}"},
      {kText, "{{ 'x'.zfill(9999999999) }}"},
      {kPrecision, "{{ '%9999999999d' % 1 }}"},
      {kPrecision, "{{ '%.9999999999f' % 1.5 }}"},
      {"a width of more than 1048576", "{{ '%*d' % (2 ** 60, 1) }}"},
      {kPrecision, "{{ '{:9999999999}'.format(1) }}"},
      {kPrecision, "{{ '{:.9999999999f}'.format(1.5) }}"},
      {kText, "{{ 'a\nb'|indent(9999999999) }}"},
      {kText, "{{ [1]|tojson(indent=9999999999) }}"},
      {kSteps, "{{ [1]|batch(9999999999, 0)|list }}"},
      {kSteps, "{{ [1]|slice(9999999999)|list }}"},
      {kText, "{{ 'a\tb'.expandtabs(9999999999999) * 999 }}"},
      {kText, "{{ ('a' * 1500000).replace('a', 'bbbb') }}"},
      {kText, "{{ ('a' * 2500000).replace('', 'b') }}"},
      {kSteps, "{{ ','.join('a' * 600000) }}"},
      {kSteps,
       "{{ ('a,' * 300000).split(',') | length }}{{ ('a,' * 300000).split(',') | length }}"},
      {kText, "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}"},
      {kText, "{{ 'a'.join(['b' * 3000000] * 50) }}"},
      {kHeld,
       "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, "
       "**{i|string: i}) %}{% endfor %}"},
      {kBits, "{{ 1.5|round(999999999) ~ (10 ** 400) }}"},
  };
  for (const auto& [reason, source] : kCases) {
    const auto rendered = Render(source, kOneMessage, kMostSteps);
    ASSERT_FALSE(rendered) << source;
    EXPECT_THAT(rendered.error().detail, testing::HasSubstr(reason)) << source;
  }
}

TEST(ChatTemplateBounds, LoopVariableAndMacrosOutliveTheirFrames) {
  EXPECT_EQ(Render("{% set ns = namespace() %}{% for i in [1, 2, 3] if i != 2 %}{% set ns.l = loop "
                   "%}{% set x = i %}{% endfor %}"
                   "{{ ns.l.index }}{{ ns.l.last }}{{ ns.l.length }}")
                ->text(),
            "2True2");
  EXPECT_EQ(Render("{% set ns = namespace() %}{% for i in [1, 2] %}{% macro m() %}{{ i }}{% "
                   "endmacro %}{% set ns.m = m %}{% endfor %}{{ ns.m() }}")
                ->text(),
            "2");
  EXPECT_EQ(Render("{% macro o(c) %}{% macro n() %}{{ c }}{% endmacro %}{% set ns.n = n %}{% "
                   "endmacro %}{% set ns = namespace() %}{{ o('z') }}{{ ns.n() }}")
                ->text(),
            "z");
}

TEST(ChatTemplateBounds, HostileMessages) {
  const std::string source =
      "{% for m in messages %}{{ m.role ~ (m.content if m.content is string else "
      "m.content|tojson)|trim }}{{ m }}{% endfor %}";
  Json deep = "x";
  for (int i = 0; i < 100'000; ++i) deep = Json::array({std::move(deep)});
  EXPECT_FALSE(Render(source, Json::array({{{"role", "user"}, {"content", std::move(deep)}}})));
  EXPECT_FALSE(Render(source, Json::array({{{"role", "user"}, {"content", "\xff"}}})));
  EXPECT_FALSE(Render(source, Json::array({{{"role", "user"}, {"\xc3(", "x"}}})));
  for (const char* odd :
       {"[1]", "[null]", "[[]]", "[\"x\"]", "[{}]", R"([{"role":null,"content":1e308}])",
        R"([{"role":"user","content":{"a":[{}]}}])", R"([{"content":"\u0000\ud83d\ude00"}])"}) {
    Render(source, Json::parse(odd));
  }
}

TEST(ChatTemplateBounds, LargeInputIsLinear) {
  const std::string source =
      "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{{ m.content|length }}{% if "
      "'</think>' in m.content %}"
      "{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% endif %}<|end|>\n{% endfor %}";
  Json messages = Json::array();
  for (int i = 0; i < 4000; ++i) {
    messages.push_back(
        {{"role", i % 2 ? "assistant" : "user"}, {"content", Repeat("words é </think>\n", 60)}});
  }
  const auto chat_template = ChatTemplate::Compile(source, "t");
  const auto rendered = chat_template->Render(messages, {});
  ASSERT_TRUE(rendered) << rendered.error().Describe();
  EXPECT_GT(rendered->size(), 4'000'000u);

  // Searches stay linear on patterns that make naive ones quadratic.
  const std::string search =
      "{{ messages[0].b in messages[0].a }}{{ messages[0].a.rfind(messages[0].b) }}{{ "
      "messages[0].a.replace(messages[0].b, '')|length }}"
      "{{ messages[0].a.rsplit(messages[0].b)|length }}";
  const Json hostile =
      Json::array({{{"a", std::string(1 << 20, 'a')}, {"b", std::string(1 << 19, 'a') + "b"}}});
  // 2^39 comparisons where it is not: CTest's time limit ends that.
  EXPECT_TRUE(Render(search, hostile));
}

TEST(ChatTemplateBounds, OneTemplateFromManyThreads) {
  const auto chat_template = ChatTemplate::Compile(
      "{% macro m(x) %}<{{ x|upper }}>{% endmacro %}{% for m_ in messages %}{{ m(m_.content) ~ "
      "'literal' }}{% endfor %}",
      "t");
  std::vector<std::thread> threads;
  std::vector<std::string> outputs(8);
  for (size_t i = 0; i < outputs.size(); ++i) {
    threads.emplace_back([&, i] {
      const Json messages = Json::array({{{"role", "user"}, {"content", "t" + std::to_string(i)}}});
      for (int k = 0; k < 200; ++k)
        outputs[i] = std::string(chat_template->Render(messages, {})->text());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < outputs.size(); ++i)
    EXPECT_EQ(outputs[i], "<T" + std::to_string(i) + ">literal");
}

}  // namespace
}  // namespace tessera
