// Call sites by number, with what was counted there.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/cuda/emulation/report.h"

namespace tessera::cuda::emulation {

// A wrapper called at a line. One table per worker; not thread safe, but an entry once made keeps
// its place, so that another worker may read its `site`.
class SiteTable {
 public:
  struct Entry {
    Site site;
    const char* word;
    Counters counters;
  };
  static constexpr uint32_t kMost = 4096;

  SiteTable() { entries_.reserve(kMost); }

  // `word` is a literal: it is compared by address.
  uint32_t Number(Site site, const char* word) {
    const auto hash = static_cast<uint32_t>(site.line) * 7 +
                      static_cast<uint32_t>(reinterpret_cast<uintptr_t>(word) >> 2);
    uint32_t& recent = recent_[hash % recent_.size()];
    if (recent < entries_.size()) [[likely]] {
      const Entry& entry = entries_[recent];
      if (entry.site == site && entry.word == word) return recent;
    }
    return recent = Search(site, word);
  }
  Entry& operator[](uint32_t number) { return entries_[number]; }
  const Entry& operator[](uint32_t number) const { return entries_[number]; }
  uint32_t size() const { return static_cast<uint32_t>(entries_.size()); }

 private:
  uint32_t Search(Site site, const char* word) {
    for (uint32_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].site == site && entries_[i].word == word) return i;
    }
    // Beyond 4096 sites in one process the last one stands for the rest.
    if (entries_.size() < kMost) entries_.push_back({site, word, {}});
    return static_cast<uint32_t>(entries_.size()) - 1;
  }

  std::vector<Entry> entries_;
  std::array<uint32_t, 512> recent_{};
};

}  // namespace tessera::cuda::emulation
