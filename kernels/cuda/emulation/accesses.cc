// Shared and global memory as a block's threads see it.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/emulation/block.h"

namespace tessera::cuda::emulation {

uint32_t Block::CheckShared(Thread& me, uint32_t address, uint32_t bytes, Site site,
                            const char* word) {
  if (address % bytes != 0) {
    Fail(me, DefectKind::kMisaligned, site,
         [&] { return fmt::format("{} of {} bytes at shared address {}", word, bytes, address); });
  }
  const auto dynamic = static_cast<uint32_t>(launch().smem_bytes);
  if (address > dynamic || bytes > dynamic - address) {
    const bool known = std::ranges::any_of(statics_, [&](const Static& s) {
      return address >= s.begin && address - s.begin <= s.bytes &&
             bytes <= s.bytes - (address - s.begin);
    });
    if (!known) {
      Fail(me, DefectKind::kBounds, site, [&] {
        return fmt::format("{} of {} bytes at shared address {}; the block has {} bytes", word,
                           bytes, address, dynamic);
      });
    }
  }
  return checked_ ? checks_->sites.Number(site, word) : 0;
}

void* Block::Shared(Thread& me, uint32_t address, uint32_t bytes, Access access, Site site,
                    const char* word) {
  const uint32_t number = CheckShared(me, address, bytes, site, word);
  if (checked_) {
    const uint32_t warp = me.warp->index;
    const SharedShadow::Finding finding =
        checks_->shared.Check(address, bytes, access, warp, me.lane, number, checks_->clocks);
    if (finding.verdict != SharedShadow::Verdict::kFine) Report(me, finding, site, word);
    checks_->logs[warp].Add(me.lane, number, address, bytes, WarpAccess::Space::kShared,
                            access != Access::kLoad, access == Access::kAtomic, false);
  }
  return arena_ + address;
}

void* Block::SharedRow(Thread& me, uint32_t address, Site site) {
  const uint32_t number = CheckShared(me, address, 16, site, Name(Meeting::kLdmatrix));
  if (checked_) {
    const SharedShadow::Finding finding =
        checks_->shared.CheckRow(address, me.warp->index, me.lane, number, checks_->clocks);
    if (finding.verdict != SharedShadow::Verdict::kFine) {
      Report(me, finding, site, Name(Meeting::kLdmatrix));
    }
  }
  return arena_ + address;
}

void Block::Report(Thread& me, const SharedShadow::Finding& finding, Site site, const char* word) {
  using Verdict = SharedShadow::Verdict;
  if (finding.verdict == Verdict::kUninitialised) {
    Fail(me, DefectKind::kUninitialised, site, [&] {
      return fmt::format("{} of shared address {}, which nobody has written yet", word,
                         finding.address);
    });
  }
  const SiteTable::Entry& other = checks_->sites[finding.other_site];
  const auto place = [&] {
    return fmt::format("{} of thread {} at {}:{}", other.word, finding.other_thread,
                       other.site.Path(), other.site.line);
  };
  if (finding.verdict == Verdict::kPending) {
    Fail(me, DefectKind::kUnwaitedCopy, site, [&] {
      return fmt::format("{} of shared address {} before the {} has been waited for", word,
                         finding.address, place());
    });
  }
  Fail(me, DefectKind::kRace, site, [&] {
    return fmt::format("{} of shared address {} races with the {}", word, finding.address, place());
  });
}

void Block::Report(Thread& me, const GlobalShadow::Finding& finding, Site site, const char* word) {
  // Another worker's table only grows, and this entry was there before its number was stored.
  const SiteTable::Entry& other = (*state_->sites[finding.other_worker])[finding.other_site];
  const auto block = [&] {
    return finding.other_block
               ? fmt::format("block {} ", finding.other_run - checks_->actor.first_run())
               : std::string();
  };
  Fail(me, DefectKind::kRace, site, [&] {
    return fmt::format("{} of global memory races with the {} of {}thread {} at {}:{}", word,
                       other.word, block(), finding.other_thread, other.site.Path(),
                       other.site.line);
  });
}

void* Block::Global(Thread& me, const void* pointer, uint32_t bytes, Access access, Site site,
                    const char* word) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const Allocation*& recent = recent_[static_cast<uint32_t>(site.line) % recent_.size()];
  if (recent == nullptr || !recent->Contains(address, bytes)) [[unlikely]] {
    const MemoryMap& map = *state_->memory;
    auto next = std::ranges::upper_bound(map, address, {}, [](const auto& a) { return a->begin; });
    const Allocation* before = next == map.begin() ? nullptr : std::prev(next)->get();
    if (before == nullptr || !before->Contains(address, bytes)) {
      const auto where = [&] {
        return before == nullptr ? std::string("below every allocation")
                                 : fmt::format("byte {} of an allocation of {} bytes",
                                               address - before->begin, before->bytes);
      };
      Fail(me, DefectKind::kBounds, site,
           [&] { return fmt::format("{} of {} bytes: {}", word, bytes, where()); });
    }
    recent = before;
  }
  if (address % bytes != 0) {
    Fail(me, DefectKind::kMisaligned, site, [&] {
      return fmt::format("{} of {} bytes at byte {} of an allocation", word, bytes,
                         address - recent->begin);
    });
  }
  if (checked_) {
    const uint32_t warp = me.warp->index;
    const uint32_t number = checks_->sites.Number(site, word);
    const GlobalShadow::Finding finding = recent->Shadow().Check(
        address - recent->begin, bytes, access == Access::kCopy ? Access::kLoad : access, warp,
        me.lane, number, checks_->actor, checks_->clocks);
    if (finding.race) Report(me, finding, site, word);
    checks_->logs[warp].Add(me.lane, number, address, bytes, WarpAccess::Space::kGlobal,
                            access == Access::kStore, access == Access::kAtomic,
                            access == Access::kCopy);
  }
  return const_cast<void*>(pointer);
}

uint32_t Block::SharedAddress(Thread& me, const void* pointer, Site site) {
  const auto offset = static_cast<const uint8_t*>(pointer) - arena_;
  if (offset < 0 || static_cast<size_t>(offset) > launch().smem_bytes) {
    Fail(me, DefectKind::kBounds, site, [&] {
      return std::string("smem_u32 of a pointer that is not into the block's DYN_SMEM");
    });
  }
  return static_cast<uint32_t>(offset);
}

uint32_t Block::StaticArray(Thread& me, size_t bytes, const char* name, Site site) {
  for (const Static& known : statics_) {
    if (known.site == site && known.bytes == bytes) return known.begin;
  }
  const uint32_t begin = static_end_;
  if (bytes > kMaxStaticShared || begin + bytes + 32 > kArenaBytes) {
    Fail(me, DefectKind::kBadArgument, site, [&] {
      return fmt::format("SHARED_ARRAY {}: {} bytes are more than a block has", name, bytes);
    });
  }
  statics_.push_back({site, begin, static_cast<uint32_t>(bytes)});
  std::memset(arena_ + begin, 0xff, bytes);
  static_end_ = (begin + static_cast<uint32_t>(bytes) + 15) / 16 * 16 + 16;
  if (checked_) checks_->shared.Grow(static_end_);
  return begin;
}

void Block::IssueCopy(Thread& me, uint32_t smem, const void* global, uint32_t bytes, bool pred,
                      Site site) {
  if (pred) Global(me, global, bytes, Access::kCopy, site, "cp_async");
  void* to = Shared(me, smem, bytes, Access::kCopy, site, "cp_async to shared");
  // Whoever reads before the wait shall see it.
  std::memset(to, 0xff, bytes);
  me.copies.push_back({smem, bytes, pred ? global : nullptr, me.copy_group, site});
}

void Block::WaitCopies(Thread& me, uint32_t open) {
  size_t done = 0;
  for (; done < me.copies.size(); ++done) {
    const PendingCopy& copy = me.copies[done];
    if (copy.group + open >= me.copy_group) break;
    if (copy.global == nullptr) {
      std::memset(arena_ + copy.smem, 0, copy.bytes);
    } else {
      std::memcpy(arena_ + copy.smem, copy.global, copy.bytes);
    }
    if (checked_) {
      checks_->shared.Complete(copy.smem, copy.bytes, me.warp->index, me.lane,
                               checks_->sites.Number(copy.site, "cp_async to shared"),
                               checks_->clocks);
    }
  }
  me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<ptrdiff_t>(done));
}

std::unique_lock<std::mutex> Block::Publish(Thread& me, const void* address) {
  if (!checked_) return {};
  std::unique_lock lock(state_->publications.mutex());
  checks_->actor.Atomic(reinterpret_cast<uintptr_t>(address), me.warp->index, me.lane,
                        state_->publications);
  return lock;
}

void Block::Fence(Thread& me) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (checked_) checks_->actor.Fence(me.warp->index, me.lane, checks_->clocks);
}

}  // namespace tessera::cuda::emulation
