#include "server/engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace tessera {

StopMatcher::StopMatcher(const std::vector<std::string>& stops, bool include_stop)
    : include_stop_(include_stop) {
  auto patterns = std::make_shared<std::vector<Pattern>>();
  for (const std::string& stop : stops) {
    Pattern pattern{stop, std::vector<int32_t>(stop.size() + 1, 0)};
    int32_t border = 0;
    for (size_t i = 1; i < stop.size(); ++i) {
      while (border > 0 && stop[i] != stop[border]) border = pattern.fallback[border];
      if (stop[i] == stop[border]) ++border;
      pattern.fallback[i + 1] = border;
    }
    patterns->push_back(std::move(pattern));
  }
  matched_.assign(patterns->size(), 0);
  patterns_ = std::move(patterns);
}

StopMatcher::Output StopMatcher::Feed(std::string_view piece, bool counts) {
  for (char byte : piece) {
    held_.push_back(byte);
    int match = -1;
    for (size_t p = 0; p < patterns_->size(); ++p) {
      const Pattern& pattern = (*patterns_)[p];
      if (pattern.text.empty()) continue;
      int32_t& state = matched_[p];
      while (state > 0 && byte != pattern.text[state]) state = pattern.fallback[state];
      if (byte == pattern.text[state]) ++state;
      if (state < static_cast<int32_t>(pattern.text.size())) continue;
      if (counts && (match < 0 || pattern.text.size() > (*patterns_)[match].text.size()))
        match = static_cast<int>(p);
      state = pattern.fallback[state];
    }
    if (match < 0) continue;
    Output out{std::exchange(held_, {}), match};
    if (!include_stop_) out.text.resize(out.text.size() - (*patterns_)[match].text.size());
    return out;
  }
  // The longest possible beginning of a stop string stays. The text is valid UTF-8 and so are the
  // stop strings: the cut lies between characters.
  const int32_t longest =
      matched_.empty() ? 0 : *std::max_element(matched_.begin(), matched_.end());
  Output out;
  out.text = held_.substr(0, held_.size() - longest);
  held_.erase(0, held_.size() - longest);
  return out;
}

std::string StopMatcher::Flush() {
  std::fill(matched_.begin(), matched_.end(), 0);
  return std::exchange(held_, {});
}

}  // namespace tessera
