// Unicode normalisation forms as the pinned `tokenizers` release computes them: utf8proc's tables,
// with the code points of later Unicode versions left alone, and an ordering of combining marks
// that is not quadratic.
//
// Thread safety: const after construction.
#pragma once

#include <string>
#include <string_view>

#include "text/unicode_set.h"

namespace tessera {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

class UnicodeNormalizer {
 public:
  explicit UnicodeNormalizer(NormalForm form);

  // Appends the normal form of `text` (valid UTF-8). Time n log n in the longest run of combining
  // marks, else linear.
  void Append(std::string_view text, std::string& out) const;

  // Whether a text may be cut before this code point, each part normalised on its own. Says no when
  // in doubt.
  static bool CanCutBefore(char32_t code_point);

 private:
  void AppendRun(std::string_view run, std::string& out) const;

  bool compose_, compat_;
  CodePointBits left_alone_;
};

}  // namespace tessera
