// `"%s" % x`.
#include <algorithm>

#include "text/jinja_format.h"

namespace tessera::jinja {

namespace {

// Percent formatting takes its values one by one from a tuple, or by name from a mapping, or is
// given a single one.
class PercentValues {
 public:
  PercentValues(Runtime& rt, const Value& values) : rt_(rt), values_(values) {
    tuple_ = values.is(Kind::kTuple) ? &values.as<ListObject>().items : nullptr;
    // Whatever has __getitem__, besides strings and tuples; jinja2's Undefined does.
    mapping_ = values.is(Kind::kDict) || values.is(Kind::kList) || values.is(Kind::kRange) ||
               values.undefined();
  }
  Value Named(const Str& key) {
    if (!mapping_) Raise("format requires a mapping");
    if (values_.undefined()) RaiseUndefined(values_);
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

void AppendPercent(Runtime& rt, StrBuilder& out, FormatSpec spec, const Value& v) {
  switch (spec.type) {
    case 's':
    case 'r':
    case 'a': {
      if (!spec.align) spec.align = '>';
      AppendFormatted(out, spec, spec.type == 's' ? ToStr(rt, v) : Repr(rt, v));
      return;
    }
    case 'd':
    case 'i':
    case 'u':
      if (v.undefined()) RaiseUndefined(v);
      if (!v.number())
        Raise("%{} format: a real number is required, not {}", spec.type, TypeName(v));
      spec.type = 'd';
      AppendFormatted(out, spec, v.integral() ? v.integer() : FloatToInt(v.real()), v.origin());
      return;
    case 'x':
    case 'X':
    case 'o':
      if (!v.integral())
        Raise("%{} format: an integer is required, not {}", spec.type, TypeName(v));
      AppendFormatted(out, spec, v.integer(), v.origin());
      return;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      if (v.undefined()) RaiseUndefined(v);
      if (!v.number()) Raise("must be real number, not {}", TypeName(v));
      AppendFormatted(out, spec, v.real(), v.origin());
      return;
    case 'c': {
      if (!spec.align) spec.align = '>';
      if (v.string() && v.str().length() == 1) return AppendFormatted(out, spec, v.str());
      if (!v.integral()) Raise("%c requires int or char");
      if (v.integer() < 0 || v.integer() > 0x10ffff ||
          (v.integer() >= 0xd800 && v.integer() < 0xe000)) {
        Raise("%c arg not in range(0x110000)");
      }
      std::string c;
      EncodeUtf8(static_cast<char32_t>(v.integer()), &c);
      return AppendFormatted(out, spec, Str(c, v.origin()));
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
    FormatSpec spec;
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
      if (text[i] == '-')
        spec.align = '<';
      else if (text[i] == '+')
        spec.sign = '+';
      else if (text[i] == ' ' && spec.sign != '+')
        spec.sign = ' ';
      else if (text[i] == '#')
        spec.alternate = true;
      else if (text[i] == '0')
        spec.zero = true;
      else if (text[i] != ' ')
        break;
    }
    auto star = [&] {
      ++i;
      const Value n = source.Take();
      if (!n.integral()) Raise("* wants int");
      if (n.integer() > kMaxWidth || n.integer() < -kMaxWidth)
        Raise("a width of more than {} is outside the supported subset", kMaxWidth);
      return static_cast<int>(n.integer());
    };
    if (i < text.size() && text[i] == '*') {
      spec.width = star();
      if (spec.width < 0) {
        spec.align = '<';
        spec.width = -spec.width;
      }
    } else {
      spec.width = ReadFormatInt(text, &i);
    }
    if (i < text.size() && text[i] == '.') {
      ++i;
      spec.precision =
          i < text.size() && text[i] == '*' ? std::max(0, star()) : ReadFormatInt(text, &i);
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

}  // namespace tessera::jinja
