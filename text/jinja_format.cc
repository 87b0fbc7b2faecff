// The two ways Python formats text: `"%s" % x` and `"{}".format(x)`.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja_runtime.h"

namespace tessera::jinja {

namespace {

constexpr int kMaxWidth = 1 << 20;

// Fields of Python's format mini-language; % formatting uses a part of them.
struct Spec {
  Str fill{" ", Origin::kTemplate};
  char align = '\0';  // < > = ^
  char sign = '-';
  bool alternate = false, zero = false;
  int width = 0, precision = -1;
  char grouping = '\0';
  char type = '\0';
};

std::string IntInBase(Int i, int base, bool upper) {
  unsigned __int128 rest = i < 0 ? -static_cast<unsigned __int128>(i) : static_cast<unsigned __int128>(i);
  std::string digits;
  do {
    const int d = static_cast<int>(rest % static_cast<unsigned>(base));
    digits += static_cast<char>(d < 10 ? '0' + d : (upper ? 'A' : 'a') + d - 10);
    rest /= static_cast<unsigned>(base);
  } while (rest != 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// |d| by printf's rules; every double fits 400 bytes besides its precision.
std::string FloatDigits(double d, char type, int precision, bool alternate) {
  const double magnitude = std::fabs(d);
  if (!std::isfinite(d)) {
    const std::string text = std::isnan(d) ? "nan" : "inf";
    const bool upper = type == 'E' || type == 'F' || type == 'G';
    return upper ? (std::isnan(d) ? "NAN" : "INF") : text;
  }
  std::string format = alternate ? "%#.*" : "%.*";
  format += type;
  std::string out(static_cast<size_t>(precision) + 400, '\0');
  out.resize(static_cast<size_t>(std::snprintf(out.data(), out.size(), format.c_str(), precision, magnitude)));
  return out;
}

void Group(std::string* digits, char separator, size_t every) {
  size_t end = 0;
  while (end < digits->size() && std::isxdigit(static_cast<unsigned char>((*digits)[end]))) ++end;
  for (size_t i = end; i > every; i -= every) digits->insert(i - every, 1, separator);
}

// Sign, prefix and digits, padded to the spec's width.
void AppendNumber(StrBuilder& out, const Spec& spec, bool negative, std::string_view prefix, std::string digits,
                  Origin origin) {
  std::string head = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  head += prefix;
  const int length = static_cast<int>(head.size() + digits.size());
  const int pad = std::max(0, spec.width - length);
  char align = spec.align ? spec.align : '>';
  Str fill = spec.fill;
  if (spec.zero && !spec.align) {
    align = '=';
    fill = Str("0", Origin::kTemplate);
  }
  auto put = [&](int n) {
    for (int i = 0; i < n; ++i) out.Append(fill);
  };
  if (align == '>') put(pad);
  if (align == '^') put(pad / 2);
  out.Append(head, origin);
  if (align == '=') put(pad);
  out.Append(digits, origin);
  if (align == '<') put(pad);
  if (align == '^') put(pad - pad / 2);
}

void AppendText(StrBuilder& out, const Spec& spec, const Str& s) {
  const int64_t length = spec.precision >= 0 ? std::min<int64_t>(spec.precision, s.length()) : s.length();
  const int pad = static_cast<int>(std::max<int64_t>(0, spec.width - length));
  const char align = spec.align ? spec.align : '<';
  const int before = align == '>' ? pad : align == '^' ? pad / 2 : 0;
  for (int i = 0; i < before; ++i) out.Append(spec.fill);
  out.Append(s, 0, s.ByteOffset(length));
  for (int i = before; i < pad; ++i) out.Append(spec.fill);
}

void AppendInteger(StrBuilder& out, const Spec& spec, Int i, Origin origin) {
  int base = 10;
  std::string_view prefix;
  switch (spec.type) {
    case 'x': base = 16, prefix = "0x"; break;
    case 'X': base = 16, prefix = "0X"; break;
    case 'o': base = 8, prefix = "0o"; break;
    case 'b': base = 2, prefix = "0b"; break;
    default: break;
  }
  std::string digits = IntInBase(i, base, spec.type == 'X');
  if (spec.precision > static_cast<int>(digits.size())) {
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  if (spec.grouping) Group(&digits, spec.grouping, base == 10 ? 3 : 4);
  AppendNumber(out, spec, i < 0, spec.alternate ? prefix : "", std::move(digits), origin);
}

void AppendFloat(StrBuilder& out, const Spec& spec, double d, Origin origin) {
  std::string digits;
  const bool percent = spec.type == '%';
  if (spec.type == '\0' && spec.precision < 0) {
    digits = FloatRepr(std::fabs(d));
  } else if (spec.type == '\0') {
    // As 'g', but with a digit after the point.
    digits = FloatDigits(d, 'g', std::max(1, spec.precision), spec.alternate);
    if (std::isfinite(d) && digits.find_first_of(".e") == std::string::npos) {
      if (static_cast<int>(digits.size()) < std::max(1, spec.precision)) {
        digits += ".0";
      } else {
        digits = FloatDigits(d, 'e', std::max(0, spec.precision - 1), spec.alternate);
        const size_t e = digits.find('e');
        size_t last = digits.find_last_not_of('0', e - 1);
        if (digits.find('.') < e) digits.erase(digits[last] == '.' ? last : last + 1, e - (digits[last] == '.' ? last : last + 1));
      }
    }
  } else {
    const char type = percent ? 'f' : spec.type == 'n' ? 'g' : spec.type;
    const int precision = spec.precision < 0 ? 6 : spec.precision;
    digits = FloatDigits(percent ? d * 100 : d, type, precision, spec.alternate);
    if (percent) digits += '%';
  }
  if (spec.grouping && std::isfinite(d)) Group(&digits, spec.grouping, 3);
  AppendNumber(out, spec, std::signbit(d) && !std::isnan(d), "", std::move(digits), origin);
}

int ReadInt(std::string_view text, size_t* i) {
  int value = 0;
  for (; *i < text.size() && text[*i] >= '0' && text[*i] <= '9'; ++*i) {
    value = value * 10 + (text[*i] - '0');
    if (value > kMaxWidth) Raise("a width or precision of more than {} is outside the supported subset", kMaxWidth);
  }
  return value;
}

// Percent formatting takes its values one by one from a tuple, or by name from a mapping, or is given a single one.
class PercentValues {
 public:
  PercentValues(Runtime& rt, const Value& values) : rt_(rt), values_(values) {
    tuple_ = values.is(Kind::kTuple) ? &values.as<ListObject>().items : nullptr;
    mapping_ = values.is(Kind::kDict) || values.is(Kind::kList) || values.is(Kind::kRange);
  }
  Value Named(const Str& key) {
    if (!mapping_) Raise("format requires a mapping");
    Value v = values_.is(Kind::kDict) ? GetItem(rt_, values_, Value(key)) : Value();
    if (v.missing() || (v.undefined() && !Contains(rt_.heap(), Value(key), values_))) {
      Raise("key '{}' not found for format", key.view());
    }
    return v;
  }
  Value Take() {
    if (tuple_) {
      if (next_ >= tuple_->size()) Raise("not enough arguments for format string");
      return (*tuple_)[next_++];
    }
    if (next_++ > 0) Raise("not enough arguments for format string");
    return values_;
  }
  void CheckAllUsed() const {
    const size_t count = tuple_ ? tuple_->size() : 1;
    if (next_ < count && !mapping_) Raise("not all arguments converted during string formatting");
  }

 private:
  Runtime& rt_;
  const Value& values_;
  const Values* tuple_;
  bool mapping_;
  size_t next_ = 0;
};

void AppendPercent(Runtime& rt, StrBuilder& out, Spec spec, const Value& v) {
  switch (spec.type) {
    case 's':
    case 'r':
    case 'a': {
      if (!spec.align) spec.align = '>';
      AppendText(out, spec, spec.type == 's' ? ToStr(rt, v) : Repr(rt, v));
      return;
    }
    case 'd':
    case 'i':
    case 'u':
      if (v.undefined()) RaiseUndefined(v);
      if (!v.number()) Raise("%{} format: a real number is required, not {}", spec.type, TypeName(v));
      spec.type = 'd';
      AppendInteger(out, spec, v.integral() ? v.integer() : FloatToInt(v.real()), v.origin());
      return;
    case 'x':
    case 'X':
    case 'o':
      if (!v.integral()) Raise("%{} format: an integer is required, not {}", spec.type, TypeName(v));
      AppendInteger(out, spec, v.integer(), v.origin());
      return;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      if (v.undefined()) RaiseUndefined(v);
      if (!v.number()) Raise("must be real number, not {}", TypeName(v));
      AppendFloat(out, spec, v.real(), v.origin());
      return;
    case 'c': {
      if (!spec.align) spec.align = '>';
      if (v.string() && v.str().length() == 1) return AppendText(out, spec, v.str());
      if (!v.integral()) Raise("%c requires int or char");
      if (v.integer() < 0 || v.integer() > 0x10ffff || (v.integer() >= 0xd800 && v.integer() < 0xe000)) {
        Raise("%c arg not in range(0x110000)");
      }
      std::string c;
      EncodeUtf8(static_cast<char32_t>(v.integer()), &c);
      return AppendText(out, spec, Str(c, v.origin()));
    }
    default: Raise("unsupported format character '{}'", spec.type);
  }
}

}  // namespace

Str PercentFormat(Runtime& rt, const Str& format, const Value& values) {
  StrBuilder out(rt.budget());
  PercentValues source(rt, values);
  const std::string_view text = format.view();
  for (size_t i = 0; i < text.size();) {
    const size_t percent = std::min(text.find('%', i), text.size());
    out.Append(format, i, percent);
    if (percent == text.size()) break;
    i = percent + 1;
    Spec spec;
    std::optional<Value> named;
    if (i < text.size() && text[i] == '(') {
      size_t end = i + 1;
      for (int depth = 1; end < text.size(); ++end) {
        if (text[end] == '(') ++depth;
        if (text[end] == ')' && --depth == 0) break;
      }
      if (end >= text.size()) Raise("incomplete format key");
      StrBuilder key(rt.budget());
      key.Append(format, i + 1, end);
      named = source.Named(key.Finish());
      i = end + 1;
    }
    for (; i < text.size(); ++i) {
      if (text[i] == '-') spec.align = '<';
      else if (text[i] == '+') spec.sign = '+';
      else if (text[i] == ' ' && spec.sign != '+') spec.sign = ' ';
      else if (text[i] == '#') spec.alternate = true;
      else if (text[i] == '0') spec.zero = true;
      else if (text[i] != ' ') break;
    }
    auto star = [&] {
      ++i;
      const Value n = source.Take();
      if (!n.integral()) Raise("* wants int");
      if (n.integer() > kMaxWidth || n.integer() < -kMaxWidth) Raise("a width of more than {} is outside the supported subset", kMaxWidth);
      return static_cast<int>(n.integer());
    };
    if (i < text.size() && text[i] == '*') {
      spec.width = star();
      if (spec.width < 0) {
        spec.align = '<';
        spec.width = -spec.width;
      }
    } else {
      spec.width = ReadInt(text, &i);
    }
    if (i < text.size() && text[i] == '.') {
      ++i;
      spec.precision = i < text.size() && text[i] == '*' ? std::max(0, star()) : ReadInt(text, &i);
    }
    while (i < text.size() && (text[i] == 'h' || text[i] == 'l' || text[i] == 'L')) ++i;
    if (i >= text.size()) Raise("incomplete format");
    spec.type = text[i++];
    if (spec.type == '%') {
      out.Append(format, i - 1, i);
      continue;
    }
    AppendPercent(rt, out, spec, named ? *named : source.Take());
  }
  source.CheckAllUsed();
  return out.Finish();
}

namespace {

Spec ParseSpec(Runtime& rt, const Str& text_of_spec) {
  Spec spec;
  const std::string_view text = text_of_spec.view();
  size_t i = 0;
  auto is_align = [&](size_t at) { return at < text.size() && std::string_view("<>=^").find(text[at]) != std::string_view::npos; };
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
  if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' ')) spec.sign = text[i++];
  if (i < text.size() && text[i] == '#') spec.alternate = true, ++i;
  if (i < text.size() && text[i] == '0') spec.zero = true, ++i;
  spec.width = ReadInt(text, &i);
  if (i < text.size() && (text[i] == ',' || text[i] == '_')) spec.grouping = text[i++];
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (i >= text.size() || text[i] < '0' || text[i] > '9') Raise("Format specifier missing precision");
    spec.precision = ReadInt(text, &i);
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
  Spec spec = ParseSpec(rt, spec_text);
  StrBuilder out(rt.budget());
  if (v.string()) {
    if (spec.type && spec.type != 's') Raise("Unknown format code '{}' for object of type 'str'", spec.type);
    if (spec.align == '=') Raise("'=' alignment not allowed in string format specifier");
    if (spec.sign != '-' || spec.alternate || spec.grouping) Raise("a sign, '#' or ',' is not allowed in a string format specifier");
    if (spec.zero && !spec.align) {
      spec.fill = Str("0", Origin::kTemplate);
    }
    AppendText(out, spec, v.str());
  } else if (v.is(Kind::kFloat) || (spec.type && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos)) {
    if (spec.type && std::string_view("eEfFgGn%").find(spec.type) == std::string_view::npos) {
      Raise("Unknown format code '{}' for object of type 'float'", spec.type);
    }
    AppendFloat(out, spec, v.real(), v.origin());
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
    AppendInteger(out, spec, v.integer(), v.origin());
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
    const bool numbered = !first.empty() && first.find_first_not_of("0123456789") == std::string_view::npos;
    Value v;
    if (first.empty() || numbered) {
      if (first.empty() ? manual_ : automatic_) {
        Raise("cannot switch between manual field specification and automatic field numbering");
      }
      size_t digits = begin;
      const size_t index = first.empty() ? next_++ : static_cast<size_t>(ReadInt(text.substr(0, i), &digits));
      (first.empty() ? automatic_ : manual_) = true;
      if (index >= args_.positional.size()) Raise("Replacement index {} out of range for positional args tuple", index);
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
            key.view().find_first_not_of("0123456789") == std::string_view::npos ? ParseInt(key.view(), 10) : std::nullopt;
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

Str BraceFormat(Runtime& rt, const Str& format, const CallArgs& args) { return BraceFormatter(rt, args).Run(format, 1); }

}  // namespace tessera::jinja
