// A budget of bytes that all picture decoding of the process shares, so that many large pictures at
// once cannot exhaust memory: a decoder asks before it allocates, waits its turn, and gives back
// what it no longer holds.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <stop_token>

#include "base/error.h"

namespace tessera {

// How long a decoder may wait for its share.
struct DecodeWait {
  std::stop_token
      stop;  // cancels the wait (kCancelled) and, where the codec allows it, the decoding itself
  std::chrono::steady_clock::time_point deadline =
      std::chrono::steady_clock::time_point::max();  // kDeadlineExceeded
  std::chrono::milliseconds patience{
      10'000};  // then kResourceExhausted: the server is busy, try again
};

// Thread-safe. First come, first served: a large picture is never starved by small ones behind it.
// Invariants: 0 <= in_use() <= capacity(); peak() is the largest in_use() ever.
// A lease must not outlive its budget.
class DecodeBudget {
 public:
  static constexpr int64_t kDefaultBytes = int64_t{2} << 30;

  // Bytes held until the lease is destroyed. Movable, not copyable; one thread at a time.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&& other) noexcept;
    ~Lease() { Release(); }

    int64_t bytes() const { return bytes_; }
    // Gives back all but `bytes`; more than held is a programmer error.
    void ShrinkTo(int64_t bytes);
    void Release();

   private:
    friend class DecodeBudget;
    Lease(DecodeBudget* budget, int64_t bytes) : budget_(budget), bytes_(bytes) {}
    DecodeBudget* budget_ = nullptr;
    int64_t bytes_ = 0;
  };

  explicit DecodeBudget(int64_t capacity = kDefaultBytes);

  // Waits until `bytes` are free and all earlier callers are served. Outcomes: a lease;
  // kInvalidArgument where `bytes` exceed the whole budget and no waiting helps; kResourceExhausted
  // after `wait.patience`; kDeadlineExceeded; kCancelled.
  Result<Lease> Acquire(int64_t bytes, const DecodeWait& wait = {});

  int64_t capacity() const { return capacity_; }
  int64_t in_use() const;
  int64_t peak() const;
  int64_t waiting() const;

 private:
  void Return(int64_t bytes);

  const int64_t capacity_;
  mutable std::mutex mu_;
  std::condition_variable_any freed_;
  int64_t in_use_ = 0;          // guarded by mu_
  int64_t peak_ = 0;            // guarded by mu_
  uint64_t next_ticket_ = 0;    // guarded by mu_
  std::deque<uint64_t> queue_;  // guarded by mu_: tickets of those who wait, oldest first
};

}  // namespace tessera
