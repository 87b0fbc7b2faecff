// What the two ways of formatting text share; inside text/jinja_*format.cc only.
#pragma once

#include <string_view>

#include "text/jinja_runtime.h"

namespace tessera::jinja {

// Widths and precisions beyond this are refused, so that no format can ask for memory that no
// budget has seen.
inline constexpr int kMaxWidth = 1 << 20;

// Fields of Python's format mini-language; % formatting uses a part of them.
struct FormatSpec {
  Str fill{" ", Origin::kTemplate};
  char align = '\0';  // < > = ^
  char sign = '-';
  bool alternate = false, zero = false;
  int width = 0, precision = -1;
  char grouping = '\0';
  char type = '\0';
};

void AppendFormatted(StrBuilder& out, const FormatSpec& spec, const Str& s);
void AppendFormatted(StrBuilder& out, const FormatSpec& spec, Int i, Origin origin);
void AppendFormatted(StrBuilder& out, const FormatSpec& spec, double d, Origin origin);

// Decimal digits at `i`, moved past them.
int ReadFormatInt(std::string_view text, size_t* i);

}  // namespace tessera::jinja
