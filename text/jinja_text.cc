#include "text/jinja_text.h"

#include <algorithm>

#include "text/jinja_unicode.h"

namespace tessera::jinja {

namespace {

std::vector<size_t> Offsets(const Str& s) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < s.size(); DecodeUtf8(s.view(), &i)) offsets.push_back(i);
  offsets.push_back(s.size());
  return offsets;
}

std::u32string Decode(Runtime& rt, const Str& s) {
  rt.budget().CheckRoom(s.size() * sizeof(char32_t));
  std::u32string out;
  out.reserve(static_cast<size_t>(s.length()));
  for (size_t i = 0; i < s.size();) out.push_back(DecodeUtf8(s.view(), &i));
  return out;
}

// Maps code points one by one; what a code point becomes has its origin.
template <typename F>
Str MapCodePoints(Runtime& rt, const Str& s, F map) {
  rt.budget().Touch(s.size() * 8);
  const std::u32string text = Decode(rt, s);
  StrBuilder out(rt.budget());
  std::u32string mapped;
  std::string run;  // of one origin
  Origin origin = Origin::kUser;
  size_t byte = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const Origin here = s.OriginAt(byte);
    DecodeUtf8(s.view(), &byte);
    if (here != origin) {
      out.Append(run, origin);
      run.clear();
      origin = here;
    }
    mapped.clear();
    map(text, i, &mapped);
    for (const char32_t c : mapped) EncodeUtf8(c, &run);
  }
  out.Append(run, origin);
  return out.Finish();
}

}  // namespace

Str Substring(Runtime& rt, const Str& s, size_t begin, size_t end) {
  if (begin == 0 && end == s.size()) return s;
  StrBuilder b(rt.budget());
  b.Append(s, begin, end);
  return b.Finish();
}

Str Strip(Runtime& rt, const Str& s, Side side, const Str* chars) {
  std::u32string set;
  if (chars) set = Decode(rt, *chars);
  std::sort(set.begin(), set.end());
  auto drop = [&](char32_t c) {
    return chars ? std::binary_search(set.begin(), set.end(), c) : IsSpace(c);
  };
  const std::string_view text = s.view();
  size_t begin = 0, end = text.size();
  if (side != Side::kRight) {
    while (begin < end) {
      size_t next = begin;
      if (!drop(DecodeUtf8(text, &next))) break;
      begin = next;
    }
  }
  if (side != Side::kLeft) {
    while (end > begin) {
      size_t last = end - 1;
      while (last > begin && (static_cast<unsigned char>(text[last]) & 0xc0) == 0x80) --last;
      size_t next = last;
      if (!drop(DecodeUtf8(text, &next))) break;
      end = last;
    }
  }
  rt.budget().Touch(text.size() - (end - begin) + set.size());
  return Substring(rt, s, begin, end);
}

Str Upper(Runtime& rt, const Str& s) {
  return MapCodePoints(rt, s, [](std::u32string_view text, size_t i, std::u32string* out) {
    AppendUpper(text[i], out);
  });
}

Str Lower(Runtime& rt, const Str& s) { return MapCodePoints(rt, s, AppendLower); }

Str Capitalize(Runtime& rt, const Str& s) {
  return MapCodePoints(rt, s, [](std::u32string_view text, size_t i, std::u32string* out) {
    if (i == 0) {
      AppendTitle(text[i], out);
    } else {
      AppendLower(text, i, out);
    }
  });
}

Str TitleWords(Runtime& rt, const Str& s) {
  bool in_word = false;
  return MapCodePoints(rt, s, [&](std::u32string_view text, size_t i, std::u32string* out) {
    if (in_word) {
      AppendLower(text, i, out);
    } else {
      AppendTitle(text[i], out);
    }
    in_word = IsCased(text[i]);
  });
}

Str SwapCase(Runtime& rt, const Str& s) {
  return MapCodePoints(rt, s, [](std::u32string_view text, size_t i, std::u32string* out) {
    if (IsUpperChar(text[i])) {
      AppendLower(text, i, out);
    } else if (IsLowerChar(text[i])) {
      AppendUpper(text[i], out);
    } else {
      out->push_back(text[i]);
    }
  });
}

Str Replace(Runtime& rt, const Str& s, const Str& from, const Str& to, int64_t count) {
  StrBuilder out(rt.budget());
  rt.budget().Touch(s.size());
  const int64_t most = count < 0 ? INT64_MAX : count;
  if (from.empty()) {
    // Before every character and at the end.
    const std::vector<size_t> offsets = Offsets(s);
    int64_t done = 0;
    for (size_t k = 0; k < offsets.size(); ++k) {
      if (done++ < most) out.Append(to);
      if (k + 1 < offsets.size()) out.Append(s, offsets[k], offsets[k + 1]);
    }
    return out.Finish();
  }
  size_t plain = 0;
  for (int64_t done = 0; done < most; ++done) {
    const size_t found = FindText(s.view(), from.view(), plain);
    if (found == std::string_view::npos) break;
    out.Append(s, plain, found);
    out.Append(to);
    plain = found + from.size();
  }
  if (plain == 0) return s;
  out.Append(s, plain, s.size());
  return out.Finish();
}

std::vector<Str> Split(Runtime& rt, const Str& s, const Str* separator, int64_t most,
                       bool from_right) {
  const std::string_view text = s.view();
  rt.budget().Touch(text.size());
  std::vector<std::pair<size_t, size_t>> parts;
  if (separator) {
    if (separator->empty()) Raise("empty separator");
    std::vector<size_t> found;
    if (from_right) {
      // The same search on the mirrored bytes, so that it stays linear.
      const std::string mirror(text.rbegin(), text.rend());
      const std::string needle(separator->view().rbegin(), separator->view().rend());
      for (size_t from = 0; most < 0 || static_cast<int64_t>(found.size()) < most;) {
        const size_t at = FindText(mirror, needle, from);
        if (at == std::string_view::npos) break;
        from = at + needle.size();
        found.push_back(text.size() - from);
      }
      std::reverse(found.begin(), found.end());
    } else {
      for (size_t from = 0; most < 0 || static_cast<int64_t>(found.size()) < most;) {
        const size_t at = FindText(text, separator->view(), from);
        if (at == std::string_view::npos) break;
        found.push_back(at);
        from = at + separator->size();
      }
    }
    size_t begin = 0;
    for (const size_t at : found) {
      parts.emplace_back(begin, at);
      begin = at + separator->size();
    }
    parts.emplace_back(begin, text.size());
  } else {
    // Words; once `most` splits are done, the rest is one part without white space at its outer
    // end.
    std::vector<std::pair<size_t, size_t>> words;
    for (size_t i = 0; i < text.size();) {
      size_t next = i;
      if (IsSpace(DecodeUtf8(text, &next))) {
        i = next;
        continue;
      }
      const size_t begin = i;
      while (i < text.size()) {
        next = i;
        if (IsSpace(DecodeUtf8(text, &next))) break;
        i = next;
      }
      words.emplace_back(begin, i);
    }
    const auto n = static_cast<int64_t>(words.size());
    if (most < 0 || n <= most) {
      parts = std::move(words);
    } else if (from_right) {
      // What is left over keeps the white space at its outer end.
      const auto rest = static_cast<size_t>(n - most - 1);
      parts.emplace_back(0, words[rest].second);
      parts.insert(parts.end(), words.begin() + static_cast<std::ptrdiff_t>(rest) + 1, words.end());
    } else {
      const auto kept = static_cast<size_t>(most);
      parts.assign(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(kept));
      parts.emplace_back(words[kept].first, text.size());
    }
  }
  std::vector<Str> out;
  rt.budget().Step(static_cast<int64_t>(parts.size()));
  rt.budget().CheckRoom(parts.size() * sizeof(Value) * 3);
  out.reserve(parts.size());
  for (const auto& [begin, end] : parts) out.push_back(Substring(rt, s, begin, end));
  return out;
}

std::vector<Str> SplitLines(Runtime& rt, const Str& s, bool keep_ends) {
  const std::string_view text = s.view();
  rt.budget().Touch(text.size());
  std::vector<Str> out;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin, next = begin;
    while (end < text.size()) {
      next = end;
      if (IsLineBreak(DecodeUtf8(text, &next))) break;
      end = next;
    }
    if (end < text.size() && text[end] == '\r' && next < text.size() && text[next] == '\n') ++next;
    if (end == text.size()) next = end;
    rt.budget().Step();
    out.push_back(Substring(rt, s, begin, keep_ends ? next : end));
    begin = next;
  }
  return out;
}

Str Join(Runtime& rt, const Str& separator, const std::vector<Str>& parts) {
  StrBuilder out(rt.budget());
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out.Append(separator);
    out.Append(parts[i]);
  }
  return out.Finish();
}

Str Pad(Runtime& rt, const Str& s, int64_t width, const Str& fill, Side text_side) {
  if (fill.length() != 1) Raise("The fill character must be exactly one character long");
  const int64_t pad = width - s.length();
  if (pad <= 0) return s;
  rt.budget().CheckStringSize(static_cast<size_t>(pad) * fill.size());
  // str.center's rounding.
  const int64_t before = text_side == Side::kLeft    ? 0
                         : text_side == Side::kRight ? pad
                                                     : pad / 2 + (pad & width & 1);
  StrBuilder out(rt.budget());
  for (int64_t i = 0; i < before; ++i) out.Append(fill);
  out.Append(s);
  for (int64_t i = before; i < pad; ++i) out.Append(fill);
  return out.Finish();
}

Str PadWithZeros(Runtime& rt, const Str& s, int64_t width) {
  const int64_t pad = width - s.length();
  if (pad <= 0) return s;
  rt.budget().CheckStringSize(static_cast<size_t>(pad));
  const bool sign = !s.empty() && (s.view()[0] == '+' || s.view()[0] == '-');
  StrBuilder out(rt.budget());
  if (sign) out.Append(s, 0, 1);
  out.Append(std::string(static_cast<size_t>(pad), '0'), s.CommonOrigin());
  out.Append(s, sign ? 1 : 0, s.size());
  return out.Finish();
}

bool IsUpperText(std::string_view s) {
  bool cased = false;
  for (size_t i = 0; i < s.size();) {
    const char32_t c = DecodeUtf8(s, &i);
    if (IsLowerChar(c) || IsTitleChar(c)) return false;
    cased = cased || IsUpperChar(c);
  }
  return cased;
}

bool IsLowerText(std::string_view s) {
  bool cased = false;
  for (size_t i = 0; i < s.size();) {
    const char32_t c = DecodeUtf8(s, &i);
    if (IsUpperChar(c) || IsTitleChar(c)) return false;
    cased = cased || IsLowerChar(c);
  }
  return cased;
}

bool IsTitleText(std::string_view s) {
  bool cased = false, in_word = false;
  for (size_t i = 0; i < s.size();) {
    const char32_t c = DecodeUtf8(s, &i);
    if (IsUpperChar(c) || IsTitleChar(c)) {
      if (in_word) return false;
      in_word = cased = true;
    } else if (IsLowerChar(c)) {
      if (!in_word) return false;
      cased = true;
    } else {
      in_word = false;
    }
  }
  return cased;
}

bool AllOf(std::string_view s, bool (*is)(char32_t)) {
  for (size_t i = 0; i < s.size();) {
    if (!is(DecodeUtf8(s, &i))) return false;
  }
  return !s.empty();
}

}  // namespace tessera::jinja
