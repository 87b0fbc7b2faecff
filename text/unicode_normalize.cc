#include "text/unicode_normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "text/utf8.h"

namespace tessera {
namespace {

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

}  // namespace

UnicodeNormalizer::UnicodeNormalizer(NormalForm form)
    : compose_(form == NormalForm::kNfc || form == NormalForm::kNfkc),
      compat_(form == NormalForm::kNfkc || form == NormalForm::kNfkd),
      left_alone_(TableSet(compat_ ? "#not_nfkd" : "#not_nfd")) {}

void UnicodeNormalizer::Append(std::string_view text, std::string& out) const {
  // ASCII stands for itself and starts anew; only the last of a run may take a mark that follows.
  // So do the code points left alone: to the release that is imitated they are unassigned.
  size_t begin = 0;  // of the run that needs work
  bool plain = true;
  for (size_t i = 0; i < text.size();) {
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      if (!plain) {
        AppendRun(text.substr(begin, i - begin), out);
        begin = i;
        plain = true;
      }
      ++i;
      continue;
    }
    const DecodedChar c = DecodeUtf8(text.substr(i));
    if (left_alone_.Contains(c.code_point)) {
      if (plain)
        out += text.substr(begin, i - begin);
      else
        AppendRun(text.substr(begin, i - begin), out);
      out += text.substr(i, c.length);
      begin = i + c.length;
      plain = true;
    } else if (plain) {
      const size_t keep = i > begin ? i - 1 : i;
      out += text.substr(begin, keep - begin);
      begin = keep;
      plain = false;
    }
    i += c.length;
  }
  if (plain)
    out += text.substr(begin);
  else
    AppendRun(text.substr(begin), out);
}

void UnicodeNormalizer::AppendRun(std::string_view run, std::string& out) const {
  std::vector<utf8proc_int32_t> points;
  points.reserve(run.size());
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compat_ ? UTF8PROC_COMPAT : 0));
  utf8proc_int32_t parts[32];
  int boundary = 0;
  for (size_t i = 0; i < run.size();) {
    const DecodedChar c = DecodeUtf8(run.substr(i));
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), parts,
                                               32, options, &boundary);
    TESSERA_CHECK(count >= 0 && count <= 32, "decomposition of U+{:X}: {}",
                  static_cast<uint32_t>(c.code_point), count);
    points.insert(points.end(), parts, parts + count);
    i += c.length;
  }
  // Canonical order: marks by class, equal ones as they came
  for (size_t i = 0; i < points.size();) {
    if (CombiningClass(points[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < points.size() && CombiningClass(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + static_cast<ptrdiff_t>(i),
                     points.begin() + static_cast<ptrdiff_t>(end),
                     [](auto a, auto b) { return CombiningClass(a) < CombiningClass(b); });
    i = end;
  }
  size_t count = points.size();
  if (compose_) {
    const auto composed = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(count),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    TESSERA_CHECK(composed >= 0, "composition failed: {}", composed);
    count = static_cast<size_t>(composed);
  }
  for (size_t i = 0; i < count; ++i) AppendUtf8(out, static_cast<char32_t>(points[i]));
}

bool UnicodeNormalizer::CanCutBefore(char32_t c) {
  if (c < 0x80) return true;
  // Hangul vowels and finals, and what decomposes to them or to voicing marks
  if ((c >= 0x1160 && c <= 0x11FF) || (c >= 0x3131 && c <= 0x318E) || (c >= 0xFF9E && c <= 0xFFDC))
    return false;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SO: return true;
    default: return false;
  }
}

}  // namespace tessera
