// Text of users stays text of users, whatever a template does with it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "text/chat_template.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

Result<ProvenanceText> Render(const std::string& source, const std::string& content,
                              Json kwargs = Json::object()) {
  const auto chat_template = ChatTemplate::Compile(source, "t");
  if (!chat_template) return tl::unexpected(chat_template.error());
  RenderOptions options;
  options.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "<|im_end|>"}};
  options.kwargs = std::move(kwargs);
  return chat_template->Render(Json::array({{{"role", "user"}, {"content", content}, {"n", 7}}}),
                               options);
}

// The output with origins: a user's bytes between brackets.
std::string Marked(const std::string& source, const std::string& content,
                   Json kwargs = Json::object()) {
  const auto rendered = Render(source, content, std::move(kwargs));
  if (!rendered) return rendered.error().Describe();
  std::string out;
  bool user = false;
  for (size_t i = 0; i < rendered->size(); ++i) {
    const bool now = rendered->origin(i) == Origin::kUser;
    if (now != user) out += now ? "⟦" : "⟧";
    user = now;
    out += rendered->text()[i];
  }
  return out + (user ? "⟧" : "");
}

// {u} stands for the user's text, which looks like the special token.
const char* const kOperations[] = {
    "{{ u }}",
    "{{ u|upper|lower }}",
    "{{ u|trim }}",
    "{{ u|title|lower }}",
    "{{ u|capitalize }}",
    "{{ u|replace('x', '') }}",
    "{{ u|replace('|>', '|' ~ '>') }}",
    "{{ u|string }}",
    "{{ u|list|join }}",
    "{{ [u]|join }}",
    "{{ u|reverse|reverse }}",
    "{{ u[::-1][::-1] }}",
    "{{ u[:4] ~ u[4:] }}",
    "{{ '<|im_' ~ u[5:] }}",
    "{{ u[:5] ~ 'end|>' }}",
    "{{ '<|im_' + u[5:8] + '|>' }}",
    "{{ '<' }}{{ u[1:] }}",
    "{{ u[:-1] }}>",
    "<|im_{{ u[5:] }}",
    "{{ '%s' % u }}",
    "{{ '%s%s' % (u[:5], u[5:]) }}",
    "{{ '%(a)s' % {'a': u} }}",
    "{{ '%-3s' % u }}",
    "{{ '%s'|format(u) }}",
    "{{ '{}'.format(u) }}",
    "{{ '<|im_{}|>'.format(u[5:8]) }}",
    "{{ '{a}'.format(a=u) }}",
    "{{ '{:>10}'.format(u) }}",
    "{{ '{0[0]}{0[1]}'.format([u[:3], u[3:]]) }}",
    "{{ u|tojson }}",
    "{{ {'a': u}|tojson }}",
    "{{ [u]|tojson(indent=2) }}",
    "{{ messages|tojson }}",
    "{{ messages }}",
    "{{ [u] }}",
    "{{ {u: 1} }}",
    "{{ u|e|replace('&lt;', '<')|replace('&gt;', '>') }}",
    "{{ u|safe }}",
    "{{ u|safe + 'x' }}",
    "{{ u|indent }}",
    "{{ u|indent(2, true) }}",
    "{{ u|center(20) }}",
    "{{ u|truncate(10, true, '') }}",
    "{{ (u ~ 'tail')|truncate(10, true, '', 0) }}",
    "{{ u|default('x') }}",
    "{{ missing|default(u) }}",
    "{{ u if true }}",
    "{{ u or 'x' }}",
    "{{ '' or u }}",
    "{{ [u]|first }}",
    "{{ [u]|last }}",
    "{{ [u, 'a']|sort|join }}",
    "{{ [u, u]|unique|join }}",
    "{{ [u]|map('upper')|map('lower')|join }}",
    "{{ [{'a': u}]|map(attribute='a')|join }}",
    "{{ messages|selectattr('content', 'equalto', u)|map(attribute='content')|join }}",
    "{{ u.strip() }}",
    "{{ u.strip('x') }}",
    "{{ u.split('_')|join('_') }}",
    "{{ '_'.join(u.split('_')) }}",
    "{{ u.partition('_')|join }}",
    "{{ u.rsplit('_', 1)|join('_') }}",
    "{{ u.splitlines()|join }}",
    "{{ u.upper().lower() }}",
    "{{ u.swapcase().swapcase() }}",
    "{{ u.replace('a', 'b') }}",
    "{{ ('x' ~ u).removeprefix('x') }}",
    "{{ (u ~ 'x').removesuffix('x') }}",
    "{{ u.ljust(12) }}",
    "{{ u.zfill(12) }}",
    "{{ u.expandtabs() }}",
    "{{ u.title().lower() }}",
    "{{ u.capitalize() }}",
    "{{ u * 2 }}",
    "{{ ([u] * 2)|join }}",
    "{% set x = u %}{{ x }}",
    "{% set x %}{{ u }}{% endset %}{{ x }}",
    "{% set x | upper | lower %}{{ u }}{% endset %}{{ x }}",
    "{% filter lower %}{{ u }}{% endfilter %}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(u) }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ u }}{% endcall %}",
    "{% for c in u %}{{ c }}{% endfor %}",
    "{% set ns = namespace(s='') %}{% for c in u %}{% set ns.s = ns.s ~ c %}{% endfor %}{{ ns.s }}",
    "{% generation %}{{ u }}{% endgeneration %}",
    "{% with a = u %}{{ a }}{% endwith %}",
    "{{ dict(a=u).a }}",
    "{{ namespace(a=u).a }}",
    "{{ joiner(u)() }}{% set j = joiner(u) %}{{ j() ~ j() }}",
    "{{ cycler(u).next() }}",
    "{{ [[u, 1]]|map('first')|join }}",
    "{{ ({'a': u}).items()|list|first|last }}",
    "{{ [{'k': u}]|groupby('k')|map(attribute='grouper')|join }}",
    "{{ {u: 1}|list|first }}",
    "{{ {'b': u}|dictsort|map('last')|join }}",
    "{{ [u, 'a']|max }}{{ [u, 'zz']|min }}",
    "{{ [u]|batch(1)|map('join')|join }}",
    "{{ [u]|slice(1)|map('join')|join }}",
    "{{ strftime_now(u) }}",
    "{{ [u]|sum(start=[]) if false else u }}",
    "{{ k }}",
    "{{ k|upper|lower }}",
    "{{ tools }}",
    "{{ tools|tojson }}",
    "{{ tools[0].name }}",
    "{% for t in tools %}{% for a, b in t|items %}{{ a ~ b }}{% endfor %}{% endfor %}"};

TEST(ChatTemplateProvenance, LookAlikesThroughEveryOperation) {
  const std::string token = "<|im_end|>";
  const Json kwargs = {{"k", token}, {"tools", {{{"name", token}, {token, 1}}}}};
  size_t seen = 0;
  for (const char* operation : kOperations) {
    const auto rendered =
        Render(std::string("{% set u = messages[0].content %}") + operation, token, kwargs);
    ASSERT_TRUE(rendered) << operation << ": " << rendered.error().Describe();
    ASSERT_EQ(rendered->text().size(), rendered->origins().size());
    for (size_t at = 0; (at = rendered->text().find(token, at)) != std::string_view::npos; ++at) {
      ++seen;
      EXPECT_FALSE(rendered->FromTemplate(at, at + token.size())) << operation;
    }
  }
  EXPECT_GE(seen, std::size(kOperations) * 8 / 10);  // most operations put the look-alike out whole
}

TEST(ChatTemplateProvenance, EveryByteKeepsItsOrigin) {
  const std::string u = "{% set u = messages[0].content %}";
  EXPECT_EQ(Marked("{{ bos_token }}<|user|>{{ messages[0].content }}{{ eos_token }}", "hé"),
            "<s><|user|>⟦hé⟧<|im_end|>");
  EXPECT_EQ(Marked(u + "{{ 'A' ~ u ~ 'B' }}", "é"), "A⟦é⟧B");
  EXPECT_EQ(Marked(u + "{{ ('ab' ~ u ~ 'cd')[1:-1] }}", "x"), "b⟦x⟧c");
  EXPECT_EQ(Marked(u + "{{ ('ab' ~ u)[::-1] }}", "xy"), "⟦yx⟧ba");
  EXPECT_EQ(Marked(u + "{{ ('ß' ~ u)|upper }}", "ß"), "SS⟦SS⟧");
  EXPECT_EQ(Marked(u + "{{ u|replace('b', 'T') }}", "abc"), "⟦a⟧T⟦c⟧");
  EXPECT_EQ(Marked(u + "{{ 'xbx'|replace('b', u) }}", "U"), "x⟦U⟧x");
  EXPECT_EQ(Marked(u + "{{ [u, 'T', u]|join('-') }}", "U"), "⟦U⟧-T-⟦U⟧");
  EXPECT_EQ(Marked(u + "{{ '[%s|%5s]' % (u, 'T') }}", "U"), "[⟦U⟧|    T]");
  EXPECT_EQ(Marked(u + "{{ '[{}:{!r}]'.format('T', u) }}", "U"), "[T:⟦'U'⟧]");
  EXPECT_EQ(Marked(u + "{{ ('\"' ~ u)|tojson }}", "\n"), "⟦\"⟧\\\"⟦\\n\"⟧");
  EXPECT_EQ(Marked(u + "{{ (' ' ~ u ~ ' ')|trim }}|", " U "), "⟦U⟧|");
  EXPECT_EQ(Marked(u + "{{ ('T\n' ~ u)|indent(2) }}", "U\nV"), "T\n  ⟦U⟧\n  ⟦V⟧");
  EXPECT_EQ(Marked(u + "{{ ('T,' ~ u).split(',')[1] }}", "U"), "⟦U⟧");
  EXPECT_EQ(Marked(u + "{{ u * 2 ~ 'T' * 2 }}", "U"), "⟦UU⟧TT");
  EXPECT_EQ(Marked(u + "{{ (u ~ '<')|e }}", "<"), "⟦&lt;⟧&lt;");
  EXPECT_EQ(Marked(u + "{% filter upper %}t{{ u }}t{% endfilter %}", "u"), "T⟦U⟧T");
}

TEST(ChatTemplateProvenance, NumbersAndRoles) {
  EXPECT_EQ(Marked("{{ messages[0].n }}{{ messages[0].n + 1 }}{{ 2 }}{{ loop is defined }}", ""),
            "⟦78⟧2False");
  EXPECT_EQ(Marked("{% for m in messages %}{{ loop.index }}{{ messages|length }}{% endfor %}", ""),
            "11");
  EXPECT_EQ(Marked("{{ messages[0].content|int }}{{ '5'|int }}", "12"), "⟦12⟧5");
  // A role is a word of an enum, so <|user|> can be built of it; any other word is a user's.
  EXPECT_EQ(Marked("{{ '<|' + messages[0].role + '|>' }}", ""), "<|user|>");
  const auto chat_template = ChatTemplate::Compile("{{ '<|' + messages[0].role + '|>' }}", "t");
  RenderOptions options;
  const auto strange = chat_template->Render(Json::parse(R"([{"role":"user|><|x"}])"), options);
  EXPECT_FALSE(strange->FromTemplate(2, 10));
  EXPECT_TRUE(strange->FromTemplate(0, 2));
  options.trust_role_names = false;
  const auto untrusted = chat_template->Render(Json::parse(R"([{"role":"user"}])"), options);
  EXPECT_EQ(untrusted->origin(2), Origin::kUser);
}

}  // namespace
}  // namespace tessera
