// Tokenizer patterns as deterministic automata: what Oniguruma's backtracking would match
// (leftmost, then the first alternative), found in one pass without backtracking, stack or match
// limit.
//
// The pattern is compiled to a program of ordered threads (Pike; Cox, "Regular Expression Matching:
// the Virtual Machine Approach", 2009) and that to a complete automaton over classes of code
// points. Look-around at one character is part of it: a step knows the characters on both sides.
// What cannot be expressed so is an error at load, and so is a pattern whose automaton is too big.
//
// Thread safety: const after Compile.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/pretokenizer_regex_ast.h"
#include "text/utf8.h"

namespace tessera {

class TokenRegex {
 public:
  // `field`: the JSON path, for errors.
  static Result<std::shared_ptr<const TokenRegex>> Compile(std::string_view pattern,
                                                           std::string_view field);
  // Matches `text` itself.
  static Result<std::shared_ptr<const TokenRegex>> CompileLiteral(std::string_view text,
                                                                  std::string_view field);

  // Calls f(begin, end, is_match) for matches and what lies between them, in order; together they
  // cover the text. An empty text gives one empty piece. A match may be empty, but not right after
  // another.
  template <typename F>
  void ForEachPiece(std::string_view text, F&& f) const;

 private:
  static constexpr size_t kNone = static_cast<size_t>(-1);

  static Result<std::shared_ptr<const TokenRegex>> Build(const RegexNode& root,
                                                         std::string_view field);

  // The class of the character at `at`, which is inside the text, and its length.
  struct Class {
    uint32_t id, length;
  };
  Class ClassAt(std::string_view text, size_t at) const {
    const uint8_t byte = static_cast<uint8_t>(text[at]);
    if (byte < 0x80) return {ascii_[byte], 1};
    const DecodedChar c = DecodeUtf8(text.substr(at));
    return {pages_[(page_of_[c.code_point >> 8] << 8) | (c.code_point & 0xFF)], c.length};
  }
  // Where the match that starts at `at` ends, or kNone. `before`: class of the character before
  // (edge_ at the start).
  size_t MatchAt(std::string_view text, size_t at, uint32_t before) const {
    uint32_t state = start_[before];
    size_t last = kNone;
    while (state != 0) {
      const Class c = at < text.size() ? ClassAt(text, at) : Class{edge_, 0};
      const uint32_t step = steps_[state * (edge_ + 1) + c.id];
      if (step & 1) last = at;
      state = step >> 1;
      at += c.length;
    }
    return last;
  }

  uint32_t edge_ = 0;  // number of classes; as a class: beyond the text's start or end
  std::array<uint8_t, 128> ascii_{};  // class of a code point
  std::vector<uint16_t> page_of_;     // by code point >> 8
  std::vector<uint8_t> pages_;
  std::vector<uint32_t> start_;  // state, by the class before
  std::vector<uint32_t>
      steps_;  // [state][class]: next state * 2 + (a match ends before this character)
};

template <typename F>
void TokenRegex::ForEachPiece(std::string_view text, F&& f) const {
  if (text.empty()) {
    f(size_t{0}, size_t{0}, false);
    return;
  }
  size_t done = 0, last_match = kNone;
  uint32_t before = edge_;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = MatchAt(text, at, before);
    if (end == kNone || (end == at && last_match == at)) {
      if (at == text.size()) break;
      const Class c = ClassAt(text, at);
      before = c.id;
      at += c.length;
      continue;
    }
    if (done != at) f(done, at, false);
    f(at, end, true);
    if (end > at) {  // the class of the last character
      size_t last = end - 1;
      while (last > at && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) --last;
      before = ClassAt(text, last).id;
    }
    done = at = last_match = end;
  }
  if (done != text.size()) f(done, text.size(), false);
}

}  // namespace tessera
