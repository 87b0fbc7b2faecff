// Strings of the template interpreter: immutable UTF-8 with an origin per byte
// (text/provenance_text.h).
//
// Every function that makes a string goes through StrBuilder, which copies origins together with
// bytes and charges the render's budget; nothing else can create one. Strings hold whole code
// points only.
//
// Thread safety: a Str may be read from any thread (literals of a compiled template are);
// StrBuilder is one thread's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "text/provenance_text.h"

namespace tessera::jinja {

class Budget;

struct StringRep {
  std::string text;
  std::string origins;  // one byte per byte of text, or empty: all bytes are of `origin`
  Origin origin = Origin::kUser;
  int64_t length = 0;                        // code points
  std::shared_ptr<int64_t> live_bytes = {};  // the render's count of bytes held; null for literals

  ~StringRep();
};

class Str {
 public:
  Str() = default;
  // A literal of the template, or an input; outside any budget. `text` must be UTF-8.
  Str(std::string text, Origin origin);
  explicit Str(std::shared_ptr<const StringRep> rep) : rep_(std::move(rep)) {}

  std::string_view view() const { return rep_ ? std::string_view(rep_->text) : std::string_view(); }
  size_t size() const { return rep_ ? rep_->text.size() : 0; }
  bool empty() const { return size() == 0; }
  int64_t length() const { return rep_ ? rep_->length : 0; }  // code points, Python's len()
  bool ascii() const { return static_cast<int64_t>(size()) == length(); }
  Origin OriginAt(size_t byte) const {
    return rep_->origins.empty() ? rep_->origin : static_cast<Origin>(rep_->origins[byte]);
  }
  // kTemplate only if every byte is.
  Origin CommonOrigin() const;
  // Byte offset of code point `index`, which must be within [0, length()].
  size_t ByteOffset(int64_t index) const;
  // Code points in the first `bytes` bytes.
  int64_t IndexOfByte(size_t bytes) const;
  bool SameObject(const Str& other) const { return rep_ == other.rep_; }
  const StringRep* rep() const { return rep_.get(); }

 private:
  std::shared_ptr<const StringRep> rep_;
};

class StrBuilder {
 public:
  explicit StrBuilder(Budget& budget) : budget_(budget) {}

  void Append(const Str& s) { Append(s, 0, s.size()); }
  void Append(const Str& s, size_t begin, size_t end);  // bytes [begin, end)
  void Append(std::string_view text, Origin origin);
  void AppendCodePoint(char32_t c, Origin origin);
  size_t size() const { return text_.size(); }
  std::string_view view() const { return text_; }
  Str Finish();
  ProvenanceText FinishText();

 private:
  void Reserve(size_t more);
  void MakeMixed();

  Budget& budget_;
  std::string text_;
  std::string origins_;
  bool mixed_ = false;
  Origin origin_ = Origin::kUser;
};

// UTF-8. `pos` must lie at the start of a code point of valid text and is moved past it.
char32_t DecodeUtf8(std::string_view text, size_t* pos);
void EncodeUtf8(char32_t c, std::string* out);
bool IsValidUtf8(std::string_view text);
int64_t CountCodePoints(std::string_view text);
// First `needle` at or after `from`, or npos; linear in the worst case, unlike
// std::string_view::find.
size_t FindText(std::string_view text, std::string_view needle, size_t from);

}  // namespace tessera::jinja
