#include <algorithm>
#include <cmath>

#include "text/jinja_filters.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

namespace tessera::jinja {

namespace {

// markupsafe.soft_str: strings as they are, the rest by str().
Value SoftStr(Runtime& rt, const Value& v) { return v.string() ? v : Value(ToStr(rt, v)); }
Value Same(const Value& like, Str s) {
  return like.markup() ? Value::Markup(std::move(s)) : Value(std::move(s));
}
bool Given(const Value& v) { return !v.missing() && !v.is(Kind::kNone); }
bool IsSet(const Value& v) { return !v.missing() && Truth(v); }

}  // namespace

Value CapitalizeFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("capitalize", args, {});
  const Value s = SoftStr(rt, value);
  return Same(s, Capitalize(rt, s.str()));
}

Value CenterFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("center", args, {"width"});
  const Value s = SoftStr(rt, value);
  const int64_t width = bound[0].missing() ? 80 : ToIndex64(bound[0]);
  return Same(s, Pad(rt, s.str(), width, Str(" ", Origin::kTemplate), Side::kBoth));
}

Value EscapeFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("escape", args, {});
  return value.markup() ? value : Value::Markup(EscapeHtml(rt, ToStr(rt, value)));
}

Value ForceEscapeFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("forceescape", args, {});
  return Value::Markup(EscapeHtml(rt, ToStr(rt, value)));
}

Value FormatFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  if (!args.positional.empty() && !args.keywords.empty()) {
    Raise("can't handle positional and keyword arguments at the same time");
  }
  const Value s = SoftStr(rt, value);
  Value values;
  if (args.keywords.empty()) {
    values = rt.heap().Tuple(args.positional);
  } else {
    auto* dict = rt.heap().New<DictObject>();
    for (const auto& [name, v] : args.keywords) dict->Set(Value(name), v, rt.budget());
    values = Value(Kind::kDict, dict);
  }
  return Same(s, PercentFormat(rt, s.str(), values));
}

Value IndentFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("indent", args, {"width", "first", "blank"});
  if (value.undefined()) RaiseUndefined(value);
  if (!value.string()) Raise("unsupported operand type(s) for +=: '{}' and 'str'", TypeName(value));
  Str indention;
  if (bound[0].string()) {
    indention = bound[0].str();
  } else {
    const int64_t width = bound[0].missing() ? 4 : ToIndex64(bound[0]);
    rt.budget().CheckStringSize(static_cast<size_t>(std::max<int64_t>(0, width)));
    indention =
        Str(std::string(static_cast<size_t>(std::max<int64_t>(0, width)), ' '), Origin::kTemplate);
  }
  const bool first = IsSet(bound[1]), blank = IsSet(bound[2]);
  StrBuilder source(rt.budget());
  source.Append(value.str());
  source.Append("\n", Origin::kTemplate);
  const std::vector<Str> lines = SplitLines(rt, source.Finish(), false);
  StrBuilder out(rt.budget());
  if (first) out.Append(indention);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out.Append("\n", Origin::kTemplate);
      if (blank || !lines[i].empty()) out.Append(indention);
    }
    out.Append(lines[i]);
  }
  return Same(value, out.Finish());
}

Value JoinFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("join", args, {"d", "attribute"});
  const Str separator = bound[0].missing() ? Str() : ToStr(rt, bound[0]);
  const AttributeGetter get(rt, bound[1]);
  StrBuilder out(rt.budget());
  Cursor cursor(rt.heap(), value);
  bool first = true;
  for (Value v; cursor.Next(&v); first = false) {
    if (!first) out.Append(separator);
    AppendStr(rt, get(std::move(v)), out);
  }
  return Value(out.Finish());
}

Value LowerFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("lower", args, {});
  const Value s = SoftStr(rt, value);
  return Same(s, Lower(rt, s.str()));
}

Value UpperFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("upper", args, {});
  const Value s = SoftStr(rt, value);
  return Same(s, Upper(rt, s.str()));
}

Value ReplaceFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("replace", args, {"old", "new", "count"}, 2);
  const int64_t count = Given(bound[2]) ? ToIndex64(bound[2]) : -1;
  return Value(Replace(rt, ToStr(rt, value), ToStr(rt, bound[0]), ToStr(rt, bound[1]), count));
}

Value SafeFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("safe", args, {});
  return Value::Markup(ToStr(rt, value));
}

Value StringFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("string", args, {});
  return SoftStr(rt, value);
}

Value TitleFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("title", args, {});
  // Words begin after runs of "-", white space, "(", "{", "[" or "<"; unlike str.title, not after
  // other marks.
  const Str s = ToStr(rt, value);
  const std::string_view text = s.view();
  rt.budget().Touch(text.size() * 4);
  auto between = [](char32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || IsSpace(c);
  };
  StrBuilder out(rt.budget());
  for (size_t i = 0; i < text.size();) {
    size_t next = i;
    const bool separator = between(DecodeUtf8(text, &next));
    const size_t first_end = next;
    while (next < text.size()) {
      size_t after = next;
      if (between(DecodeUtf8(text, &after)) != separator) break;
      next = after;
    }
    out.Append(Upper(rt, Substring(rt, s, i, first_end)));
    out.Append(Lower(rt, Substring(rt, s, first_end, next)));
    i = next;
  }
  return Value(out.Finish());
}

Value ToJsonFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = IsSet(bound[0]);
  if (Given(bound[1])) {
    if (bound[1].string()) {
      style.indent = bound[1].str();
    } else {
      const int64_t width = std::max<int64_t>(0, ToIndex64(bound[1]));
      rt.budget().CheckStringSize(static_cast<size_t>(width));
      style.indent = Str(std::string(static_cast<size_t>(width), ' '), Origin::kUser);
    }
  }
  if (Given(bound[2])) {
    const Values parts = ToValues(rt.heap(), bound[2]);
    if (parts.size() != 2) Raise("tojson: separators must be a pair");
    if (!parts[0].string() || !parts[1].string()) Raise("tojson: separators must be strings");
    style.item_separator = parts[0].str();
    style.key_separator = parts[1].str();
  }
  style.sort_keys = IsSet(bound[3]);
  return Value(ToJson(rt, value, style));
}

Value TrimFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("trim", args, {"chars"});
  const Value s = SoftStr(rt, value);
  if (Given(bound[0]) && !bound[0].string())
    Raise("strip arg must be None or str, not {}", TypeName(bound[0]));
  return Same(s, Strip(rt, s.str(), Side::kBoth, Given(bound[0]) ? &bound[0].str() : nullptr));
}

Value TruncateFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  const auto bound = Bind("truncate", args, {"length", "killwords", "end", "leeway"});
  const int64_t length = bound[0].missing() ? 255 : ToIndex64(bound[0]);
  const Str end = bound[2].missing() ? Str("...", Origin::kTemplate) : ToStr(rt, bound[2]);
  const int64_t leeway = Given(bound[3]) ? ToIndex64(bound[3]) : 5;
  if (length < end.length()) Raise("expected length >= {}, got {}", end.length(), length);
  if (leeway < 0) Raise("expected leeway >= 0, got {}", leeway);
  if (Length(value) <= length + leeway) return value;
  if (!value.string()) Raise("truncate needs a string, not {}", TypeName(value));
  const Str& s = value.str();
  Str head = Substring(rt, s, 0, s.ByteOffset(length - end.length()));
  if (!IsSet(bound[1])) {
    const Str space(" ", Origin::kTemplate);
    head = Split(rt, head, &space, 1, true)[0];
  }
  StrBuilder out(rt.budget());
  out.Append(head);
  out.Append(end);
  return Same(value, out.Finish());
}

Value WordCountFilter(Runtime& rt, const Value& value, const CallArgs& args) {
  Bind("wordcount", args, {});
  const Str s = ToStr(rt, value);
  rt.budget().Touch(s.size() * 4);
  int64_t words = 0;
  bool in_word = false;
  for (size_t i = 0; i < s.size();) {
    const char32_t c = DecodeUtf8(s.view(), &i);
    const bool word = c == '_' || IsAlnum(c);
    words += word && !in_word;
    in_word = word;
  }
  return Value::Integer(words, value.origin());
}

}  // namespace tessera::jinja
