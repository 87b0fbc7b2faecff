#include "text/tokenizer_added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/utf8.h"

namespace tessera {
namespace {

constexpr size_t kMaxAddedTokens = 1 << 20;
constexpr size_t kMaxContent = 4096;

bool Continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

// The start of the character that ends at `end`, which is not 0.
size_t CharBefore(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && Continuation(text[begin])) --begin;
  return begin;
}

}  // namespace

void AddedTokens::Trie::Insert(std::string_view text, int32_t index) {
  if (text.empty()) return;
  if (token.empty()) token.push_back(-1);
  uint32_t node = 0;
  first[static_cast<uint8_t>(text[0])] = true;
  for (const char byte : text) {
    const auto [it, added] = next.try_emplace(uint64_t{node} << 8 | static_cast<uint8_t>(byte),
                                              static_cast<uint32_t>(token.size()));
    if (added) token.push_back(-1);
    node = it->second;
  }
  if (token[node] < 0) token[node] = index;  // of equal ones the first counts
}

Result<AddedTokens> AddedTokens::FromJson(const JsonNode& root, const Bpe& model,
                                          const TextNormalizer& normalizer) {
  AddedTokens added;
  added.word_ = std::make_shared<CodePointBits>(TableSet("#word"));
  added.space_ = std::make_shared<CodePointBits>(TableSet("#whitespace"));
  if (root.Find("added_tokens") == nullptr) return added;
  TESSERA_TRY(const auto nodes, root.Array("added_tokens"));
  if (nodes.size() > kMaxAddedTokens)
    return Invalid("too many added tokens", {.field = "added_tokens",
                                             .limit = std::to_string(kMaxAddedTokens),
                                             .value = std::to_string(nodes.size())});
  // What the library gives to the next token that the model does not have
  int64_t next_id = static_cast<int64_t>(model.token_count());
  for (const JsonNode& node : nodes) {
    if (!node.json().is_object())
      return Invalid(
          "wrong type",
          {.field = node.path(), .limit = "an object", .value = node.json().type_name()});
    AddedToken token;
    TESSERA_TRY(token.content, node.String("content"));
    if (token.content.empty() || token.content.size() > kMaxContent)
      return node.Wrong("content", fmt::format("1 to {} bytes", kMaxContent));
    TESSERA_TRY(token.single_word, node.Bool("single_word", false));
    TESSERA_TRY(token.lstrip, node.Bool("lstrip", false));
    TESSERA_TRY(token.rstrip, node.Bool("rstrip", false));
    TESSERA_TRY(token.special, node.Bool("special", false));
    TESSERA_TRY(token.normalized, node.Bool("normalized", !token.special));
    const auto known = model.IdOf(token.content);
    const int64_t expected = known ? *known : next_id;
    TESSERA_TRY(const int64_t id, node.Int("id", 0, kMaxTokenId));
    if (id != expected)
      return node.Wrong(
          "id", fmt::format("{}, {}", expected,
                            known ? "as in model.vocab" : "the next after the tokens before it"));
    if (added.by_content_.contains(token.content)) return node.Wrong("content", "each token once");
    // The library counts on from the highest id that an added token has, once that is beyond the
    // vocabulary
    next_id = std::max(next_id, id + 1);
    token.id = static_cast<int32_t>(id);
    token.decoded = token.normalized ? normalizer.Apply(token.content) : token.content;
    added.by_content_[token.content] = added.tokens_.size();
    added.by_id_[token.id] = added.tokens_.size();
    added.tokens_.push_back(std::move(token));
  }
  // Of tokens with equal normal form special ones come first (in the library that depends on a
  // hash)
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < added.tokens_.size(); ++i) {
      const AddedToken& token = added.tokens_[i];
      if (token.special != special) continue;
      Trie& trie = token.normalized ? added.normalized_ : added.raw_;
      trie.Insert(token.decoded, static_cast<int32_t>(i));
    }
  }
  for (AddedToken& token : added.tokens_) {
    const AddedToken* same = added.ByContent(token.decoded);
    token.skipped = same != nullptr && same->special;
  }
  return added;
}

const AddedToken* AddedTokens::ByContent(std::string_view content) const {
  const auto it = by_content_.find(std::string(content));
  return it == by_content_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::ById(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

bool AddedTokens::WordBefore(std::string_view text, size_t at) const {
  return at > 0 && word_->Contains(DecodeUtf8(text.substr(CharBefore(text, at))).code_point);
}

bool AddedTokens::WordAfter(std::string_view text, size_t at) const {
  return at < text.size() && word_->Contains(DecodeUtf8(text.substr(at)).code_point);
}

// The longest token that starts at `begin`. A special token that may not match here still takes its
// text from other added tokens, as in the library; but no text of a user takes anything from the
// template, nor the reverse: where a match that may not be spans both, shorter ones count, and
// scanning goes on where the writer changes.
AddedTokens::Found AddedTokens::Longest(const Trie& trie, std::string_view text, size_t begin,
                                        std::string_view origins, SpecialParsing parsing) const {
  Found found;
  uint32_t node = 0;
  bool refused = false;
  size_t change = 0;  // first byte with another origin than the one at `begin`; 0: none yet
  for (size_t i = begin; i < text.size(); ++i) {
    const auto it = trie.next.find(uint64_t{node} << 8 | static_cast<uint8_t>(text[i]));
    if (it == trie.next.end()) break;
    node = it->second;
    if (change == 0 && !origins.empty() && origins[i] != origins[begin]) change = i;
    if (trie.token[node] < 0) continue;
    const AddedToken& token = tokens_[trie.token[node]];
    const size_t end = i + 1;
    found.any = true;
    const bool mixed = change != 0;
    bool allowed = true;
    if (token.special) {
      allowed = origins.empty() ? parsing == SpecialParsing::kParse
                                : !mixed && origins[begin] == static_cast<char>(Origin::kTemplate);
    }
    if (allowed) {
      found.token = &token;
      found.token_end = found.end = end;
      refused = false;
    } else if (!mixed) {
      found.token = nullptr;
      found.end = end;
      refused = true;
    } else if (!found.token && !refused) {
      found.end = std::max(found.end, change);
    }
  }
  return found;
}

void AddedTokens::Match(bool normalized_pass, std::string_view text, std::string_view origins,
                        SpecialParsing parsing, const PieceFunction& piece) const {
  const Trie& trie = normalized_pass ? normalized_ : raw_;
  if (trie.token.empty()) {
    if (!text.empty()) piece(0, text.size(), nullptr);
    return;
  }
  size_t done = 0;       // pieces are put out up to here
  size_t space_end = 0;  // white space is known to go on to here
  for (size_t at = 0; at < text.size();) {
    if (!trie.first[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const Found found = Longest(trie, text, at, origins, parsing);
    if (!found.any) {
      ++at;
      continue;
    }
    size_t begin = at;
    at = found.end;
    const AddedToken* token = found.token;
    if (token == nullptr) continue;
    size_t end = found.token_end;
    if (token->single_word && (WordBefore(text, begin) || WordAfter(text, end))) continue;
    if (token->lstrip) {
      while (begin > done) {
        const size_t before = CharBefore(text, begin);
        if (before < done || !space_->Contains(DecodeUtf8(text.substr(before)).code_point)) break;
        begin = before;
      }
    }
    if (token->rstrip) {
      if (end < space_end) end = space_end;
      while (end < text.size()) {
        const DecodedChar c = DecodeUtf8(text.substr(end));
        if (!space_->Contains(c.code_point)) break;
        end += c.length;
      }
      space_end = end;
    }
    if (done < begin) piece(done, begin, nullptr);
    piece(begin, end, token);
    done = end;
  }
  if (done < text.size()) piece(done, text.size(), nullptr);
}

}  // namespace tessera
