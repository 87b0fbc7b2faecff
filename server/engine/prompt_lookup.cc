#include "server/engine/prompt_lookup.h"

namespace tessera {
namespace {

constexpr int kLongestAgreement = 5;  // more is as good as this
constexpr int kPlaces = 16;           // places looked at

uint64_t Pair(int32_t first, int32_t second) {
  return uint64_t{static_cast<uint32_t>(first)} << 32 | static_cast<uint32_t>(second);
}

}  // namespace

std::vector<int32_t> PromptLookup::Guess(std::span<const int32_t> tokens, int most) {
  const auto length = static_cast<int32_t>(tokens.size());
  // All pairs but the last, which is what is looked for.
  for (auto i = static_cast<int32_t>(before_.size()); i < length - 1; ++i) {
    before_.push_back(-1);
    if (i == 0) continue;
    const auto [it, added] = last_.try_emplace(Pair(tokens[i - 1], tokens[i]), i);
    if (added) continue;
    before_[i] = it->second;
    it->second = i;
  }
  if (length < 2 || most < 1) return {};
  const auto found = last_.find(Pair(tokens[length - 2], tokens[length - 1]));
  if (found == last_.end()) return {};
  int32_t best = -1;
  int longest = 0;
  int32_t place = found->second;
  for (int i = 0; i < kPlaces && place >= 0 && longest < kLongestAgreement; ++i) {
    int agreement = 2;
    while (agreement < kLongestAgreement && place - agreement >= 0 &&
           tokens[place - agreement] == tokens[length - 1 - agreement])
      ++agreement;
    if (agreement > longest) {
      longest = agreement;
      best = place;
    }
    place = before_[place];
  }
  std::vector<int32_t> guess;
  guess.reserve(static_cast<size_t>(most));
  for (int32_t from = best + 1; static_cast<int>(guess.size()) < most; ++from)
    guess.push_back(from < length ? tokens[from] : guess[static_cast<size_t>(from - length)]);
  return guess;
}

}  // namespace tessera
