#include "server/engine/sequence.h"

#include "kernels/kv_view.h"

namespace tessera {

int32_t SelfPagesFor(int32_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

int64_t WorstCaseSelfPages(int64_t prompt_length, int64_t max_tokens, int64_t n) {
  const int64_t each = (prompt_length + max_tokens - 1 + kKvBlockTokens - 1) / kKvBlockTokens;
  const int64_t shared = prompt_length / kKvBlockTokens;
  return shared + n * (each - shared);
}

}  // namespace tessera
