// Values as text: Python's str() and repr(), and json.dumps.
//
// Origins: a string's bytes keep theirs (an escape has that of the character it stands for), digits
// have that of the number. Brackets, quotes and commas show the shape of data, which a user
// chooses: they are a user's.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja_runtime.h"
#include "text/jinja_unicode.h"

namespace tessera::jinja {

namespace {

constexpr int kReprDepth = 200;
constexpr Origin kShape = Origin::kUser;

std::string_view ScalarText(const Value& v) {
  if (v.is(Kind::kNone)) return "None";
  return v.boolean() ? "True" : "False";
}

void AppendStringRepr(const Str& s, StrBuilder& out) {
  const std::string_view text = s.view();
  const Origin edge = s.CommonOrigin();
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  out.Append(std::string(1, quote), edge);
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = DecodeUtf8(text, &i);
    const Origin origin = s.OriginAt(begin);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out.Append(std::string{'\\', static_cast<char>(c)}, origin);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out.Append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", origin);
    } else if (IsPrintable(c)) {
      out.Append(s, begin, i);
    } else {
      const auto code = static_cast<uint32_t>(c);
      out.Append(c < 0x100     ? fmt::format("\\x{:02x}", code)
                 : c < 0x10000 ? fmt::format("\\u{:04x}", code)
                               : fmt::format("\\U{:08x}", code),
                 origin);
    }
  }
  out.Append(std::string(1, quote), edge);
}

}  // namespace

std::string IntToString(Int i) {
  if (i == 0) return "0";
  std::string digits;
  const bool negative = i < 0;
  unsigned __int128 rest =
      negative ? -static_cast<unsigned __int128>(i) : static_cast<unsigned __int128>(i);
  for (; rest != 0; rest /= 10) digits += static_cast<char>('0' + static_cast<int>(rest % 10));
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string FloatRepr(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::scientific);
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string out;
  if (text[0] == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(text.substr(0, 1));
  if (e > 2) digits += text.substr(2, e - 2);
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  const int n = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out.append(1, '.').append(digits, 1);
    return out + fmt::format("e{}{:02d}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) {
    out += "0.";
    out.append(static_cast<size_t>(-exponent - 1), '0');
    return out + digits;
  }
  if (n <= exponent + 1) {
    digits.append(static_cast<size_t>(exponent + 1 - n), '0');
    return out + digits + ".0";
  }
  digits.insert(static_cast<size_t>(exponent) + 1, 1, '.');
  return out + digits;
}

void AppendRepr(Runtime& rt, const Value& v, StrBuilder& out, int depth) {
  rt.budget().Step();
  if (depth > kReprDepth)
    Raise("maximum recursion depth exceeded while getting the repr of an object");
  auto list = [&](const Values& items, std::string_view open, std::string_view close) {
    out.Append(open, kShape);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out.Append(", ", kShape);
      AppendRepr(rt, items[i], out, depth + 1);
    }
    out.Append(close, kShape);
  };
  auto dict = [&](const DictObject& d) {
    out.Append("{", kShape);
    bool first = true;
    for (const auto& [key, value] : d.items) {
      if (!first) out.Append(", ", kShape);
      first = false;
      AppendRepr(rt, key, out, depth + 1);
      out.Append(": ", kShape);
      AppendRepr(rt, value, out, depth + 1);
    }
    out.Append("}", kShape);
  };
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined: out.Append("Undefined", kShape); return;
    case Kind::kNone:
    case Kind::kBool: out.Append(ScalarText(v), v.origin()); return;
    case Kind::kInt: out.Append(IntToString(v.integer()), v.origin()); return;
    case Kind::kFloat: out.Append(FloatRepr(v.real()), v.origin()); return;
    case Kind::kString:
      if (v.markup()) out.Append("Markup(", kShape);
      AppendStringRepr(v.str(), out);
      if (v.markup()) out.Append(")", kShape);
      return;
    case Kind::kList: list(v.as<ListObject>().items, "[", "]"); return;
    case Kind::kTuple: {
      const Values& items = v.as<ListObject>().items;
      list(items, "(", items.size() == 1 ? ",)" : ")");
      return;
    }
    case Kind::kDict: dict(v.as<DictObject>()); return;
    case Kind::kRange: {
      const auto& range = v.as<RangeObject>();
      out.Append(fmt::format("range({}, {}", IntToString(range.start), IntToString(range.stop)),
                 kShape);
      out.Append(range.step == 1 ? ")" : fmt::format(", {})", IntToString(range.step)), kShape);
      return;
    }
    case Kind::kView: {
      out.Append(TypeName(v), kShape);
      list(ToValues(rt.heap(), v), "([", "])");
      return;
    }
    case Kind::kNamespace:
      out.Append("<Namespace ", kShape);
      dict(*v.as<NamespaceObject>().attributes);
      out.Append(">", kShape);
      return;
    case Kind::kLoop: {
      const Value index = v.as<LoopObject>().Attribute(rt, "index");
      out.Append(fmt::format("<LoopContext {}/{}>", IntToString(index.integer()),
                             v.as<LoopObject>().Length()),
                 kShape);
      return;
    }
    case Kind::kCallable: out.Append(v.as<CallableObject>().Describe(), kShape); return;
    case Kind::kIterator:
      Raise("a {} cannot be printed: put it through |list or |join first", TypeName(v));
    case Kind::kSlice: out.Append("slice(...)", kShape); return;
  }
}

void AppendStr(Runtime& rt, const Value& v, StrBuilder& out) {
  if (v.string()) {
    out.Append(v.str());
  } else if (!v.undefined()) {
    AppendRepr(rt, v, out);
  }
}

Str ToStr(Runtime& rt, const Value& v) {
  if (v.string()) return v.str();
  StrBuilder out(rt.budget());
  AppendStr(rt, v, out);
  return out.Finish();
}

Str Repr(Runtime& rt, const Value& v) {
  StrBuilder out(rt.budget());
  AppendRepr(rt, v, out);
  return out.Finish();
}

namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& rt, const JsonStyle& style) : rt_(rt), style_(style), out_(rt.budget()) {
    item_separator_ = style.item_separator.value_or(Str(style.indent ? "," : ", ", kShape));
    key_separator_ = style.key_separator.value_or(Str(": ", kShape));
  }

  Str Write(const Value& v) {
    Append(v, 0);
    return out_.Finish();
  }

 private:
  void Append(const Value& v, int depth) {
    rt_.budget().Step();
    if (depth > kReprDepth) Raise("maximum recursion depth exceeded while encoding a JSON object");
    switch (v.kind()) {
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kFloat: out_.Append(Scalar(v), v.origin()); return;
      case Kind::kString: AppendString(v.str()); return;
      case Kind::kList:
      case Kind::kTuple: {
        const Values& items = v.as<ListObject>().items;
        if (items.empty()) return out_.Append("[]", kShape);
        out_.Append("[", kShape);
        for (size_t i = 0; i < items.size(); ++i) {
          if (i > 0) out_.Append(item_separator_);
          NewLine(depth + 1);
          Append(items[i], depth + 1);
        }
        NewLine(depth);
        return out_.Append("]", kShape);
      }
      case Kind::kDict: return AppendDict(v.as<DictObject>(), depth);
      default: Raise("Object of type {} is not JSON serializable", TypeName(v));
    }
  }

  static std::string Scalar(const Value& v) {
    if (v.is(Kind::kNone)) return "null";
    if (v.is(Kind::kBool)) return v.boolean() ? "true" : "false";
    if (v.is(Kind::kInt)) return IntToString(v.integer());
    if (std::isnan(v.real())) return "NaN";
    if (std::isinf(v.real())) return v.real() < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(v.real());
  }

  void AppendDict(const DictObject& dict, int depth) {
    if (dict.items.empty()) return out_.Append("{}", kShape);
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      rt_.budget().Step(static_cast<int64_t>(items.size()) * 20);
      std::stable_sort(items.begin(), items.end(), [&](const auto* a, const auto* b) {
        return Less(a->first, b->first, rt_.budget());
      });
    }
    out_.Append("{", kShape);
    bool first = true;
    for (const auto* item : items) {
      if (!first) out_.Append(item_separator_);
      first = false;
      NewLine(depth + 1);
      const Value& key = item->first;
      if (key.string()) {
        AppendString(key.str());
      } else if (key.number() || key.is(Kind::kNone)) {
        out_.Append(fmt::format("\"{}\"", Scalar(key)), key.origin());
      } else {
        Raise("keys must be str, int, float, bool or None, not {}", TypeName(key));
      }
      out_.Append(key_separator_);
      Append(item->second, depth + 1);
    }
    NewLine(depth);
    out_.Append("}", kShape);
  }

  void NewLine(int depth) {
    if (!style_.indent) return;
    out_.Append("\n", kShape);
    for (int i = 0; i < depth; ++i) out_.Append(*style_.indent);
  }

  void AppendString(const Str& s) {
    static constexpr std::string_view kShort = "\"\\\n\r\t\b\f", kLetter = "\"\\nrtbf";
    out_.Append("\"", kShape);
    const std::string_view text = s.view();
    size_t plain = 0;  // start of the bytes that need no escape
    for (size_t i = 0; i < text.size();) {
      const size_t begin = i;
      const char32_t c = DecodeUtf8(text, &i);
      const size_t at = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
      if (at == std::string_view::npos && c >= 0x20 && (c < 0x7f || !style_.ensure_ascii)) continue;
      out_.Append(s, plain, begin);
      plain = i;
      const Origin origin = s.OriginAt(begin);
      if (at != std::string_view::npos) {
        out_.Append(std::string{'\\', kLetter[at]}, origin);
      } else if (c < 0x10000) {
        out_.Append(fmt::format("\\u{:04x}", static_cast<uint32_t>(c)), origin);
      } else {
        const auto v = static_cast<uint32_t>(c) - 0x10000;
        out_.Append(fmt::format("\\u{:04x}\\u{:04x}", 0xd800 | v >> 10, 0xdc00 | (v & 0x3ff)),
                    origin);
      }
    }
    out_.Append(s, plain, text.size());
    out_.Append("\"", kShape);
  }

  Runtime& rt_;
  const JsonStyle& style_;
  StrBuilder out_;
  Str item_separator_, key_separator_;
};

}  // namespace

Str ToJson(Runtime& rt, const Value& v, const JsonStyle& style) {
  return JsonWriter(rt, style).Write(v);
}

}  // namespace tessera::jinja
