#include "server/engine/block_manager.h"

#include <algorithm>

#include "base/check.h"

namespace tessera {

SelfPool::SelfPool(int pages) : pages_(pages) {
  free_.reserve(pages);
  for (int32_t page = pages - 1; page >= 0; --page) free_.push_back(page);
}

std::vector<int32_t> SelfPool::Match(std::span<const Digest> keys) const {
  std::vector<int32_t> found;
  for (const Digest& key : keys) {
    const auto it = by_key_.find(key);
    if (it == by_key_.end()) break;
    found.push_back(it->second);
  }
  return found;
}

void SelfPool::Acquire(std::span<const int32_t> pages) {
  for (int32_t id : pages) {
    Page& page = pages_[id];
    if (page.references == 0) {
      TESSERA_CHECK(page.key.has_value(), "self page {} is free and cannot be shared", id);
      lru_.erase(page.lru);
    }
    ++page.references;
  }
}

int32_t SelfPool::Allocate() {
  if (free_.empty()) {
    TESSERA_CHECK(!lru_.empty(), "no self page is available of {}", total());
    const int32_t victim = lru_.front();
    lru_.pop_front();
    by_key_.erase(*pages_[victim].key);
    pages_[victim].key.reset();
    free_.push_back(victim);
  }
  const int32_t id = free_.back();
  free_.pop_back();
  pages_[id].references = 1;
  return id;
}

void SelfPool::Release(std::span<const int32_t> pages) {
  for (size_t i = pages.size(); i-- > 0;) {
    Page& page = pages_[pages[i]];
    TESSERA_CHECK(page.references > 0, "self page {} is not held", pages[i]);
    if (--page.references > 0) continue;
    if (page.key) {
      page.lru = lru_.insert(lru_.end(), pages[i]);
    } else {
      free_.push_back(pages[i]);
    }
  }
}

void SelfPool::Register(int32_t id, const Digest& key) {
  Page& page = pages_[id];
  TESSERA_CHECK(page.references > 0, "self page {} is not held", id);
  if (page.key || !by_key_.emplace(key, id).second) return;
  page.key = key;
}

void SelfPool::Forget(int32_t id) {
  Page& page = pages_[id];
  if (!page.key) return;
  by_key_.erase(*page.key);
  page.key.reset();
  if (page.references > 0) return;
  lru_.erase(page.lru);
  free_.push_back(id);
}

void SelfPool::CheckInvariants() const {
  std::vector<int> seen(pages_.size(), 0);
  for (int32_t id : free_) {
    ++seen[id];
    TESSERA_CHECK(pages_[id].references == 0 && !pages_[id].key, "free self page {}", id);
  }
  for (int32_t id : lru_) {
    ++seen[id];
    TESSERA_CHECK(pages_[id].references == 0 && pages_[id].key, "cached self page {}", id);
  }
  size_t keys = 0;
  for (int32_t id = 0; id < total(); ++id) {
    const Page& page = pages_[id];
    TESSERA_CHECK(page.references >= 0 && seen[id] == (page.references == 0 ? 1 : 0),
                  "self page {}: {} references, on {} lists", id, page.references, seen[id]);
    if (!page.key) continue;
    ++keys;
    const auto it = by_key_.find(*page.key);
    TESSERA_CHECK(it != by_key_.end() && it->second == id, "key of self page {}", id);
  }
  TESSERA_CHECK(keys == by_key_.size(), "{} keys on pages, {} in the table", keys, by_key_.size());
}

CrossPool::CrossPool(int pages) : total_(pages) {
  free_.reserve(pages);
  for (int32_t page = pages - 1; page >= 0; --page) free_.push_back(page);
}

const CrossPool::Entry* CrossPool::Find(const Digest& digest) const {
  const auto it = entries_.find(digest);
  return it == entries_.end() ? nullptr : &it->second;
}

void CrossPool::Evict() {
  TESSERA_CHECK(!lru_.empty(), "no cross page is available of {}", total_);
  const auto it = entries_.find(lru_.front());
  lru_.pop_front();
  cached_ -= static_cast<int>(it->second.pages.size());
  free_.insert(free_.end(), it->second.pages.begin(), it->second.pages.end());
  entries_.erase(it);
}

void CrossPool::Reserve(const Digest& digest, int tiles) {
  const auto [it, inserted] = entries_.try_emplace(digest);
  TESSERA_CHECK(inserted, "a picture is reserved twice");
  Entry& entry = it->second;
  entry.references = 1;
  while (free() < tiles) Evict();
  entry.pages.assign(free_.rbegin(), free_.rbegin() + tiles);
  free_.resize(free_.size() - tiles);
}

void CrossPool::Acquire(const Digest& digest) {
  const auto it = entries_.find(digest);
  TESSERA_CHECK(it != entries_.end(), "an unknown picture is acquired");
  Entry& entry = it->second;
  if (entry.references++ > 0) return;
  lru_.erase(entry.lru);
  cached_ -= static_cast<int>(entry.pages.size());
}

void CrossPool::Release(const Digest& digest) {
  const auto it = entries_.find(digest);
  TESSERA_CHECK(it != entries_.end() && it->second.references > 0, "a picture is released twice");
  Entry& entry = it->second;
  if (--entry.references > 0) return;
  if (entry.ready && !entry.doomed) {
    entry.lru = lru_.insert(lru_.end(), digest);
    cached_ += static_cast<int>(entry.pages.size());
    return;
  }
  free_.insert(free_.end(), entry.pages.begin(), entry.pages.end());
  entries_.erase(it);
}

void CrossPool::MarkReady(const Digest& digest) {
  const auto it = entries_.find(digest);
  TESSERA_CHECK(it != entries_.end() && it->second.references > 0,
                "a picture that nobody holds became ready");
  it->second.ready = true;
}

void CrossPool::Doom(const Digest& digest) {
  const auto it = entries_.find(digest);
  if (it != entries_.end()) it->second.doomed = true;
}

void CrossPool::CheckInvariants() const {
  std::vector<int> seen(total_, 0);
  for (int32_t page : free_) ++seen[page];
  int cached = 0;
  size_t idle = 0;
  for (const auto& [digest, entry] : entries_) {
    for (int32_t page : entry.pages) ++seen[page];
    TESSERA_CHECK(entry.references >= 0);
    if (entry.references > 0) continue;
    TESSERA_CHECK(entry.ready && *entry.lru == digest, "a picture without references is not ready");
    cached += static_cast<int>(entry.pages.size());
    ++idle;
  }
  TESSERA_CHECK(cached == cached_ && idle == lru_.size(), "cached tiles: counted {}, kept {}",
                cached, cached_);
  for (int page = 0; page < total_; ++page)
    TESSERA_CHECK(seen[page] == 1, "cross page {} has {} owners", page, seen[page]);
}

}  // namespace tessera
