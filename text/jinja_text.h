// What Python's str methods do, on strings with origins. Shared by methods and filters.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja_runtime.h"

namespace tessera::jinja {

enum class Side { kLeft, kRight, kBoth };

Str Substring(Runtime& rt, const Str& s, size_t begin, size_t end);  // bytes
// Without `chars`: white space.
Str Strip(Runtime& rt, const Str& s, Side side, const Str* chars);
Str Upper(Runtime& rt, const Str& s);
Str Lower(Runtime& rt, const Str& s);
Str Capitalize(Runtime& rt, const Str& s);  // str.capitalize
Str TitleWords(Runtime& rt, const Str& s);  // str.title
Str SwapCase(Runtime& rt, const Str& s);
// str.replace; count < 0: all.
Str Replace(Runtime& rt, const Str& s, const Str& from, const Str& to, int64_t count);
// str.split, rsplit; no separator: runs of white space.
std::vector<Str> Split(Runtime& rt, const Str& s, const Str* separator, int64_t most,
                       bool from_right);
std::vector<Str> SplitLines(Runtime& rt, const Str& s, bool keep_ends);
Str Join(Runtime& rt, const Str& separator, const std::vector<Str>& parts);
Str Pad(Runtime& rt, const Str& s, int64_t width, const Str& fill,
        Side text_side);  // ljust, rjust, center
Str PadWithZeros(Runtime& rt, const Str& s, int64_t width);

bool IsUpperText(std::string_view s);
bool IsLowerText(std::string_view s);
bool IsTitleText(std::string_view s);
// Not empty, and `is` holds for every code point.
bool AllOf(std::string_view s, bool (*is)(char32_t));

}  // namespace tessera::jinja
