// Who owns which page: host integers only. Two pools, one manager (docs/architecture.md, decision
// 1).
//
// Thread-compatible: the engine's thread is the only caller. CheckInvariants() is for tests and
// aborts on a breach.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/digest.h"

namespace tessera {

// Pages of self-attention K/V, kKvBlockTokens tokens each.
//
// Invariants:
//  1. A page is in exactly one state: free (no references, no key), cached (no references, a key;
//  in LRU order) or
//     held (references >= 1, with or without a key).
//  2. A key names at most one page, a page has at most one key.
//  3. free + cached + held == total.
// A page with a key is never written again: whoever wants to write into it copies it first
// (IsShared).
class SelfPool {
 public:
  explicit SelfPool(int pages);

  int total() const { return static_cast<int>(pages_.size()); }
  int free() const { return static_cast<int>(free_.size()); }
  int cached() const { return static_cast<int>(lru_.size()); }
  int available() const { return free() + cached(); }  // what Allocate can give
  int references(int32_t page) const { return pages_[page].references; }
  bool has_key(int32_t page) const { return pages_[page].key.has_value(); }
  // Somebody else holds it, or could find it by its key.
  bool IsShared(int32_t page) const { return references(page) > 1 || has_key(page); }

  // Pages of the longest run keys[0], keys[1], ... that is known.
  std::vector<int32_t> Match(std::span<const Digest> keys) const;
  // One more reference to each.
  void Acquire(std::span<const int32_t> pages);
  // A page with one reference and no key. Takes free pages first, then the least recently used
  // cached one; the caller has made sure that available() > 0.
  int32_t Allocate();
  // One reference less to each, the last page first: of a chain the tail is evicted before what it
  // hangs on.
  void Release(std::span<const int32_t> pages);
  // From now on `page` can be found by `key`. Does nothing if another page has that key.
  void Register(int32_t page, const Digest& key);
  // Takes the key away, if there is one: what the page holds is not to be trusted or about to
  // change.
  void Forget(int32_t page);

  void CheckInvariants() const;

 private:
  struct Page {
    int references = 0;
    std::optional<Digest> key;
    std::list<int32_t>::iterator lru;  // valid while cached
  };
  std::vector<Page> pages_;
  std::vector<int32_t> free_;
  std::list<int32_t> lru_;  // least recently used first
  std::unordered_map<Digest, int32_t> by_key_;
};

// Pages of cross-attention K/V: one page is one tile of one picture. All pages of a picture come
// and go together.
//
// Invariants:
//  1. A page is free or belongs to exactly one entry.
//  2. An entry without references is ready and in LRU order; others are not in it.
//  3. free + pages of all entries == total.
class CrossPool {
 public:
  struct Entry {
    std::vector<int32_t> pages;  // used tiles, then the padding tiles that are kept
    int references = 0;          // requests
    bool ready = false;          // all K/V written
    bool doomed = false;         // released instead of cached when the last reference goes
    std::list<Digest>::iterator lru;
  };

  explicit CrossPool(int pages);

  int total() const { return total_; }
  int free() const { return static_cast<int>(free_.size()); }
  int cached() const { return cached_; }
  int available() const { return free() + cached_; }

  // Null if unknown. Valid until the entry goes.
  const Entry* Find(const Digest& digest) const;
  // A new entry with one reference, not ready. The caller has made sure that it is unknown and that
  // tiles are available.
  void Reserve(const Digest& digest, int tiles);
  void Acquire(const Digest& digest);
  // Frees the pages at once if the entry is not ready or doomed and nobody else holds it.
  void Release(const Digest& digest);
  void MarkReady(const Digest& digest);
  void Doom(const Digest& digest);

  void CheckInvariants() const;

 private:
  void Evict();

  int total_;
  int cached_ = 0;
  std::vector<int32_t> free_;
  std::list<Digest> lru_;  // least recently used first
  std::unordered_map<Digest, Entry> entries_;
};

struct BlockManager {
  BlockManager(int self_pages, int cross_pages) : self(self_pages), cross(cross_pages) {}
  SelfPool self;
  CrossPool cross;
  void CheckInvariants() const {
    self.CheckInvariants();
    cross.CheckInvariants();
  }
};

}  // namespace tessera
