// What the engine tells about a request, and the bounded buffer through which it does.
//
// Order for one request: TextDelta* and exactly one ChoiceEnd per choice (interleaved between
// choices), then exactly one RequestEnd, which is terminal, whatever fails. A request that failed
// before its choices ended still ends every choice (FinishReason::kError or kCancelled) before the
// RequestEnd.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "server/engine/request.h"

namespace tessera {

struct TokenOut {
  int32_t id = 0;
  float logprob = 0;              // set where logprobs were asked for
  std::vector<TokenLogprob> top;  // best first
};

// `text` is valid UTF-8, never half a character; tokens may come with an empty text while a
// character or a possible stop string is incomplete.
struct TextDelta {
  int32_t choice = 0;
  std::string text;
  std::vector<TokenOut> tokens;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };

struct ChoiceEnd {
  int32_t choice = 0;
  FinishReason reason = FinishReason::kStop;
  std::string stop_string;  // what matched, if a stop string did
  int32_t stop_token = -1;  // the end id, if one did
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t image_tokens =
      0;  // cross-attention positions: used tiles x tokens of a tile, over all pictures
  int32_t cached_tokens = 0;     // prompt tokens whose K/V came from the prefix cache
  int32_t generated_tokens = 0;  // over all choices
  int32_t images = 0;
  int32_t images_encoded = 0;  // the others were found in the cross-K/V pool
  int32_t preemptions = 0;
  int32_t drafted_tokens = 0;   // guesses that were run (speculation)
  int32_t accepted_tokens = 0;  // of them, those that the model would have said
};

struct RequestEnd {
  std::optional<Error> error;  // unset: every choice finished by stop or length
  Usage usage;
  StageTimings timings;
};

using Event = std::variant<TextDelta, ChoiceEnd, RequestEnd>;

// Single producer (the engine), single consumer (the wire). Never blocks either.
// Bounded to kMaxEvents events and kMaxBytes of text; when it is full, deltas of the same choice
// merge; when the bytes are full too, Full() is true and the engine does not schedule that
// request's sequences until the consumer reads. Ends are always taken.
size_t EventBytes(const Event& event);

class EventStream {
 public:
  static constexpr size_t kMaxEvents = 256;
  static constexpr size_t kMaxBytes = 64 * 1024;

  // ---- engine side
  // `now`: the engine's clock, for FullSince.
  void Push(Event event, TimePoint now = {});
  bool Full() const;
  // When the stream became full and has stayed so, else unset.
  std::optional<TimePoint> FullSince() const;

  // ---- wire side
  std::optional<Event> Pop();
  // Called (from the engine's thread, without a lock held) whenever the stream goes from empty to
  // not empty.
  void SetListener(std::function<void()> listener);
  // Called (from the consumer's thread, in Pop) when the stream stops being full, so that the
  // engine wakes up.
  void SetDrainListener(std::function<void()> listener);

  size_t high_water_bytes() const;

 private:
  mutable std::mutex mu_;
  std::deque<Event> events_;              // guarded by mu_
  size_t bytes_ = 0;                      // guarded by mu_
  size_t high_water_bytes_ = 0;           // guarded by mu_
  std::optional<TimePoint> full_since_;   // guarded by mu_
  std::function<void()> listener_;        // guarded by mu_
  std::function<void()> drain_listener_;  // guarded by mu_
};

}  // namespace tessera
