// Finds stop strings in text that comes in pieces, and says how much of the text is safe to show.
//
// The match that is complete first counts; of several that end at the same byte, the longest. What
// the pieces' borders are makes no difference. Time is proportional to the text times the number of
// stop strings.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

class StopMatcher {
 public:
  // Empty stop strings never match. `include_stop`: the match stays in the text.
  StopMatcher(const std::vector<std::string>& stops, bool include_stop);

  struct Output {
    std::string text;  // safe to show now
    int match =
        -1;  // index of the stop string that matched; what follows it in the piece is dropped
  };
  // `counts` false: a stop string that is complete in this piece does not stop (min_tokens).
  Output Feed(std::string_view piece, bool counts);
  // What was held back, because the text ends here.
  std::string Flush();

 private:
  // One stop string as a Knuth-Morris-Pratt automaton.
  struct Pattern {
    std::string text;
    std::vector<int32_t> fallback;  // [i]: longest proper border of text[0, i)
  };
  std::shared_ptr<const std::vector<Pattern>> patterns_;  // shared by the choices of a request
  std::vector<int32_t> matched_;  // prefix length of each pattern that the text ends with
  bool include_stop_;
  std::string held_;
};

}  // namespace tessera
