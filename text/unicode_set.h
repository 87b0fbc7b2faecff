// Sets of code points as sorted ranges, and the classes that patterns name (text/unicode_tables.h).
//
// Thread safety: a value type.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/unicode_tables.h"

namespace tessera {

inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;

class CodePointSet {
 public:
  CodePointSet() = default;
  CodePointSet(std::initializer_list<CodePointRange> ranges)
      : CodePointSet(std::span(ranges.begin(), ranges.size())) {}
  explicit CodePointSet(
      std::span<const CodePointRange> ranges);  // in any order; a range with first > last is empty
  static CodePointSet All() { return {{0, kMaxCodePoint}}; }

  // Sorted, disjoint, not adjacent.
  std::span<const CodePointRange> ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  bool Contains(uint32_t code_point) const;

  CodePointSet Complement() const;
  CodePointSet Union(const CodePointSet& other) const;
  CodePointSet Intersection(const CodePointSet& other) const;
  // With every code point that matches one of the set when case does not count.
  CodePointSet CaseClosed() const;

 private:
  std::vector<CodePointRange> ranges_;
};

// The set of a table entry ("word", "#punctuation").
CodePointSet TableSet(std::string_view name);

// What \p{name} means: a general category or a group of them (short or long name), a script, or a
// property of the table. Case, spaces, '-' and '_' do not count. nullopt: not known.
std::optional<CodePointSet> PropertySet(std::string_view name);

// One bit for each code point: constant-time membership.
class CodePointBits {
 public:
  explicit CodePointBits(const CodePointSet& set);
  bool Contains(char32_t c) const { return c <= kMaxCodePoint && (words_[c >> 6] >> (c & 63)) & 1; }

 private:
  std::vector<uint64_t> words_;
};

}  // namespace tessera
