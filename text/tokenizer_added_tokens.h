// Added tokens: text that becomes one id before the model sees it, unless the rules below say
// otherwise. They match like the library's: leftmost, then longest, in two passes (tokens flagged
// `normalized` on normalised text).
//
// Thread safety: const after loading.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "text/bpe.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_normalizer.h"
#include "text/unicode_set.h"

namespace tessera {

struct AddedToken {
  std::string content;
  // What the decoder is given: the content, but of a `normalized` token its normal form (as the
  // library has it), and whether that is the text of a special token, which `skip_special` leaves
  // out.
  std::string decoded;
  bool skipped = false;
  int32_t id = 0;
  bool single_word = false, lstrip = false, rstrip = false, normalized = true, special = false;
};

class AddedTokens {
 public:
  // Ids must be those that the library gives: the model's where it has the token, else counted on
  // from its vocabulary.
  static Result<AddedTokens> FromJson(const JsonNode& root, const Bpe& model,
                                      const TextNormalizer& normalizer);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* ByContent(std::string_view content) const;
  const AddedToken* ById(int32_t id) const;

  // One pass over `text`: calls piece(begin, end, token) in order for tokens and, with nullptr, for
  // what lies between. `parsing` applies to special tokens; with origins (one per byte) it is
  // ignored, and a special token matches only where all its bytes come from the template. Linear.
  using PieceFunction = std::function<void(size_t begin, size_t end, const AddedToken* token)>;
  void Match(bool normalized_pass, std::string_view text, std::string_view origins,
             SpecialParsing parsing, const PieceFunction& piece) const;

 private:
  // A trie of the tokens of one pass.
  struct Trie {
    std::unordered_map<uint64_t, uint32_t> next;  // node << 8 | byte
    std::vector<int32_t> token;                   // by node: index into tokens_, or -1
    std::array<bool, 256> first{};                // bytes that a token starts with
    void Insert(std::string_view text, int32_t index);
  };
  struct Found {
    size_t end = 0;                     // where scanning goes on
    const AddedToken* token = nullptr;  // nullptr: a match that does not count
    bool any = false;
    size_t token_end = 0;
  };
  Found Longest(const Trie& trie, std::string_view text, size_t begin, std::string_view origins,
                SpecialParsing parsing) const;
  bool WordBefore(std::string_view text, size_t at) const;
  bool WordAfter(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
  Trie raw_, normalized_;
  std::shared_ptr<const CodePointBits> word_, space_;
};

}  // namespace tessera
