// Reading tokenizer.json: typed access with errors that name the path, and a parser that keeps the
// two huge parts (vocabulary and merges) out of the tree.
//
// Thread safety: pure functions over their arguments.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace tessera {

using TokenizerJson = nlohmann::ordered_json;

// Ids, counts and lengths in tokenizer files stay below this.
inline constexpr int64_t kMaxTokenId = (int64_t{1} << 24) - 1;

struct TokenizerDocument {
  TokenizerJson root;  // without model.vocab and model.merges
  std::vector<std::pair<std::string, int32_t>>
      vocab;  // in the file's order, ids in [0, kMaxTokenId]
  std::vector<std::pair<std::string, std::string>> merges;  // in order of rank
  bool has_vocab = false;
};

// Linear in the text. Nesting deeper than 64, more than 2^24 entries, merges that are not two
// parts, ids that are not whole numbers in range are errors.
Result<TokenizerDocument> ParseTokenizerDocument(std::string_view text);

// A small file as a tree, with the same limits. `name` is used in errors.
Result<TokenizerJson> ParseSmallJson(std::string_view text, std::string_view name);

// An object of the tree and where it stands, for errors.
class JsonNode {
 public:
  JsonNode(const TokenizerJson& json, std::string path) : json_(&json), path_(std::move(path)) {}

  const TokenizerJson& json() const { return *json_; }
  const std::string& path() const { return path_; }
  // The member, or nullptr where it is absent or null (or this is no object).
  const TokenizerJson* Find(std::string_view key) const;
  std::string PathOf(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  Result<std::string> String(std::string_view key) const;
  Result<std::optional<std::string>> OptionalString(std::string_view key) const;
  Result<bool> Bool(std::string_view key, std::optional<bool> fallback = {}) const;
  Result<int64_t> Int(std::string_view key, int64_t low, int64_t high,
                      std::optional<int64_t> fallback = {}) const;
  // A string of exactly one code point.
  Result<char32_t> Char(std::string_view key, std::optional<char32_t> fallback = {}) const;
  Result<JsonNode> Object(std::string_view key) const;
  // An array; each element with its own path.
  Result<std::vector<JsonNode>> Array(std::string_view key) const;

  tl::unexpected<Error> Wrong(std::string_view key, std::string_view allowed) const;

 private:
  const TokenizerJson* json_;
  std::string path_;
};

}  // namespace tessera
