#include "server/engine/events.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tessera {

size_t EventBytes(const Event& event) {
  const auto* delta = std::get_if<TextDelta>(&event);
  if (delta == nullptr) return 0;
  size_t bytes = delta->text.size();
  for (const TokenOut& token : delta->tokens)
    bytes += sizeof(TokenOut) + token.top.size() * sizeof(TokenLogprob);
  return bytes;
}

void EventStream::Push(Event event, TimePoint now) {
  std::function<void()> wake;
  {
    std::lock_guard lock(mu_);
    const bool was_empty = events_.empty();
    bytes_ += EventBytes(event);
    high_water_bytes_ = std::max(high_water_bytes_, bytes_);
    if (!full_since_ && bytes_ >= kMaxBytes) full_since_ = now;
    TextDelta* into = nullptr;
    auto* delta = std::get_if<TextDelta>(&event);
    if (delta != nullptr && events_.size() >= kMaxEvents) {
      // A choice's end comes after all its deltas, so merging into the last delta keeps the order.
      for (auto it = events_.rbegin(); it != events_.rend() && into == nullptr; ++it) {
        auto* last = std::get_if<TextDelta>(&*it);
        if (last != nullptr && last->choice == delta->choice) into = last;
      }
    }
    if (into != nullptr) {
      into->text += delta->text;
      std::move(delta->tokens.begin(), delta->tokens.end(), std::back_inserter(into->tokens));
    } else {
      events_.push_back(std::move(event));
    }
    if (was_empty) wake = listener_;
  }
  if (wake) wake();
}

bool EventStream::Full() const {
  std::lock_guard lock(mu_);
  return full_since_.has_value();
}

std::optional<TimePoint> EventStream::FullSince() const {
  std::lock_guard lock(mu_);
  return full_since_;
}

std::optional<Event> EventStream::Pop() {
  std::optional<Event> event;
  std::function<void()> wake;
  {
    std::lock_guard lock(mu_);
    if (events_.empty()) return std::nullopt;
    event = std::move(events_.front());
    events_.pop_front();
    bytes_ -= EventBytes(*event);
    if (full_since_ && bytes_ < kMaxBytes) {
      full_since_.reset();
      wake = drain_listener_;
    }
  }
  if (wake) wake();
  return event;
}

void EventStream::SetListener(std::function<void()> listener) {
  std::lock_guard lock(mu_);
  listener_ = std::move(listener);
}

void EventStream::SetDrainListener(std::function<void()> listener) {
  std::lock_guard lock(mu_);
  drain_listener_ = std::move(listener);
}

size_t EventStream::high_water_bytes() const {
  std::lock_guard lock(mu_);
  return high_water_bytes_;
}

}  // namespace tessera
