// Character classes and case mappings as Python's str methods define them. Classes come from
// utf8proc's tables.
#pragma once

#include <string>
#include <string_view>

namespace tessera::jinja {

bool IsSpace(char32_t c);      // str.isspace
bool IsLineBreak(char32_t c);  // what str.splitlines splits at
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsAlnum(char32_t c);
bool IsMark(char32_t c);  // combining marks and connectors, part of identifiers
bool IsPrintable(char32_t c);
bool IsCased(char32_t c);
bool IsUpperChar(char32_t c);
bool IsLowerChar(char32_t c);
bool IsTitleChar(char32_t c);
int DecimalValue(char32_t c);  // of a decimal digit of any script, else -1

// Full mappings (one to up to three code points), appended to `out`.
void AppendUpper(char32_t c, std::u32string* out);
void AppendTitle(char32_t c, std::u32string* out);
// `before` and `after` tell a final sigma: text around c (Unicode 3.13, Final_Sigma).
void AppendLower(std::u32string_view text, size_t i, std::u32string* out);

}  // namespace tessera::jinja
