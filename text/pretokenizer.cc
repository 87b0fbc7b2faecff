#include "text/pretokenizer.h"

#include <algorithm>

#include "text/unicode_byte_level.h"
#include "text/utf8.h"

namespace tessera {
namespace {

// GPT-2's pattern (Radford et al. 2019), which the ByteLevel pre-tokenizer applies where use_regex
// is set.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr size_t kBatchPieces = 1024, kBatchBytes = 16384;

std::shared_ptr<const CodePointBits> BitsOf(const CodePointSet& set) {
  return std::make_shared<CodePointBits>(set);
}

}  // namespace

Result<PreTokenizer::Behavior> PreTokenizer::ReadBehavior(const JsonNode& node,
                                                          std::optional<Behavior> fallback) {
  if (fallback && node.Find("behavior") == nullptr) return *fallback;
  TESSERA_TRY(const std::string name, node.String("behavior"));
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return node.Wrong("behavior",
                    "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

Result<void> PreTokenizer::Add(const JsonNode& node, std::vector<Step>& steps, int depth) {
  TESSERA_TRY(const std::string type, node.String("type"));
  Step step;
  if (type == "Sequence") {
    if (depth > 4)
      return Invalid("nested too deep", {.field = node.path(), .limit = "4", .value = "more"});
    TESSERA_TRY(const auto parts, node.Array("pretokenizers"));
    for (const JsonNode& part : parts) TESSERA_RETURN_IF_ERROR(Add(part, steps, depth + 1));
    return {};
  }
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    TESSERA_TRY(step.prefix_space, node.Bool("add_prefix_space", true));
    TESSERA_TRY(const bool use_regex, node.Bool("use_regex", true));
    if (use_regex) {
      TESSERA_TRY(step.regex, TokenRegex::Compile(kByteLevelPattern, node.path()));
    }
  } else if (type == "Split") {
    TESSERA_TRY(const JsonNode pattern, node.Object("pattern"));
    if (pattern.Find("Regex") != nullptr) {
      TESSERA_TRY(const std::string source, pattern.String("Regex"));
      TESSERA_TRY(step.regex, TokenRegex::Compile(source, pattern.PathOf("Regex")));
    } else {
      TESSERA_TRY(const std::string literal, pattern.String("String"));
      TESSERA_TRY(step.regex, TokenRegex::CompileLiteral(literal, pattern.PathOf("String")));
    }
    TESSERA_TRY(step.behavior, ReadBehavior(node, std::nullopt));
    TESSERA_TRY(step.invert, node.Bool("invert", false));
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    TESSERA_TRY(const char32_t replacement, node.Char("replacement"));
    AppendUtf8(step.replacement, replacement);
    step.set = BitsOf({{replacement, replacement}});
    TESSERA_TRY(const auto scheme, node.OptionalString("prepend_scheme"));
    TESSERA_TRY(const bool prefix, node.Bool("add_prefix_space", true));
    if (scheme && *scheme != "first" && *scheme != "always" && *scheme != "never")
      return node.Wrong("prepend_scheme", "first, always, never");
    step.prepend = scheme ? (*scheme == "first"    ? Prepend::kFirst
                             : *scheme == "always" ? Prepend::kAlways
                                                   : Prepend::kNever)
                          : (prefix ? Prepend::kAlways : Prepend::kNever);
    TESSERA_TRY(step.split, node.Bool("split", true));
  } else if (type == "Digits") {
    step.kind = Kind::kCharSplit;
    step.set = BitsOf(TableSet("#numeric"));
    TESSERA_TRY(const bool individual, node.Bool("individual_digits", false));
    step.behavior = individual ? Behavior::kIsolated : Behavior::kContiguous;
  } else if (type == "Punctuation") {
    step.kind = Kind::kCharSplit;
    step.set = BitsOf(TableSet("#punctuation"));
    TESSERA_TRY(step.behavior, ReadBehavior(node, Behavior::kIsolated));
  } else if (type == "Whitespace") {
    step.kind = Kind::kWhitespace;
    step.set = BitsOf(TableSet("#word"));
    step.space = BitsOf(TableSet("#whitespace"));
    step.behavior = Behavior::kRemoved;
  } else if (type == "WhitespaceSplit" || type == "BertPreTokenizer") {
    step.kind = Kind::kCharSplit;
    step.set = BitsOf(TableSet("#whitespace"));
    step.behavior = Behavior::kRemoved;
    if (type == "BertPreTokenizer") {
      steps.push_back(step);
      step.set = BitsOf(TableSet("#punctuation"));
      step.behavior = Behavior::kIsolated;
    }
  } else if (type == "CharDelimiterSplit") {
    step.kind = Kind::kCharSplit;
    TESSERA_TRY(const char32_t delimiter, node.Char("delimiter"));
    step.set = BitsOf({{delimiter, delimiter}});
    step.behavior = Behavior::kRemoved;
  } else if (type == "FixedLength") {
    step.kind = Kind::kFixedLength;
    TESSERA_TRY(const int64_t length, node.Int("length", 1, kMaxTokenId, 5));
    step.length = static_cast<size_t>(length);
  } else {
    return node.Wrong(
        "type",
        "Sequence, ByteLevel, Split, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, "
        "BertPreTokenizer, CharDelimiterSplit, FixedLength");
  }
  steps.push_back(std::move(step));
  return {};
}

Result<PreTokenizer> PreTokenizer::FromJson(const JsonNode& root) {
  PreTokenizer pre_tokenizer;
  if (root.Find("pre_tokenizer") == nullptr) return pre_tokenizer;
  TESSERA_TRY(const JsonNode node, root.Object("pre_tokenizer"));
  TESSERA_RETURN_IF_ERROR(Add(node, pre_tokenizer.steps_, 0));
  return pre_tokenizer;
}

void PreTokenizer::ForEachPiece(std::string_view text, bool at_start,
                                const PieceFunction& f) const {
  if (text.empty()) return;
  std::vector<Batch> batches(steps_.size());
  const Piece whole{0, text.size()};
  Process(0, text, {&whole, 1}, at_start, batches, f);
}

// Calls match(begin, end, is_match) for matches and what lies between, in order, of one piece.
template <typename F>
void PreTokenizer::FindMatches(const Step& step, std::string_view text, F&& match) {
  switch (step.kind) {
    case Kind::kSplit:
    case Kind::kByteLevel:
      step.regex->ForEachPiece(text, [&](size_t begin, size_t end, bool is_match) {
        match(begin, end, is_match != step.invert);
      });
      return;
    case Kind::kFixedLength: {
      size_t begin = 0, count = 0;
      for (size_t i = 0; i < text.size();) {
        i += DecodeUtf8(text.substr(i)).length;
        if (++count < step.length && i < text.size()) continue;
        match(begin, i, true);
        begin = i;
        count = 0;
      }
      return;
    }
    case Kind::kWhitespace: {  // \w+|[^\w\s]+, the rest removed
      int last = -1;
      size_t begin = 0;
      for (size_t i = 0; i < text.size();) {
        const DecodedChar c = DecodeUtf8(text.substr(i));
        const int kind = step.set->Contains(c.code_point)     ? 0
                         : step.space->Contains(c.code_point) ? 1
                                                              : 2;
        if (kind != last && last >= 0) {
          match(begin, i, last == 1);
          begin = i;
        }
        last = kind;
        i += c.length;
      }
      if (last >= 0) match(begin, text.size(), last == 1);
      return;
    }
    case Kind::kMetaspace:  // cut before each mark: what MergedWithNext makes of single characters
    case Kind::kCharSplit: {
      const bool metaspace = step.kind == Kind::kMetaspace;
      size_t done = 0;
      for (size_t i = 0; i < text.size();) {
        const DecodedChar c = DecodeUtf8(text.substr(i));
        if (step.set->Contains(c.code_point)) {
          if (done < i) match(done, i, false);
          done = i;
          if (!metaspace) {
            match(i, i + c.length, true);
            done = i + c.length;
          }
        }
        i += c.length;
      }
      if (done < text.size()) match(done, text.size(), false);
      return;
    }
  }
}

// What becomes of the matches. Between two pieces that are both matches, or both not, nothing is
// merged except by Contiguous.
template <typename F>
void PreTokenizer::Split(std::vector<Match>& matches, Behavior behavior, F&& emit) {
  bool previous = false;
  if (behavior == Behavior::kMergedWithNext) {
    for (size_t i = matches.size(); i-- > 0;) {
      const bool is_match = matches[i].is_match;
      if (is_match && !previous && i + 1 < matches.size()) {
        matches[i].end = matches[i + 1].end;
        matches[i + 1].begin = matches[i + 1].end;  // empty: not put out
      }
      previous = is_match;
    }
    for (const Match& match : matches) emit(match.begin, match.end);
    return;
  }
  size_t begin = 0, end = 0;
  for (const Match& match : matches) {
    const bool merge = behavior == Behavior::kContiguous ? match.is_match == previous
                                                         : match.is_match && !previous;
    if (!merge) {
      emit(begin, end);
      begin = match.begin;
    }
    end = match.end;
    previous = match.is_match;
  }
  emit(begin, end);
}

void PreTokenizer::Process(size_t index, std::string_view text, std::span<const Piece> pieces,
                           bool at_start, std::vector<Batch>& batches,
                           const PieceFunction& f) const {
  if (index == steps_.size()) {
    for (const Piece& piece : pieces) f(text.substr(piece.begin, piece.end - piece.begin));
    return;
  }
  const Step& step = steps_[index];
  Batch& batch = batches[index];
  const bool metaspace = step.kind == Kind::kMetaspace, byte_level = step.kind == Kind::kByteLevel;
  const bool rewrites = metaspace || byte_level;
  bool first_batch = true;
  const auto flush = [&] {
    if (batch.pieces.empty()) return;
    const bool start =
        at_start && first_batch && (rewrites || batch.pieces[0].begin == pieces[0].begin);
    first_batch = false;
    Process(index + 1, rewrites ? std::string_view(batch.text) : text, batch.pieces, start, batches,
            f);
    batch.pieces.clear();
    batch.text.clear();
  };
  bool first = true;
  for (const Piece& piece : pieces) {
    std::string_view source = text.substr(piece.begin, piece.end - piece.begin);
    if (metaspace) {
      const bool wanted = step.prepend == Prepend::kAlways ||
                          (step.prepend == Prepend::kFirst && at_start && first);
      batch.rewritten.clear();
      if (wanted && !source.starts_with(' ') && !source.starts_with(step.replacement))
        batch.rewritten += step.replacement;
      for (const char byte : source) {
        if (byte == ' ')
          batch.rewritten += step.replacement;
        else
          batch.rewritten += byte;
      }
      source = batch.rewritten;
    } else if (byte_level && step.prefix_space && !source.starts_with(' ')) {
      batch.rewritten.clear();
      batch.rewritten += ' ';
      batch.rewritten += source;
      source = batch.rewritten;
    }
    first = false;
    const auto emit = [&](size_t begin, size_t end) {
      if (begin == end) return;
      if (!rewrites) {
        batch.pieces.push_back({piece.begin + begin, piece.begin + end});
      } else {
        const size_t at = batch.text.size();
        if (byte_level)
          AppendByteLevel(batch.text, source.substr(begin, end - begin));
        else
          batch.text += source.substr(begin, end - begin);
        batch.pieces.push_back({at, batch.text.size()});
      }
      if (batch.pieces.size() >= kBatchPieces || batch.text.size() >= kBatchBytes) flush();
    };
    if ((metaspace && !step.split) || (byte_level && step.regex == nullptr)) {
      emit(0, source.size());
    } else if (step.behavior == Behavior::kIsolated || step.behavior == Behavior::kRemoved) {
      const bool removed = step.behavior == Behavior::kRemoved;
      FindMatches(step, source, [&](size_t begin, size_t end, bool is_match) {
        if (!removed || !is_match) emit(begin, end);
      });
    } else {
      batch.matches.clear();
      FindMatches(step, source, [&](size_t begin, size_t end, bool is_match) {
        batch.matches.push_back({begin, end, is_match});
      });
      Split(batch.matches, step.behavior, emit);
    }
  }
  flush();
}

}  // namespace tessera
