#include "text/jinja_format.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

namespace tessera::jinja {

namespace {

std::string IntInBase(Int i, int base, bool upper) {
  unsigned __int128 rest =
      i < 0 ? -static_cast<unsigned __int128>(i) : static_cast<unsigned __int128>(i);
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
  out.resize(static_cast<size_t>(
      std::snprintf(out.data(), out.size(), format.c_str(), precision, magnitude)));
  return out;
}

void Group(std::string* digits, char separator, size_t every) {
  size_t end = 0;
  while (end < digits->size() && std::isxdigit(static_cast<unsigned char>((*digits)[end]))) ++end;
  for (size_t i = end; i > every; i -= every) digits->insert(i - every, 1, separator);
}

// Sign, prefix and digits, padded to the spec's width.
void AppendNumber(StrBuilder& out, const FormatSpec& spec, bool negative, std::string_view prefix,
                  std::string digits, Origin origin) {
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

}  // namespace

void AppendFormatted(StrBuilder& out, const FormatSpec& spec, const Str& s) {
  const int64_t length =
      spec.precision >= 0 ? std::min<int64_t>(spec.precision, s.length()) : s.length();
  const int pad = static_cast<int>(std::max<int64_t>(0, spec.width - length));
  const char align = spec.align ? spec.align : '<';
  const int before = align == '>' ? pad : align == '^' ? pad / 2 : 0;
  for (int i = 0; i < before; ++i) out.Append(spec.fill);
  out.Append(s, 0, s.ByteOffset(length));
  for (int i = before; i < pad; ++i) out.Append(spec.fill);
}

void AppendFormatted(StrBuilder& out, const FormatSpec& spec, Int i, Origin origin) {
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

void AppendFormatted(StrBuilder& out, const FormatSpec& spec, double d, Origin origin) {
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
        if (digits.find('.') < e)
          digits.erase(digits[last] == '.' ? last : last + 1,
                       e - (digits[last] == '.' ? last : last + 1));
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

int ReadFormatInt(std::string_view text, size_t* i) {
  int value = 0;
  for (; *i < text.size() && text[*i] >= '0' && text[*i] <= '9'; ++*i) {
    value = value * 10 + (text[*i] - '0');
    if (value > kMaxWidth)
      Raise("a width or precision of more than {} is outside the supported subset", kMaxWidth);
  }
  return value;
}

}  // namespace tessera::jinja
