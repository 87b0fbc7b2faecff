// Guesses what follows by what followed the same tokens earlier in prompt and answer: prompt lookup
// decoding (Saxena 2023), which costs no second model. A guess is only ever a proposal; the engine
// verifies it and drops what the model would not have said.
//
// Thread-compatible. Memory and time per token are constant.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace tessera {

class PromptLookup {
 public:
  // At most `most` tokens that may follow `tokens`; empty where their last two never stood there
  // before. Of the latest places, the one that agrees longest. `tokens` only ever grows from call
  // to call. A guess that runs into the end of `tokens` goes on with itself, as a loop would.
  std::vector<int32_t> Guess(std::span<const int32_t> tokens, int most);

 private:
  std::unordered_map<uint64_t, int32_t> last_;  // two tokens -> where the second one stood last
  std::vector<int32_t> before_;  // [i]: the place before i where tokens i - 1 and i stood, or -1
};

}  // namespace tessera
