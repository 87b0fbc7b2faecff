// Hostile templates end at load or render with an error, hostile messages with an error or a text:
// never a crash, a hang, or memory without bound. Large harmless input passes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
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

// Of the processor, so that a busy machine does not count.
double SecondsSince(std::clock_t begin) {
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
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

TEST(ChatTemplateBounds, RunawayTemplatesEnd) {
  const char* const kSources[] = {
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro a(n) %}{% for i in [1] %}{% if 1 %}{{ b(n) }}{% endif %}{% endfor %}{% endmacro "
      "%}{% macro b(n) %}{{ a(n) ~ '' }}{% endmacro %}{{ a(1) }}",
      "{% for x in [[]] recursive %}{{ loop([[]]) }}{% endfor %}",
      "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor "
      "%}{{ ns.s }}",
      "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor "
      "%}{{ ns.s|tojson }}",
      "{% set ns = namespace(s=[], t=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% set "
      "ns.t = [ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
      "{% set ns = namespace(s=(), t=()) %}{% for i in range(9999) %}{% set ns.s = (ns.s,) %}{% "
      "endfor %}{{ {ns.s: 1} }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% "
      "endfor %}{{ ns.s }}",
      "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] "
      "%}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
      "{% set ns = namespace() %}{% set ns.l = [ns] %}{{ ns }}",
      "{{ 'a' * 9999999999 }}",
      "{{ 'a' * (2 ** 100) }}",
      "{{ [1] * 9999999999 }}",
      "{{ [1] * (2 ** 100) }}",
      "{{ (1,) * 100000000 }}",
      "{{ 9 ** 9 ** 9 }}",
      "{{ range(10 ** 9)|list }}",
      "{{ 'x'|center(9999999999) }}",
      "{{ 'x'.ljust(9999999999) }}",
      "{{ 'x'.zfill(9999999999) }}",
      "{{ '%9999999999d' % 1 }}",
      "{{ '%.9999999999f' % 1.5 }}",
      "{{ '%*d' % (2 ** 60, 1) }}",
      "{{ '{:9999999999}'.format(1) }}",
      "{{ '{:.9999999999f}'.format(1.5) }}",
      "{{ 'a\nb'|indent(9999999999) }}",
      "{{ [1]|tojson(indent=9999999999) }}",
      "{{ [1]|batch(9999999999, 0)|list }}",
      "{{ [1]|slice(9999999999)|list }}",
      "{{ 'a\tb'.expandtabs(9999999999999) * 999 }}",
      "{{ ('a' * 4000000).replace('a', 'bbbb') }}",
      "{{ ('a' * 4000000).replace('', 'b') }}",
      "{{ ','.join('a' * 4000000) }}",
      "{{ ('a,' * 2000000).split(',') | length }}{{ ('a,' * 2000000).split(',') | length }}",
      "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
      "{{ 'a'.join(['b' * 3000000] * 50) }}",
      "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, "
      "**{i|string: i}) %}{% endfor %}",
      "{{ 1.5|round(999999999) ~ (10 ** 400) }}",
  };
  for (const char* source : kSources) {
    const std::clock_t begin = std::clock();
    const auto rendered = Render(source, kOneMessage, /*steps=*/500'000);
    const double seconds = SecondsSince(begin);
    EXPECT_FALSE(rendered) << source;
    EXPECT_LT(seconds, 20)
        << source;  // most take milliseconds; sanitizers and busy machines included
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
  const std::clock_t begin = std::clock();
  const auto rendered = chat_template->Render(messages, {});
  const double seconds = SecondsSince(begin);
  ASSERT_TRUE(rendered) << rendered.error().Describe();
  EXPECT_GT(rendered->size(), 4'000'000u);
  EXPECT_LT(seconds, 20);
  RecordProperty("milliseconds", static_cast<int>(seconds * 1e3));

  // Searches stay linear on patterns that make naive ones quadratic.
  const std::string search =
      "{{ messages[0].b in messages[0].a }}{{ messages[0].a.rfind(messages[0].b) }}{{ "
      "messages[0].a.replace(messages[0].b, '')|length }}"
      "{{ messages[0].a.rsplit(messages[0].b)|length }}";
  const Json hostile =
      Json::array({{{"a", std::string(1 << 20, 'a')}, {"b", std::string(1 << 19, 'a') + "b"}}});
  const std::clock_t start = std::clock();
  EXPECT_TRUE(Render(search, hostile));
  EXPECT_LT(SecondsSince(start), 10);
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
