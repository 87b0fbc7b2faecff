// Shared and global memory as a block's threads see it.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/emulation/block.h"

namespace tessera::cuda::emulation {

void* Block::Shared(Thread& me, uint32_t address, uint32_t bytes, Access, Site site,
                    const char* word) {
  if (address % bytes != 0) {
    Fail(me, DefectKind::kMisaligned, site,
         fmt::format("{} of {} bytes at shared address {}", word, bytes, address));
  }
  if (address > launch().smem_bytes || bytes > launch().smem_bytes - address) {
    const bool known = std::ranges::any_of(statics_, [&](const Static& s) {
      return address >= s.begin && address - s.begin <= s.bytes &&
             bytes <= s.bytes - (address - s.begin);
    });
    if (!known) {
      Fail(me, DefectKind::kBounds, site,
           fmt::format("{} of {} bytes at shared address {}; the block has {} bytes", word, bytes,
                       address, launch().smem_bytes));
    }
  }
  return arena_ + address;
}

void* Block::Global(Thread& me, const void* pointer, uint32_t bytes, Access, Site site,
                    const char* word) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const Allocation*& recent = recent_[static_cast<uint32_t>(site.line) % recent_.size()];
  if (recent == nullptr || !recent->Contains(address, bytes)) [[unlikely]] {
    const MemoryMap& map = *state_->memory;
    auto next = std::ranges::upper_bound(map, address, {}, [](const auto& a) { return a->begin; });
    const Allocation* before = next == map.begin() ? nullptr : std::prev(next)->get();
    if (before == nullptr || !before->Contains(address, bytes)) {
      const auto where = before == nullptr ? std::string("below every allocation")
                                           : fmt::format("byte {} of an allocation of {} bytes",
                                                         address - before->begin, before->bytes);
      Fail(me, DefectKind::kBounds, site, fmt::format("{} of {} bytes: {}", word, bytes, where));
    }
    recent = before;
  }
  if (address % bytes != 0) {
    Fail(me, DefectKind::kMisaligned, site,
         fmt::format("{} of {} bytes at byte {} of an allocation", word, bytes,
                     address - recent->begin));
  }
  return const_cast<void*>(pointer);
}

uint32_t Block::SharedAddress(Thread& me, const void* pointer, Site site) {
  const auto offset = static_cast<const uint8_t*>(pointer) - arena_;
  if (offset < 0 || static_cast<size_t>(offset) > launch().smem_bytes) {
    Fail(me, DefectKind::kBounds, site,
         "smem_u32 of a pointer that is not into the block's DYN_SMEM");
  }
  return static_cast<uint32_t>(offset);
}

uint32_t Block::StaticArray(Thread& me, size_t bytes, const char* name, Site site) {
  for (const Static& known : statics_) {
    if (known.site == site && known.bytes == bytes) return known.begin;
  }
  const uint32_t begin = static_end_;
  if (bytes > kMaxStaticShared || begin + bytes + 32 > kArenaBytes) {
    Fail(me, DefectKind::kBadArgument, site,
         fmt::format("SHARED_ARRAY {}: {} bytes are more than a block has", name, bytes));
  }
  statics_.push_back({site, begin, static_cast<uint32_t>(bytes)});
  std::memset(arena_ + begin, 0xff, bytes);
  static_end_ = (begin + static_cast<uint32_t>(bytes) + 15) / 16 * 16 + 16;
  return begin;
}

void Block::IssueCopy(Thread& me, uint32_t smem, const void* global, uint32_t bytes, bool pred,
                      Site site) {
  if (pred) Global(me, global, bytes, Access::kLoad, site, "cp_async");
  void* to = Shared(me, smem, bytes, Access::kCopy, site, "cp_async");
  // Whoever reads before the wait shall see it.
  std::memset(to, 0xff, bytes);
  me.copies.push_back({smem, bytes, pred ? global : nullptr, me.copy_group, site});
}

void Block::WaitCopies(Thread& me, uint32_t open, Site) {
  size_t done = 0;
  for (; done < me.copies.size(); ++done) {
    const PendingCopy& copy = me.copies[done];
    if (copy.group + open >= me.copy_group) break;
    if (copy.global == nullptr) {
      std::memset(arena_ + copy.smem, 0, copy.bytes);
    } else {
      std::memcpy(arena_ + copy.smem, copy.global, copy.bytes);
    }
  }
  me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<ptrdiff_t>(done));
}

void Block::Fence(Thread&) { std::atomic_thread_fence(std::memory_order_seq_cst); }

}  // namespace tessera::cuda::emulation
