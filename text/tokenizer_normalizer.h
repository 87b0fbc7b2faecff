// The `normalizer` of a tokenizer.json, applied to text that may know who wrote each byte.
//
// Supported: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Replace (String or Regex), Prepend, Strip,
// StripAccents, ByteLevel; null.
//
// Thread safety: const after loading.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/pretokenizer_regex.h"
#include "text/tokenizer_json.h"
#include "text/unicode_normalize.h"
#include "text/unicode_set.h"

namespace tessera {

// A text and the Origin of each byte; no origins: they are all alike and nobody asks.
struct AttributedText {
  std::string text;
  std::string origins;
  bool attributed = false;
  // The first character comes from the first one of the text that was to be encoded (Metaspace
  // asks).
  bool at_start = false;
};

class TextNormalizer {
 public:
  static Result<TextNormalizer> FromJson(const JsonNode& root);

  bool identity() const { return steps_.empty(); }
  // A byte made from several comes from the template only if all of them do; a byte made from none
  // (Prepend), if its neighbour does.
  void Apply(AttributedText& text) const;
  std::string Apply(std::string_view text) const;

 private:
  enum class Kind {
    kUnicode,
    kLowercase,
    kReplace,
    kReplaceRegex,
    kPrepend,
    kStrip,
    kStripAccents,
    kByteLevel
  };
  struct Step {
    Kind kind;
    std::shared_ptr<const UnicodeNormalizer> unicode;
    std::string pattern, content;
    std::shared_ptr<const TokenRegex> regex;
    std::shared_ptr<const CodePointBits> set;
    std::shared_ptr<const std::vector<char32_t>> lower;  // by code point; 0: itself
    bool left = false, right = false;
  };

  static Result<void> Add(const JsonNode& node, std::vector<Step>& steps, int depth);
  static void Run(const Step& step, AttributedText& text);

  std::vector<Step> steps_;
};

}  // namespace tessera
