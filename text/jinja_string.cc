#include "text/jinja_string.h"

#include <algorithm>
#include <cstring>

#include "text/jinja_budget.h"

namespace tessera::jinja {

StringRep::~StringRep() {
  if (live_bytes) *live_bytes -= static_cast<int64_t>(text.size() + origins.size());
}

Str::Str(std::string text, Origin origin) {
  auto rep = std::make_shared<StringRep>();
  rep->length = CountCodePoints(text);
  rep->text = std::move(text);
  rep->origin = origin;
  rep_ = std::move(rep);
}

Origin Str::CommonOrigin() const {
  if (empty()) return Origin::kTemplate;
  if (rep_->origins.empty()) return rep_->origin;
  return rep_->origins.find(static_cast<char>(Origin::kUser)) == std::string::npos
             ? Origin::kTemplate
             : Origin::kUser;
}

size_t Str::ByteOffset(int64_t index) const {
  if (ascii()) return static_cast<size_t>(index);
  const std::string_view text = view();
  size_t pos = 0;
  while (pos < text.size() && index > 0) {
    ++pos;
    while (pos < text.size() && (static_cast<unsigned char>(text[pos]) & 0xc0) == 0x80) ++pos;
    --index;
  }
  return pos;
}

int64_t Str::IndexOfByte(size_t bytes) const {
  return ascii() ? static_cast<int64_t>(bytes) : CountCodePoints(view().substr(0, bytes));
}

void StrBuilder::Reserve(size_t more) {
  budget_.CheckStringSize(text_.size() + more);
  budget_.Touch(more + Budget::kBytesPerStep / 2);
}

void StrBuilder::MakeMixed() {
  origins_.assign(text_.size(), static_cast<char>(origin_));
  mixed_ = true;
}

void StrBuilder::Append(std::string_view text, Origin origin) {
  if (text.empty()) return;
  Reserve(text.size());
  if (text_.empty()) origin_ = origin;
  if (!mixed_ && origin != origin_) MakeMixed();
  text_ += text;
  if (mixed_) origins_.append(text.size(), static_cast<char>(origin));
}

void StrBuilder::Append(const Str& s, size_t begin, size_t end) {
  if (begin >= end) return;
  const StringRep& rep = *s.rep();
  if (rep.origins.empty()) return Append(s.view().substr(begin, end - begin), rep.origin);
  Reserve(end - begin);
  if (!mixed_) MakeMixed();
  text_.append(rep.text, begin, end - begin);
  origins_.append(rep.origins, begin, end - begin);
}

void StrBuilder::AppendCodePoint(char32_t c, Origin origin) {
  std::string bytes;
  EncodeUtf8(c, &bytes);
  Append(bytes, origin);
}

Str StrBuilder::Finish() {
  if (text_.empty()) return Str();
  auto rep = std::make_shared<StringRep>();
  rep->length = CountCodePoints(text_);
  rep->text = std::move(text_);
  rep->origins = std::move(origins_);
  rep->origin = origin_;
  budget_.Hold(rep->text.size() + rep->origins.size());
  rep->live_bytes = budget_.live_bytes();
  text_.clear();
  origins_.clear();
  mixed_ = false;
  return Str(std::move(rep));
}

ProvenanceText StrBuilder::FinishText() {
  ProvenanceText out;
  if (!mixed_) {
    out.Append(text_, origin_);
    return out;
  }
  for (size_t begin = 0; begin < text_.size();) {
    size_t end = origins_.find_first_not_of(origins_[begin], begin);
    if (end == std::string::npos) end = text_.size();
    out.Append(std::string_view(text_).substr(begin, end - begin),
               static_cast<Origin>(origins_[begin]));
    begin = end;
  }
  return out;
}

char32_t DecodeUtf8(std::string_view text, size_t* pos) {
  auto byte = [&](size_t i) -> char32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const size_t i = *pos;
  const char32_t lead = byte(i);
  if (lead < 0x80) {
    *pos = i + 1;
    return lead;
  }
  if (lead < 0xe0) {
    *pos = i + 2;
    return (lead & 0x1f) << 6 | (byte(i + 1) & 0x3f);
  }
  if (lead < 0xf0) {
    *pos = i + 3;
    return (lead & 0x0f) << 12 | (byte(i + 1) & 0x3f) << 6 | (byte(i + 2) & 0x3f);
  }
  *pos = i + 4;
  return (lead & 0x07) << 18 | (byte(i + 1) & 0x3f) << 12 | (byte(i + 2) & 0x3f) << 6 |
         (byte(i + 3) & 0x3f);
}

void EncodeUtf8(char32_t c, std::string* out) {
  auto put = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6);
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

bool IsValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() - i < length) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    const char32_t c = DecodeUtf8(text, &i);
    if ((length == 3 && c < 0x800) || (length == 4 && (c < 0x10000 || c > 0x10ffff)) ||
        (c >= 0xd800 && c < 0xe000)) {
      return false;
    }
  }
  return true;
}

int64_t CountCodePoints(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

size_t FindText(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // In windows that double, so that a search costs what lies before its match: instrumented builds
  // check all of memmem's haystack, and a split into many pieces would be quadratic there.
  size_t window = 256 + needle.size();
  while (needle.size() <= text.size() - from) {
    const size_t size = std::min(text.size() - from, window + needle.size() - 1);
    const void* found = memmem(text.data() + from, size, needle.data(), needle.size());
    if (found) return static_cast<size_t>(static_cast<const char*>(found) - text.data());
    if (size == text.size() - from) break;
    from += window;
    window *= 2;
  }
  return std::string_view::npos;
}

}  // namespace tessera::jinja
