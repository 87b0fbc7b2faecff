#include "media/decode_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace tessera {

DecodeBudget::Lease::Lease(Lease&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

DecodeBudget::Lease& DecodeBudget::Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    Release();
    budget_ = std::exchange(other.budget_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void DecodeBudget::Lease::ShrinkTo(int64_t bytes) {
  TESSERA_CHECK(bytes >= 0 && bytes <= bytes_, "lease of {} bytes cannot shrink to {}", bytes_,
                bytes);
  if (budget_ != nullptr) budget_->Return(bytes_ - bytes);
  bytes_ = bytes;
}

void DecodeBudget::Lease::Release() {
  if (budget_ != nullptr) budget_->Return(bytes_);
  budget_ = nullptr;
  bytes_ = 0;
}

DecodeBudget::DecodeBudget(int64_t capacity) : capacity_(capacity) {
  TESSERA_CHECK(capacity > 0, "decode budget of {} bytes", capacity);
}

Result<DecodeBudget::Lease> DecodeBudget::Acquire(int64_t bytes, const DecodeWait& wait) {
  TESSERA_CHECK(bytes >= 0, "decode lease of {} bytes", bytes);
  const auto parts = [&] {
    return ErrorParts{.field = "image",
                      .limit = fmt::format("{} bytes", capacity_),
                      .value = fmt::format("{} bytes", bytes)};
  };
  if (bytes > capacity_) {
    return Fail(ErrorCode::kInvalidArgument, "image needs more memory than all decoding may use",
                parts());
  }
  std::unique_lock lock(mu_);
  const uint64_t ticket = next_ticket_++;
  queue_.push_back(ticket);
  const auto my_turn = [&] { return queue_.front() == ticket && in_use_ + bytes <= capacity_; };
  // time_point::max() would overflow inside the clock conversions of wait_until, so the patience
  // bounds it.
  const auto until = std::min(wait.deadline, std::chrono::steady_clock::now() + wait.patience);
  const bool granted = freed_.wait_until(lock, wait.stop, until, my_turn);
  std::erase(queue_, ticket);
  if (granted) {
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
  }
  lock.unlock();
  freed_.notify_all();  // whoever is first now may fit
  if (granted) return Lease(this, bytes);
  if (wait.stop.stop_requested())
    return Fail(ErrorCode::kCancelled, "cancelled while waiting to decode an image");
  if (until == wait.deadline) {
    return Fail(ErrorCode::kDeadlineExceeded, "deadline passed while waiting to decode an image",
                parts());
  }
  return Fail(ErrorCode::kResourceExhausted, "too many images are being decoded at once", parts());
}

void DecodeBudget::Return(int64_t bytes) {
  {
    std::lock_guard lock(mu_);
    in_use_ -= bytes;
    TESSERA_CHECK(in_use_ >= 0, "decode budget returned more than was taken: {}", in_use_);
  }
  freed_.notify_all();
}

int64_t DecodeBudget::in_use() const {
  std::lock_guard lock(mu_);
  return in_use_;
}

int64_t DecodeBudget::peak() const {
  std::lock_guard lock(mu_);
  return peak_;
}

int64_t DecodeBudget::waiting() const {
  std::lock_guard lock(mu_);
  return static_cast<int64_t>(queue_.size());
}

}  // namespace tessera
