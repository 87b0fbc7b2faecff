// The syntax tree of a tokenizer's pattern, and the parser of Oniguruma's Ruby syntax that makes
// it.
//
// Thread safety: values and a pure function.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/unicode_set.h"

namespace tessera {

// One character to the left or right of a position, or the edge of the text there.
struct RegexSide {
  CodePointSet set;
  bool edge = false;
};

// Holds where one of the pairs does: the character before is in the first side and the one after in
// the second.
struct RegexAssertion {
  std::vector<std::pair<RegexSide, RegexSide>> any_of;
};

struct RegexNode {
  enum class Kind { kEmpty, kSet, kConcat, kAlternate, kRepeat, kAssert };
  static constexpr uint32_t kNoMaximum = UINT32_MAX;

  Kind kind = Kind::kEmpty;
  CodePointSet set;                 // kSet
  bool literal = false;             // kSet: one character written as itself
  std::vector<RegexNode> children;  // kConcat, kAlternate; kRepeat: one
  uint32_t min = 0, max = 0;        // kRepeat
  bool greedy = true;               // kRepeat
  RegexAssertion assertion;         // kAssert
};

// Errors name the construct and its place: backreferences, atomic groups and possessive quantifiers
// over more than one character class, look-arounds that look at more than one character, and the
// rarer escapes are not supported.
Result<RegexNode> ParseRegex(std::string_view pattern, std::string_view field);

}  // namespace tessera
