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
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/pretokenizer_regex.h"
#include "text/tokenizer_json.h"
#include "text/unicode_set.h"

namespace tessera {

class PreTokenizer {
 public:
  static Result<PreTokenizer> FromJson(const JsonNode& root);

  // Calls f(piece) for the pieces of `text` in order; none is empty. `at_start`: the text stands at
  // the start of what was to be encoded (Metaspace asks). Linear; pieces go through the steps in
  // batches, so that what a step makes is still in the cache when the next one reads it, however
  // long the text.
  using PieceFunction = std::function<void(std::string_view piece)>;
  void ForEachPiece(std::string_view text, bool at_start, const PieceFunction& f) const;

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
  struct Piece {
    size_t begin, end;
  };
  // What a step has made so far.
  struct Batch {
    std::vector<Piece> pieces;
    std::string text;  // of steps that rewrite
    std::string rewritten;
    std::vector<Match> matches;
  };

  static Result<void> Add(const JsonNode& node, std::vector<Step>& steps, int depth);
  static Result<Behavior> ReadBehavior(const JsonNode& node, std::optional<Behavior> fallback);
  void Process(size_t index, std::string_view text, std::span<const Piece> pieces, bool at_start,
               std::vector<Batch>& batches, const PieceFunction& f) const;
  template <typename F>
  static void FindMatches(const Step& step, std::string_view text, F&& match);
  template <typename F>
  static void Split(std::vector<Match>& matches, Behavior behavior, F&& emit);

  std::vector<Step> steps_;
};

}  // namespace tessera
