// `"{}".format(x)`.
#include <algorithm>

#include "text/jinja_format.h"

namespace tessera::jinja {

namespace {

FormatSpec ParseSpec(Runtime& rt, const Str& text_of_spec) {
  FormatSpec spec;
  const std::string_view text = text_of_spec.view();
  size_t i = 0;
  auto is_align = [&](size_t at) {
    return at < text.size() && std::string_view("<>=^").find(text[at]) != std::string_view::npos;
  };
  if (!text.empty()) {
    size_t next = 0;
    DecodeUtf8(text, &next);
    if (is_align(next)) {
      StrBuilder fill(rt.budget());
      fill.Append(text_of_spec, 0, next);
      spec.fill = fill.Finish();
      spec.align = text[next];
      i = next + 1;
    } else if (is_align(0)) {
      spec.align = text[0];
      i = 1;
    }
  }
  if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' '))
    spec.sign = text[i++];
  if (i < text.size() && text[i] == '#') spec.alternate = true, ++i;
  if (i < text.size() && text[i] == '0') spec.zero = true, ++i;
  spec.width = ReadFormatInt(text, &i);
  if (i < text.size() && (text[i] == ',' || text[i] == '_')) spec.grouping = text[i++];
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (i >= text.size() || text[i] < '0' || text[i] > '9')
      Raise("Format specifier missing precision");
    spec.precision = ReadFormatInt(text, &i);
  }
  if (i < text.size()) spec.type = text[i++];
  if (i != text.size()) Raise("Invalid format specifier");
  return spec;
}

}  // namespace

Str FormatValue(Runtime& rt, const Value& v, const Str& spec_text) {
  if (spec_text.empty()) return ToStr(rt, v);
  if (!v.string() && !v.number()) {
    Raise("unsupported format string passed to {}.__format__", TypeName(v));
  }
  FormatSpec spec = ParseSpec(rt, spec_text);
  StrBuilder out(rt.budget());
  if (v.string()) {
    if (spec.type && spec.type != 's')
      Raise("Unknown format code '{}' for object of type 'str'", spec.type);
    if (spec.align == '=') Raise("'=' alignment not allowed in string format specifier");
    if (spec.sign != '-' || spec.alternate || spec.grouping)
      Raise("a sign, '#' or ',' is not allowed in a string format specifier");
    if (spec.zero && !spec.align) {
      spec.fill = Str("0", Origin::kTemplate);
    }
    AppendFormatted(out, spec, v.str());
  } else if (v.is(Kind::kFloat) ||
             (spec.type && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos)) {
    if (spec.type && std::string_view("eEfFgGn%").find(spec.type) == std::string_view::npos) {
      Raise("Unknown format code '{}' for object of type 'float'", spec.type);
    }
    AppendFormatted(out, spec, v.real(), v.origin());
  } else {
    if (spec.type && std::string_view("dxXobnc").find(spec.type) == std::string_view::npos) {
      Raise("Unknown format code '{}' for object of type 'int'", spec.type);
    }
    if (spec.precision >= 0) Raise("Precision not allowed in integer format specifier");
    if (spec.type == 'c') Raise("the format code 'c' is outside the supported subset");
    if (v.is(Kind::kBool) && !spec.type) {
      // bool inherits int's formatting, but str(True) only without a spec
      spec.type = 'd';
    }
    AppendFormatted(out, spec, v.integer(), v.origin());
  }
  return out.Finish();
}

namespace {

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const CallArgs& args) : rt_(rt), args_(args) {}

  Str Run(const Str& format, int depth) {
    if (depth > 2) Raise("Max string recursion exceeded");
    StrBuilder out(rt_.budget());
    const std::string_view text = format.view();
    for (size_t i = 0; i < text.size();) {
      const size_t brace = std::min(text.find_first_of("{}", i), text.size());
      out.Append(format, i, brace);
      if (brace == text.size()) break;
      if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
        out.Append(format, brace, brace + 1);
        i = brace + 2;
        continue;
      }
      if (text[brace] == '}') Raise("Single '}}' encountered in format string");
      i = Field(format, brace + 1, depth, out);
    }
    return out.Finish();
  }

 private:
  // A field from after its '{'; returns the position after its '}'.
  size_t Field(const Str& format, size_t begin, int depth, StrBuilder& out) {
    const std::string_view text = format.view();
    size_t end = begin;
    bool in_index = false;
    for (; end < text.size(); ++end) {
      const char c = text[end];
      if (c == '[') in_index = true;
      if (c == ']') in_index = false;
      if (!in_index && (c == '}' || c == ':' || c == '!')) break;
      if (c == '{') Raise("unexpected '{{' in field name");
    }
    if (end >= text.size()) Raise("expected '}}' before end of string");
    const size_t name_end = end;
    char conversion = '\0';
    if (text[end] == '!') {
      if (end + 2 >= text.size()) Raise("unmatched '{{' in format spec");
      conversion = text[end + 1];
      end += 2;
      if (text[end] != ':' && text[end] != '}') Raise("expected ':' after conversion specifier");
    }
    Str spec;
    if (text[end] == ':') {
      const size_t spec_begin = ++end;
      for (int nested = 0; end < text.size(); ++end) {
        if (text[end] == '{') ++nested;
        if (text[end] == '}' && nested-- == 0) break;
      }
      if (end >= text.size()) Raise("expected '}}' before end of string");
      StrBuilder raw(rt_.budget());
      raw.Append(format, spec_begin, end);
      spec = raw.Finish();
    }
    Value v = Lookup(format, begin, name_end);
    if (spec.view().find_first_of("{}") != std::string_view::npos) spec = Run(spec, depth + 1);
    if (conversion == 'r' || conversion == 'a') {
      v = Value(Repr(rt_, v));
    } else if (conversion == 's') {
      v = Value(ToStr(rt_, v));
    } else if (conversion) {
      Raise("Unknown conversion specifier '{}'", conversion);
    }
    out.Append(FormatValue(rt_, v, spec));
    return end + 1;
  }

  Str Part(const Str& format, size_t begin, size_t end) {
    StrBuilder b(rt_.budget());
    b.Append(format, begin, end);
    return b.Finish();
  }

  Value Lookup(const Str& format, size_t begin, size_t end) {
    const std::string_view text = format.view();
    size_t i = begin;
    while (i < end && text[i] != '.' && text[i] != '[') ++i;
    const std::string_view first = text.substr(begin, i - begin);
    const bool numbered =
        !first.empty() && first.find_first_not_of("0123456789") == std::string_view::npos;
    Value v;
    if (first.empty() || numbered) {
      if (first.empty() ? manual_ : automatic_) {
        Raise("cannot switch between manual field specification and automatic field numbering");
      }
      size_t digits = begin;
      const size_t index =
          first.empty() ? next_++ : static_cast<size_t>(ReadFormatInt(text.substr(0, i), &digits));
      (first.empty() ? automatic_ : manual_) = true;
      if (index >= args_.positional.size())
        Raise("Replacement index {} out of range for positional args tuple", index);
      v = args_.positional[index];
    } else {
      for (const auto& [name, value] : args_.keywords) {
        if (name.view() == first) v = value;
      }
      if (v.missing()) Raise("format() has no argument '{}'", first);
    }
    while (i < end) {
      if (text[i] == '.') {
        const size_t from = ++i;
        while (i < end && text[i] != '.' && text[i] != '[') ++i;
        if (i == from) Raise("Empty attribute in format string");
        v = GetAttribute(rt_, v, Part(format, from, i));
      } else if (text[i] == '[') {
        const size_t from = ++i;
        while (i < end && text[i] != ']') ++i;
        if (i >= end) Raise("Missing ']' in format string");
        const Str key = Part(format, from, i++);
        if (key.empty()) Raise("Empty attribute in format string");
        const std::optional<Int> index =
            key.view().find_first_not_of("0123456789") == std::string_view::npos
                ? ParseInt(key.view(), 10)
                : std::nullopt;
        v = GetItem(rt_, v, index ? Value::Integer(*index) : Value(key));
      } else {
        Raise("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return v;
  }

  Runtime& rt_;
  const CallArgs& args_;
  size_t next_ = 0;
  bool automatic_ = false, manual_ = false;
};

}  // namespace

Str BraceFormat(Runtime& rt, const Str& format, const CallArgs& args) {
  return BraceFormatter(rt, args).Run(format, 1);
}

}  // namespace tessera::jinja
