// The `decoder` of a tokenizer.json: token strings to text, one token at a time. Decoding a whole
// list is the same machine, so what a stream joins to is by construction what Decode gives.
//
// Supported: ByteLevel, ByteFallback, Fuse, Replace (String or Regex), Strip, Metaspace,
// BPEDecoder, Sequence; none joins the tokens with spaces, as the library does.
//
// Thread safety: a TokenDecoder is const after loading; a DecoderState belongs to one caller.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/pretokenizer_regex.h"
#include "text/tokenizer_json.h"

namespace tessera {

// What is held back between tokens: a value, to copy where a sequence forks.
class DecoderState {
 private:
  friend class TokenDecoder;
  struct Stage {
    std::string pending;    // held text or bytes
    bool started = false;   // a token has come
    uint32_t stripped = 0;  // leading characters taken away so far; ByteFallback: no byte token
  };
  std::vector<Stage> stages_;
};

class TokenDecoder {
 public:
  // `decoder`: the member of tokenizer.json, or null.
  static Result<TokenDecoder> FromJson(const JsonNode& root);

  DecoderState Start() const;
  // Appends to `out` the text that is now certain. Whole characters only.
  void Push(DecoderState& state, std::string_view token, std::string& out) const;
  // Appends the rest and resets the state.
  void Finish(DecoderState& state, std::string& out) const;
  // Whether Finish would append nothing.
  bool NothingPending(const DecoderState& state) const;

  // The bytes that one token stands for, wherever it stands.
  std::string Bytes(std::string_view token) const;

 private:
  enum class Kind {
    kJoin,
    kByteLevel,
    kByteFallback,
    kFuse,
    kReplace,
    kReplaceRegex,
    kStrip,
    kMetaspace,
    kSuffix
  };
  struct Stage {
    Kind kind;
    // Before a fusing stage a call carries a whole token; after it, the next fragment of the one
    // token that is the text.
    bool fused = false;
    std::string pattern, content;
    std::shared_ptr<const TokenRegex> regex;
    uint32_t start = 0, stop = 0;
    bool drop_first = false;
  };

  static Result<void> Add(const JsonNode& node, std::vector<Stage>& stages, int depth);
  void Feed(size_t stage, DecoderState& state, std::string_view token, std::string& out) const;
  void Close(size_t stage, DecoderState& state, std::string& out) const;
  void FeedStrip(size_t stage, DecoderState& state, std::string_view token, std::string& out) const;
  std::string Replaced(const Stage& stage, std::string_view token) const;

  std::vector<Stage> stages_;
};

}  // namespace tessera
