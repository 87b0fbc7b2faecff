// Text that knows, byte by byte, who wrote it: the model's chat template or a user.
//
// The template interpreter produces it and the tokenizer consumes it; a special token matches only
// where all of its bytes come from the template, so that no text of a user can ever become one,
// however it was sliced, joined or filtered on the way.
//
// Thread safety: a value type; const access from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tessera {

enum class Origin : uint8_t { kUser = 0, kTemplate = 1 };

class ProvenanceText {
 public:
  ProvenanceText() = default;
  ProvenanceText(std::string text, Origin origin)
      : text_(std::move(text)), origins_(text_.size(), static_cast<char>(origin)) {}

  std::string_view text() const { return text_; }
  size_t size() const { return text_.size(); }
  bool empty() const { return text_.empty(); }
  Origin origin(size_t i) const { return static_cast<Origin>(origins_[i]); }
  // One byte per byte of text(): 0 user, 1 template.
  std::string_view origins() const { return origins_; }
  // True if every byte of [begin, end) comes from the template.
  bool FromTemplate(size_t begin, size_t end) const {
    return origins_.find(static_cast<char>(Origin::kUser), begin) >= end;
  }

  void Append(std::string_view text, Origin origin) {
    text_.append(text);
    origins_.append(text.size(), static_cast<char>(origin));
  }
  void Append(const ProvenanceText& other) {
    text_ += other.text_;
    origins_ += other.origins_;
  }
  // Bytes [begin, begin + length), clipped to the text.
  ProvenanceText Substr(size_t begin, size_t length) const {
    ProvenanceText out;
    if (begin > text_.size()) return out;
    out.text_ = text_.substr(begin, length);
    out.origins_ = origins_.substr(begin, length);
    return out;
  }

  bool operator==(const ProvenanceText&) const = default;

 private:
  std::string text_;
  std::string origins_;
};

}  // namespace tessera
