#include "kernels/cuda/device_allocator.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"

namespace tessera::cuda {
namespace {

constexpr size_t kAlignment = 256;

}  // namespace

void DeviceAllocator::Ledger::Add(MemoryUse use, bool pinned, size_t bytes) {
  const std::lock_guard lock(mutex);
  MemoryAccount& account = accounts[IndexOf(use, pinned)];
  account.bytes += bytes;
  account.peak = std::max(account.peak, account.bytes);
}

void DeviceAllocator::Ledger::Remove(MemoryUse use, bool pinned, size_t bytes) {
  const std::lock_guard lock(mutex);
  MemoryAccount& account = accounts[IndexOf(use, pinned)];
  TESSERA_CHECK(bytes <= account.bytes, "{}: expected at most {} bytes to come back, got {}",
                Name(use), account.bytes, bytes);
  account.bytes -= bytes;
}

Storage DeviceAllocator::Keep(void* memory, MemoryUse use, bool pinned, size_t bytes,
                              void (*free)(void*)) const {
  ledger_->Add(use, pinned, bytes);
  return Storage(memory, [ledger = ledger_, use, pinned, bytes, free](void* freed) {
    free(freed);
    ledger->Remove(use, pinned, bytes);
  });
}

Result<Storage> DeviceAllocator::Device(MemoryUse use, size_t bytes, Literal what) const {
  void* memory = nullptr;
  const size_t least = std::max<size_t>(bytes, 1);
  if (LaunchStatus status = Allocate(least, &memory); !status.ok()) {
    MemoryInfo info;
    (void)ReadMemoryInfo(info);
    return Fail(
        ErrorCode::kResourceExhausted, what,
        {.field = "bytes",
         .limit = fmt::format("{} free of {}", info.free, info.total),
         .value = std::to_string(bytes),
         .detail = fmt::format("{}; MiB in use: {}", status.message, MemoryText(Accounts()))});
  }
  return Keep(memory, use, false, least, &cuda::Free);
}

Result<Storage> DeviceAllocator::Pinned(MemoryUse use, size_t bytes, Literal what) const {
  void* memory = nullptr;
  if (LaunchStatus status = AllocatePinned(bytes, &memory); !status.ok())
    return Fail(
        ErrorCode::kResourceExhausted, what,
        {.field = "bytes",
         .value = std::to_string(bytes),
         .detail = fmt::format("{}; MiB in use: {}", status.message, MemoryText(Accounts()))});
  return Keep(memory, use, true, bytes, &cuda::FreePinned);
}

void DeviceAllocator::SetLimit(MemoryUse use, size_t bytes) const {
  const std::lock_guard lock(ledger_->mutex);
  ledger_->accounts[IndexOf(use, false)].limit = bytes;
}

MemoryAccount DeviceAllocator::Of(MemoryUse use, bool pinned) const {
  const std::lock_guard lock(ledger_->mutex);
  MemoryAccount account = ledger_->accounts[IndexOf(use, pinned)];
  account.use = use;
  account.pinned = pinned;
  return account;
}

std::vector<MemoryAccount> DeviceAllocator::Accounts() const {
  std::vector<MemoryAccount> all;
  for (const bool pinned : {false, true}) {
    for (size_t use = 0; use < kMemoryUses; ++use) {
      const MemoryAccount account = Of(static_cast<MemoryUse>(use), pinned);
      if (account.peak > 0 || account.limit > 0) all.push_back(account);
    }
  }
  return all;
}

Result<void> Arena::Reserve(const DeviceAllocator& allocator, size_t bytes) {
  if (bytes <= bytes_) return {};
  Reset();
  storage_.reset();
  bytes_ = 0;
  TESSERA_TRY(storage_,
              allocator.Device(MemoryUse::kScratch, bytes, "out of device memory for scratch"));
  bytes_ = bytes;
  return {};
}

void Arena::Reset() {
  used_ = 0;
  for (void* piece : pieces_) DropSlice(piece);
  pieces_.clear();
}

LaunchStatus Arena::Take(const char* op, size_t bytes, void** piece) {
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  TESSERA_CHECK(used_ + rounded <= bytes_,
                "{}: scratch: expected at most {} bytes (Reserve), got {} + {}", op, bytes_, used_,
                bytes);
  *piece = nullptr;
  LaunchStatus status = Slice(storage_.get(), used_, bytes, piece);
  used_ += rounded;
  if (*piece != nullptr) pieces_.push_back(*piece);
  return status;
}

}  // namespace tessera::cuda
