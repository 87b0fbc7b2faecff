// Text to token ids and back, equal to the Hugging Face `tokenizers` library on the same
// tokenizer.json.
//
// Thread safety: a Tokenizer is const after loading; every method may be called from any thread at
// once. It is neither copied nor moved; share it by pointer.
//
// Bounds: encoding is near-linear in the length of the text, on hostile text too, and has no limit
// that a text can reach. Truncation and padding that a tokenizer.json asks for are left out: the
// server counts tokens itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/provenance_text.h"

namespace tessera {

// Whether the text of a special token becomes that token, or stays the text that it looks like. The
// second is what the library calls `encode_special_tokens`.
enum class SpecialParsing : uint8_t { kParse, kAsText };

// A special token that tokenizer_config.json names. `id` is empty if the vocabulary does not have
// it.
struct NamedToken {
  std::string text;
  std::optional<int32_t> id;
};

class Tokenizer {
 public:
  // Reads tokenizer.json and, if they are there, tokenizer_config.json and special_tokens_map.json.
  // Every number, id and reference is checked; what this build does not implement is an error that
  // names the construct (field: JSON path).
  static Result<std::shared_ptr<const Tokenizer>> Load(const std::filesystem::path& dir);
  // The same from the files' contents.
  static Result<std::shared_ptr<const Tokenizer>> FromJson(
      std::string_view tokenizer_json, std::string_view tokenizer_config_json = "{}",
      std::string_view special_tokens_map_json = "{}");
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Text must be valid UTF-8 (text/utf8.h): callers check. Invalid bytes do no harm, but what ids
  // they give is open.
  //
  // The text is tokenised once, as a whole. A special token matches only where all of its bytes
  // come from the template; what a user wrote is encoded as with kAsText. Added tokens that are not
  // special are ordinary vocabulary. `add_special_tokens`: whether the post-processor adds its own
  // (BOS and the like).
  std::vector<int32_t> Encode(const ProvenanceText& text, bool add_special_tokens) const;
  std::vector<int32_t> Encode(std::string_view text, SpecialParsing parsing,
                              bool add_special_tokens) const;

  // Always valid UTF-8. Ids without a token are left out, as the library does. `skip_special`:
  // special tokens too.
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  // The id of a token as the vocabulary writes it (e.g. "Ġthe"); added tokens come first.
  std::optional<int32_t> IdOf(std::string_view token) const;
  // The token as the vocabulary writes it; empty if there is none.
  std::string TokenText(int32_t id) const;
  // The bytes that the token stands for in a text, possibly part of a UTF-8 character; empty if
  // there is none.
  std::string TokenBytes(int32_t id) const;
  // True for added tokens that are flagged special.
  bool IsSpecial(int32_t id) const;
  // Ids of all special tokens, ascending.
  std::vector<int32_t> SpecialIds() const;
  // Highest id + 1, added tokens included. Ids below it may have no token.
  int32_t vocab_size() const;

  // From tokenizer_config.json, else special_tokens_map.json; nullopt where they name none.
  const std::optional<NamedToken>& bos() const;
  const std::optional<NamedToken>& eos() const;
  const std::optional<NamedToken>& pad() const;
  const std::optional<NamedToken>& unk() const;
  // Whether the post-processor puts BOS first when special tokens are added.
  bool adds_bos() const;
  // What the post-processor puts before and after the ids of a text.
  std::span<const int32_t> prefix_ids() const;
  std::span<const int32_t> suffix_ids() const;

 private:
  friend class StreamingDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);

  const std::unique_ptr<const Impl> impl_;
};

}  // namespace tessera
