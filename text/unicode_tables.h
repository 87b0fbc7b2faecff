// Character classes of the pinned `tokenizers` release: one generated table
// (tools/generate_unicode_tables.py), because that release's Unicode version is not the one of any
// library here.
//
// Thread safety: constant data.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tessera {

struct CodePointRange {
  uint32_t first, last;  // both included
};

// General categories ("lu"), scripts ("han"), what \w, \s and the POSIX brackets mean ("word",
// "space", "alpha"), and, with a leading #, classes that the library uses outside its regex engine:
//   #word          \w of its second regex engine (single_word, Whitespace)
//   #whitespace    Rust's char::is_whitespace
//   #punctuation   what the Punctuation pre-tokenizer isolates
//   #numeric       what the Digits pre-tokenizer isolates
//   #combining     what StripAccents removes
//   #not_nfd, #not_nfkd   what utf8proc normalises and the library leaves alone (canonical;
//   compatibility forms)
// An empty set is the one range {1, 0}.
struct NamedCodePointSet {
  std::string_view name;
  std::span<const CodePointRange> ranges;
};
std::span<const NamedCodePointSet> UnicodeSets();

// Groups of code points that match each other under (?i:), each group ended by a 0.
std::span<const uint32_t> CaseOrbits();

// A code point that matches a sequence of two or three under (?i:); unused places are 0.
struct MultiFold {
  uint32_t code_point;
  uint32_t sequence[3];
};
std::span<const MultiFold> MultiFolds();

// code point + delta for first, first + stride, ... last.
struct MappingRun {
  uint32_t first, last;
  uint32_t stride;
  int32_t delta;
};
// Lowercase, code point by code point; U+0130, which becomes two, is not in it.
std::span<const MappingRun> LowercaseRuns();

}  // namespace tessera
