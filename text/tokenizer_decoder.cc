#include "text/tokenizer_decoder.h"

#include <algorithm>
#include <utility>

#include "text/unicode_byte_level.h"
#include "text/utf8.h"

namespace tessera {
namespace {

// The byte of a token like <0x0A>, or -1. Two digits; a sign in front of one digit counts as Rust's
// parser reads it.
int ByteToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  const int low = digit(token[4]);
  if (token[3] == '+') return low;
  const int high = digit(token[3]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void ReplaceAll(std::string& out, std::string_view text, std::string_view pattern,
                std::string_view content) {
  while (true) {
    const size_t found = pattern.empty() ? std::string_view::npos : text.find(pattern);
    out += text.substr(0, found);
    if (found == std::string_view::npos) return;
    out += content;
    text.remove_prefix(found + pattern.size());
  }
}

// What a run of byte tokens becomes: itself if it is UTF-8, else U+FFFD for each of its bytes.
std::string ByteRunText(std::string bytes) {
  if (IsValidUtf8(bytes)) return bytes;
  std::string marks;
  for (size_t i = 0; i < bytes.size(); ++i) marks += kReplacementUtf8;
  return marks;
}

// Length of the longest proper prefix of `pattern` that `text` ends with.
size_t Overlap(std::string_view text, std::string_view pattern) {
  for (size_t n = std::min(text.size(), pattern.size() - 1); n > 0; --n)
    if (text.ends_with(pattern.substr(0, n))) return n;
  return 0;
}

}  // namespace

Result<void> TokenDecoder::Add(const JsonNode& node, std::vector<Stage>& stages, int depth) {
  TESSERA_TRY(const std::string type, node.String("type"));
  const bool fused = !stages.empty() && (stages.back().fused || stages.back().kind == Kind::kFuse ||
                                         stages.back().kind == Kind::kByteLevel);
  Stage stage{.kind = Kind::kFuse, .fused = fused, .pattern = {}, .content = {}, .regex = {}};
  if (type == "Sequence") {
    if (depth > 4)
      return Invalid("nested too deep", {.field = node.path(), .limit = "4", .value = "more"});
    TESSERA_TRY(const auto parts, node.Array("decoders"));
    for (const JsonNode& part : parts) TESSERA_RETURN_IF_ERROR(Add(part, stages, depth + 1));
    return {};
  }
  if (type == "ByteLevel") {
    stage.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    stage.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    stage.kind = Kind::kFuse;
  } else if (type == "Replace") {
    TESSERA_TRY(const JsonNode pattern, node.Object("pattern"));
    TESSERA_TRY(stage.content, node.String("content"));
    if (pattern.Find("Regex") != nullptr) {
      TESSERA_TRY(const std::string source, pattern.String("Regex"));
      if (stage.content.find('$') != std::string::npos)
        return node.Wrong("content", "text without $ beside a Regex");
      TESSERA_TRY(auto regex, TokenRegex::Compile(source, pattern.PathOf("Regex")));
      stage.regex = std::move(regex);
      stage.kind = Kind::kReplaceRegex;
    } else {
      TESSERA_TRY(stage.pattern, pattern.String("String"));
      if (stage.pattern.empty()) return pattern.Wrong("String", "a string that is not empty");
      stage.kind = Kind::kReplace;
    }
  } else if (type == "Strip") {
    TESSERA_TRY(const char32_t content, node.Char("content"));
    AppendUtf8(stage.content, content);
    TESSERA_TRY(const int64_t start, node.Int("start", 0, kMaxTokenId));
    TESSERA_TRY(const int64_t stop, node.Int("stop", 0, kMaxTokenId));
    stage.kind = Kind::kStrip;
    stage.start = static_cast<uint32_t>(start);
    stage.stop = static_cast<uint32_t>(stop);
  } else if (type == "Metaspace") {
    TESSERA_TRY(const char32_t replacement, node.Char("replacement"));
    AppendUtf8(stage.pattern, replacement);
    TESSERA_TRY(const auto scheme, node.OptionalString("prepend_scheme"));
    TESSERA_TRY(const bool prefix, node.Bool("add_prefix_space", true));
    if (scheme && *scheme != "first" && *scheme != "always" && *scheme != "never")
      return node.Wrong("prepend_scheme", "first, always, never");
    stage.kind = Kind::kMetaspace;
    stage.drop_first = scheme ? *scheme != "never" : prefix;
  } else if (type == "BPEDecoder") {
    TESSERA_TRY(stage.pattern, node.String("suffix"));
    stage.kind = Kind::kSuffix;
  } else {
    return node.Wrong(
        "type", "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, BPEDecoder, Sequence");
  }
  stages.push_back(std::move(stage));
  return {};
}

Result<TokenDecoder> TokenDecoder::FromJson(const JsonNode& root) {
  TokenDecoder decoder;
  if (root.Find("decoder") == nullptr) {
    decoder.stages_.push_back({.kind = Kind::kJoin, .pattern = {}, .content = {}, .regex = {}});
    return decoder;
  }
  TESSERA_TRY(const JsonNode node, root.Object("decoder"));
  TESSERA_RETURN_IF_ERROR(Add(node, decoder.stages_, 0));
  return decoder;
}

DecoderState TokenDecoder::Start() const {
  DecoderState state;
  state.stages_.resize(stages_.size());
  return state;
}

void TokenDecoder::Push(DecoderState& state, std::string_view token, std::string& out) const {
  Feed(0, state, token, out);
}

void TokenDecoder::Finish(DecoderState& state, std::string& out) const {
  Close(0, state, out);
  state = Start();
}

bool TokenDecoder::NothingPending(const DecoderState& state) const {
  DecoderState copy = state;
  std::string rest;
  Close(0, copy, rest);
  return rest.empty();
}

std::string TokenDecoder::Replaced(const Stage& stage, std::string_view token) const {
  std::string text;
  if (stage.kind == Kind::kReplace) {
    ReplaceAll(text, token, stage.pattern, stage.content);
  } else {
    stage.regex->ForEachPiece(token, [&](size_t begin, size_t end, bool is_match) {
      text += is_match ? std::string_view(stage.content) : token.substr(begin, end - begin);
    });
  }
  return text;
}

// Feeds one token (or fragment) to a stage, which feeds the next.
void TokenDecoder::Feed(size_t index, DecoderState& state, std::string_view token,
                        std::string& out) const {
  if (index == stages_.size()) {
    out += token;
    return;
  }
  const Stage& stage = stages_[index];
  DecoderState::Stage& own = state.stages_[index];
  const bool first = !own.started;
  own.started = true;
  switch (stage.kind) {
    case Kind::kJoin:
      if (!first) out += ' ';
      return Feed(index + 1, state, token, out);
    case Kind::kFuse: return Feed(index + 1, state, token, out);
    case Kind::kByteLevel: {
      if (stage.fused) {  // the rule looks at the whole text: Close
        own.pending += token;
        return;
      }
      own.pending += ByteLevelBytes(token);
      std::string text;
      size_t i = 0;
      const std::string_view bytes = own.pending;
      while (i < bytes.size() && !IsIncompleteUtf8(bytes.substr(i))) {
        const size_t valid = ValidUtf8Prefix(bytes.substr(i));
        text += bytes.substr(i, valid);
        i += valid;
        if (i == bytes.size() || IsIncompleteUtf8(bytes.substr(i))) break;
        text += kReplacementUtf8;
        i += DecodeUtf8(bytes.substr(i)).length;
      }
      own.pending.erase(0, i);
      if (!text.empty()) Feed(index + 1, state, text, out);
      return;
    }
    case Kind::kByteFallback: {
      if (stage.fused) {  // only a text that is one such token as a whole counts
        if (own.stripped != 0) return Feed(index + 1, state, token, out);
        own.pending += token;
        if (own.pending.size() > 6) {
          own.stripped = 1;  // it is longer: the rest goes through
          Feed(index + 1, state, std::exchange(own.pending, ""), out);
        }
        return;
      }
      if (const int byte = ByteToken(token); byte >= 0) {
        own.pending += static_cast<char>(byte);
        return;
      }
      if (!own.pending.empty())
        Feed(index + 1, state, ByteRunText(std::exchange(own.pending, "")), out);
      return Feed(index + 1, state, token, out);
    }
    case Kind::kReplace: {
      if (!stage.fused) return Feed(index + 1, state, Replaced(stage, token), out);
      // A match may begin in one fragment and end in another: hold what could be its start
      own.pending += token;
      std::string text;
      size_t i = 0;
      for (size_t found; (found = own.pending.find(stage.pattern, i)) != std::string::npos;
           i = found + stage.pattern.size()) {
        text.append(own.pending, i, found - i);
        text += stage.content;
      }
      const size_t keep = Overlap(std::string_view(own.pending).substr(i), stage.pattern);
      text.append(own.pending, i, own.pending.size() - keep - i);
      own.pending.erase(0, own.pending.size() - keep);
      if (!text.empty()) Feed(index + 1, state, text, out);
      return;
    }
    case Kind::kReplaceRegex:
      if (!stage.fused) return Feed(index + 1, state, Replaced(stage, token), out);
      own.pending += token;  // a pattern may need the whole text: Close
      return;
    case Kind::kStrip: return FeedStrip(index, state, token, out);
    case Kind::kMetaspace: {
      const bool at_start = first || stage.fused;
      std::string text;
      ReplaceAll(text, token, stage.pattern, at_start && stage.drop_first ? "" : " ");
      return Feed(index + 1, state, text, out);
    }
    case Kind::kSuffix: {
      // The suffix becomes a space, but nothing in the last token: hold one token
      if (stage.fused) {
        own.pending += token;
        return;
      }
      std::string text;
      ReplaceAll(text, std::exchange(own.pending, std::string(token)), stage.pattern, " ");
      if (!first) Feed(index + 1, state, text, out);
      return;
    }
  }
}

void TokenDecoder::FeedStrip(size_t index, DecoderState& state, std::string_view token,
                             std::string& out) const {
  const Stage& stage = stages_[index];
  DecoderState::Stage& own = state.stages_[index];
  const std::string_view content = stage.content;
  if (!stage.fused) own.stripped = 0;
  while (own.stripped < stage.start) {
    if (token.starts_with(content)) {
      token.remove_prefix(content.size());
      ++own.stripped;
    } else {
      if (!token.empty()) own.stripped = stage.start;
      break;
    }
  }
  std::string text = std::exchange(own.pending, "");
  text += token;
  size_t keep = 0;
  for (uint32_t i = 0; i < stage.stop; ++i) {
    if (!std::string_view(text).substr(0, text.size() - keep).ends_with(content)) break;
    keep += content.size();
  }
  if (stage.fused) own.pending = text.substr(text.size() - keep);
  text.resize(text.size() - keep);
  if (!stage.fused || !text.empty()) Feed(index + 1, state, text, out);
}

// Ends the input of a stage: what it holds goes on, then the next stage ends.
void TokenDecoder::Close(size_t index, DecoderState& state, std::string& out) const {
  if (index == stages_.size()) return;
  const Stage& stage = stages_[index];
  std::string pending = std::exchange(state.stages_[index].pending, "");
  switch (stage.kind) {
    case Kind::kByteLevel:
      if (stage.fused) {
        const std::string bytes = ByteLevelBytes(pending);
        pending.clear();
        for (size_t i = 0; i < bytes.size();) {
          const DecodedChar c = DecodeUtf8(std::string_view(bytes).substr(i));
          AppendUtf8(pending, c.code_point);
          i += c.length;
        }
      } else if (!pending.empty()) {
        pending = kReplacementUtf8;
      }
      break;
    case Kind::kByteFallback:
      if (stage.fused) {
        if (const int byte = ByteToken(pending); byte >= 0)
          pending =
              byte < 0x80 ? std::string(1, static_cast<char>(byte)) : std::string(kReplacementUtf8);
      } else {
        pending = ByteRunText(std::move(pending));
      }
      break;
    case Kind::kReplaceRegex:
      if (stage.fused) pending = Replaced(stage, pending);
      break;
    case Kind::kStrip: pending.clear(); break;
    case Kind::kSuffix: {
      std::string text;
      ReplaceAll(text, pending, stage.pattern, "");
      pending = std::move(text);
      break;
    }
    default: break;
  }
  if (!pending.empty()) Feed(index + 1, state, pending, out);
  Close(index + 1, state, out);
}

std::string TokenDecoder::Bytes(std::string_view token) const {
  std::string bytes(token);
  for (const Stage& stage : stages_) {
    switch (stage.kind) {
      case Kind::kByteLevel: bytes = ByteLevelBytes(bytes); break;
      case Kind::kByteFallback:
        if (const int byte = ByteToken(bytes); byte >= 0) bytes.assign(1, static_cast<char>(byte));
        break;
      case Kind::kReplace:
      case Kind::kReplaceRegex: bytes = Replaced(stage, bytes); break;
      case Kind::kMetaspace:
      case Kind::kSuffix: {
        std::string text;
        ReplaceAll(text, bytes, stage.pattern, " ");
        bytes = std::move(text);
        break;
      }
      default: break;
    }
  }
  return bytes;
}

}  // namespace tessera
