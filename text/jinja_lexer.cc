#include "text/jinja_lexer.h"

#include <algorithm>

#include "text/jinja_budget.h"
#include "text/jinja_string.h"
#include "text/jinja_unicode.h"

namespace tessera::jinja {

namespace {

// "\r\n" and "\r" become "\n"; one newline at the very end is dropped (keep_trailing_newline is
// off).
std::string NormalizeNewlines(std::string_view source, bool drop_last) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (drop_last && !out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsDigitChar(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char32_t c) { return c == '_' || IsAlpha(c); }
bool IsNamePart(char32_t c) { return c == '_' || IsAlnum(c) || IsMark(c); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormalizeNewlines(source, true)) {}

  std::vector<LexedToken> Run() {
    while (pos_ < source_.size()) Root();
    Emit(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view Rest() const { return std::string_view(source_).substr(pos_); }
  bool At(std::string_view text) const { return Rest().substr(0, text.size()) == text; }
  char Peek(size_t offset = 0) const {
    return pos_ + offset < source_.size() ? source_[pos_ + offset] : '\0';
  }
  void Emit(Token type, std::string text) { tokens_.push_back({type, line_, std::move(text)}); }
  void Advance(size_t n) {
    line_ += static_cast<int>(std::count(source_.begin() + pos_, source_.begin() + pos_ + n, '\n'));
    pos_ += n;
    if (n > 0) line_starting_ = source_[pos_ - 1] == '\n';
  }
  [[noreturn]] void Fail(const std::string& message) const { throw TemplateError(message, line_); }

  size_t SpacesAt(size_t pos) const {
    const size_t begin = pos;
    while (pos < source_.size()) {
      size_t next = pos;
      if (!IsSpace(DecodeUtf8(source_, &next))) break;
      pos = next;
    }
    return pos - begin;
  }
  void SkipSpaces() { Advance(SpacesAt(pos_)); }

  // Length of "{% raw %}" at the current "{%", 0 if it is another tag.
  size_t RawBegin() const {
    size_t p = pos_ + 2;
    if (p < source_.size() && (source_[p] == '-' || source_[p] == '+')) ++p;
    p += SpacesAt(p);
    if (source_.compare(p, 3, "raw") != 0) return 0;
    p += 3;
    p += SpacesAt(p);
    if (source_.compare(p, 3, "-%}") == 0) {
      p += 3;
      p += SpacesAt(p);
    } else if (source_.compare(p, 2, "%}") == 0) {
      p += 2;
    } else {
      return 0;
    }
    return p - pos_;
  }

  // Text before a tag, as the tag's sign and lstrip_blocks leave it.
  void EmitData(size_t begin, size_t end, char sign, bool variable) {
    std::string_view text = std::string_view(source_).substr(begin, end - begin);
    const bool starting = line_starting_;
    std::string_view kept = text;
    if (sign == '-') {
      kept = StripRight(text);
    } else if (sign != '+' && !variable) {
      const size_t newline = text.rfind('\n');
      const size_t from = newline == std::string_view::npos ? 0 : newline + 1;
      if ((from > 0 || starting) && from < text.size() && StripRight(text.substr(from)).empty()) {
        kept = text.substr(0, from);
      }
    }
    if (!kept.empty()) Emit(Token::kData, std::string(kept));
    Advance(end - begin);
  }

  static std::string_view StripRight(std::string_view text) {
    while (!text.empty()) {
      size_t last = text.size() - 1;
      while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xc0) == 0x80) --last;
      size_t next = last;
      if (!IsSpace(DecodeUtf8(text, &next))) break;
      text = text.substr(0, last);
    }
    return text;
  }

  void Root() {
    const size_t begin = pos_;
    size_t tag = begin;
    for (; tag < source_.size(); ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) break;
      const char c = source_[tag + 1];
      if (c == '%' || c == '{' || c == '#') break;
    }
    if (tag == std::string::npos || tag + 1 >= source_.size()) {
      Emit(Token::kData, source_.substr(begin));
      Advance(source_.size() - begin);
      return;
    }
    const char kind = source_[tag + 1];
    const char after = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const char sign = after == '-' || after == '+' ? after : '\0';
    EmitData(begin, tag, sign, kind == '{');
    if (kind == '#') {
      Comment(sign);
    } else if (const size_t raw = kind == '%' ? RawBegin() : 0) {
      Advance(raw);
      Raw();
    } else {
      Emit(kind == '%' ? Token::kBlockBegin : Token::kVariableBegin, "");
      Advance(sign ? 3 : 2);
      Tag(kind == '%');
    }
  }

  // After "#}", "%}" or "endraw %}": what the sign before it takes away behind it.
  void TrimAfter(char sign) {
    if (sign == '-') {
      SkipSpaces();
    } else if (sign != '+' && Peek() == '\n') {
      Advance(1);
    }
  }

  void Comment(char sign) {
    const size_t from = pos_ + (sign ? 3 : 2);
    const size_t end = source_.find("#}", from);
    if (end == std::string::npos) Fail("Missing end of comment tag");
    const char before = end > from ? source_[end - 1] : '\0';
    Advance(end + 2 - pos_);
    TrimAfter(before);
  }

  void Raw() {
    for (size_t tag = pos_;; ++tag) {
      tag = source_.find("{%", tag);
      if (tag == std::string::npos) Fail("Missing end of raw directive");
      size_t p = tag + 2;
      char sign = '\0';
      if (p < source_.size() && (source_[p] == '-' || source_[p] == '+')) sign = source_[p++];
      p += SpacesAt(p);
      if (source_.compare(p, 6, "endraw") != 0) continue;
      p += 6;
      p += SpacesAt(p);
      char before = '\0';
      if (p < source_.size() && (source_[p] == '-' || source_[p] == '+')) before = source_[p++];
      if (source_.compare(p, 2, "%}") != 0) continue;
      EmitData(pos_, tag, sign, false);
      Advance(p + 2 - pos_);
      TrimAfter(before);
      return;
    }
  }

  void Tag(bool block) {
    const std::string_view end = block ? "%}" : "}}";
    std::string brackets;
    for (;;) {
      SkipSpaces();
      if (pos_ >= source_.size()) return;  // the parser reports the missing end
      if (brackets.empty()) {
        const char sign = Peek();
        const bool signed_end =
            (sign == '-' || (sign == '+' && block)) && Rest().substr(1, 2) == end;
        if (signed_end || At(end)) {
          Emit(block ? Token::kBlockEnd : Token::kVariableEnd, "");
          Advance(signed_end ? 3 : 2);
          if (block) {
            TrimAfter(signed_end ? sign : '\0');
          } else if (signed_end) {
            SkipSpaces();
          }
          return;
        }
      }
      const char c = Peek();
      if (IsDigitChar(c)) {
        Number();
      } else if (c == '\'' || c == '"') {
        String(c);
      } else if (!Name()) {
        Operator(brackets);
      }
    }
  }

  // Digits with single underscores between them, from `p`; npos if there are none.
  size_t DigitsEnd(size_t p) const {
    if (p >= source_.size() || !IsDigitChar(source_[p])) return std::string::npos;
    while (p < source_.size() &&
           (IsDigitChar(source_[p]) ||
            (source_[p] == '_' && p + 1 < source_.size() && IsDigitChar(source_[p + 1])))) {
      ++p;
    }
    return p;
  }

  void EmitNumber(Token type, size_t end) {
    std::string digits;
    for (size_t i = pos_; i < end; ++i) {
      if (source_[i] != '_') digits += source_[i];
    }
    Emit(type, digits);
    Advance(end - pos_);
  }

  void Number() {
    const size_t whole = DigitsEnd(pos_);
    size_t end = whole;
    bool real = false;
    if (pos_ == 0 || source_[pos_ - 1] != '.') {
      if (end < source_.size() && source_[end] == '.') {
        if (const size_t fraction = DigitsEnd(end + 1); fraction != std::string::npos) {
          end = fraction;
          real = true;
        }
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        size_t p = end + 1;
        if (p < source_.size() && (source_[p] == '+' || source_[p] == '-')) ++p;
        if (const size_t exponent = DigitsEnd(p); exponent != std::string::npos) {
          end = exponent;
          real = true;
        }
      }
    }
    if (real) return EmitNumber(Token::kFloat, end);
    if (source_[pos_] == '0') {
      // 0x.., 0o.., 0b..; a zero followed by other digits is two tokens, as in jinja2
      const char radix = static_cast<char>(Peek(1) | 0x20);
      auto belongs = [&](char d) {
        const char l = static_cast<char>(d | 0x20);
        if (radix == 'b') return d == '0' || d == '1';
        if (radix == 'o') return d >= '0' && d <= '7';
        return radix == 'x' && (IsDigitChar(d) || (l >= 'a' && l <= 'f'));
      };
      size_t p = pos_ + 2;
      while (p < source_.size() &&
             (belongs(source_[p]) ||
              (source_[p] == '_' && p + 1 < source_.size() && belongs(source_[p + 1])))) {
        ++p;
      }
      if ((radix == 'b' || radix == 'o' || radix == 'x') && p > pos_ + 2)
        return EmitNumber(Token::kInteger, p);
      p = pos_ + 1;
      while (p < source_.size() &&
             (source_[p] == '0' || (source_[p] == '_' && Peek(p + 1 - pos_) == '0')))
        ++p;
      return EmitNumber(Token::kInteger, p);
    }
    EmitNumber(Token::kInteger, whole);
  }

  bool Name() {
    size_t end = pos_;
    size_t next = end;
    if (!IsNameStart(DecodeUtf8(source_, &next))) return false;
    while (next <= source_.size()) {
      end = next;
      if (end >= source_.size() || !IsNamePart(DecodeUtf8(source_, &next))) break;
    }
    Emit(Token::kName, source_.substr(pos_, end - pos_));
    Advance(end - pos_);
    return true;
  }

  void Operator(std::string& brackets) {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
    for (const std::string_view two : kTwo) {
      if (!At(two)) continue;
      Emit(Token::kOperator, std::string(two));
      return Advance(2);
    }
    const char c = Peek();
    if (kOne.find(c) == std::string_view::npos)
      Fail(fmt::format("unexpected char '{}'", std::string(1, c)));
    if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty()) Fail(fmt::format("unexpected '{}'", c));
      if (brackets.back() != c)
        Fail(fmt::format("unexpected '{}', expected '{}'", c, brackets.back()));
      brackets.pop_back();
    }
    Emit(Token::kOperator, std::string(1, c));
    Advance(1);
  }

  void String(char quote) {
    size_t p = pos_ + 1;
    while (p < source_.size() && source_[p] != quote) p += source_[p] == '\\' ? 2 : 1;
    if (p >= source_.size())
      Fail(fmt::format("unexpected char {}: the string has no end",
                       quote == '"' ? "'\"'" : "\"'\""));
    Emit(Token::kString, Unescape(std::string_view(source_).substr(pos_ + 1, p - pos_ - 1)));
    Advance(p + 1 - pos_);
  }

  // Python's unicode-escape decoding.
  std::string Unescape(std::string_view raw) const {
    std::string out;
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\' || i + 1 >= raw.size()) {
        out += raw[i];
        continue;
      }
      const char c = raw[++i];
      static constexpr std::string_view kFrom = "abfnrtv\\'\"", kTo = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t at = kFrom.find(c); at != std::string_view::npos) {
        out += kTo[at];
      } else if (c == '\n') {
        continue;  // a line continued
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        size_t digits = 0;
        for (; digits < 3 && i + digits < raw.size() && raw[i + digits] >= '0' &&
               raw[i + digits] <= '7';
             ++digits) {
          value = value * 8 + static_cast<char32_t>(raw[i + digits] - '0');
        }
        i += digits - 1;
        EncodeUtf8(value, &out);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        EncodeUtf8(HexEscape(raw.substr(i + 1), digits), &out);
        i += digits;
      } else if (c == 'N') {
        Fail("\\N{...} in a string is outside the supported subset of Jinja");
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  char32_t HexEscape(std::string_view text, size_t digits) const {
    char32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char d = i < text.size() ? text[i] : '\0';
      const char l = static_cast<char>(d | 0x20);
      if (!IsDigitChar(d) && !(l >= 'a' && l <= 'f'))
        Fail("truncated \\x, \\u or \\U escape in a string");
      value = value << 4 | static_cast<char32_t>(IsDigitChar(d) ? d - '0' : l - 'a' + 10);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
      Fail("illegal Unicode character in a string escape");
    return value;
  }

  std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<LexedToken> tokens_;
};

}  // namespace

std::vector<LexedToken> Lex(std::string_view source) { return Lexer(source).Run(); }

}  // namespace tessera::jinja
