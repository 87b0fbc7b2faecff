// Keys of the prefix cache: a chain of SHA-256 over everything that a page's K/V depend on.
//
// The key of page i covers the tenant's salt, the tokens of pages 0..i, and the pictures that those
// tokens can see:
//  - unseen_rows = zero: the digests of the marks that stand in pages 0..i, with their places;
//  - unseen_rows = attend: besides, all digests of the request, because rows before the first mark
//  attend to all of them.
// Never truncated, never given by a client. Thread-compatible.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/digest.h"
#include "model/model.h"
#include "server/engine/request.h"

namespace tessera {

class PrefixKeys {
 public:
  PrefixKeys(const PreparedRequest& request, UnseenRows unseen_rows);

  // Appends the keys of all whole pages of `tokens` that have none yet. `tokens` only ever grows:
  // it starts with the prompt, and what had a key must not change.
  void Extend(std::span<const int32_t> tokens);
  // Key of page i at [i].
  const std::vector<Digest>& keys() const { return keys_; }

 private:
  struct Mark {
    int32_t position;
    Digest digest;
  };
  std::vector<Mark> marks_;
  Digest root_;
  std::vector<Digest> keys_;
};

}  // namespace tessera
