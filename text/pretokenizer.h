// The `pre_tokenizer` of a tokenizer.json: one text to the pieces that the model encodes one by
// one.
//
// Supported: Sequence, ByteLevel, Split (String or Regex, all behaviours, invert), Metaspace,
// Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit,
// FixedLength; null.
//
// Thread safety: const after loading.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/pretokenizer_regex.h"
#include "text/tokenizer_json.h"
#include "text/unicode_set.h"

namespace tessera {

// Pieces [begin, end) of one buffer, in order, none empty.
struct TextPieces {
  struct Piece {
    size_t begin, end;
  };
  std::string text;
  std::vector<Piece> pieces;
  bool at_start = false;  // the first piece stands at the start of what was to be encoded
};

class PreTokenizer {
 public:
  static Result<PreTokenizer> FromJson(const JsonNode& root);

  // `pieces` holds one piece on entry. Linear.
  void Apply(TextPieces& pieces) const;

 private:
  enum class Kind { kByteLevel, kSplit, kMetaspace, kCharSplit, kWhitespace, kFixedLength };
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prepend { kNever, kFirst, kAlways };
  struct Step {
    Kind kind = Kind::kSplit;
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
    std::shared_ptr<const TokenRegex> regex;  // kSplit; kByteLevel, or null there
    std::shared_ptr<const CodePointBits> set,
        space;                  // kCharSplit: set; kWhitespace: word characters and white space
    bool prefix_space = false;  // kByteLevel
    std::string replacement;    // kMetaspace
    Prepend prepend = Prepend::kNever;  // kMetaspace
    bool split = true;                  // kMetaspace
    size_t length = 0;                  // kFixedLength, in characters
  };
  struct Match {
    size_t begin, end;
    bool is_match;
  };

  static Result<void> Add(const JsonNode& node, std::vector<Step>& steps, int depth);
  static Result<Behavior> ReadBehavior(const JsonNode& node, std::optional<Behavior> fallback);
  static void Run(const Step& step, TextPieces& pieces);
  static void FindMatches(const Step& step, std::string_view text, std::vector<Match>& matches);
  static void Split(std::vector<Match>& matches, Behavior behavior, size_t offset,
                    std::vector<TextPieces::Piece>& out);

  std::vector<Step> steps_;
};

}  // namespace tessera
