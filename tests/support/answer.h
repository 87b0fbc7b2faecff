// Reads an EventStream and holds it to its contract: deltas and one end per choice, then exactly
// one terminal event.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/engine/events.h"

namespace tessera::testing {

struct ChoiceAnswer {
  std::string text;
  std::vector<int32_t> ids;
  std::vector<TokenOut> tokens;
  std::optional<ChoiceEnd> end;
};

struct Answer {
  std::map<int, ChoiceAnswer> choices;
  std::optional<RequestEnd> end;

  void Take(Event event) {
    EXPECT_FALSE(end) << "an event after the terminal one";
    if (auto* delta = std::get_if<TextDelta>(&event)) {
      ChoiceAnswer& choice = choices[delta->choice];
      EXPECT_FALSE(choice.end) << "a delta after the choice's end";
      choice.text += delta->text;
      for (TokenOut& token : delta->tokens) {
        choice.ids.push_back(token.id);
        choice.tokens.push_back(std::move(token));
      }
    } else if (auto* choice_end = std::get_if<ChoiceEnd>(&event)) {
      ChoiceAnswer& choice = choices[choice_end->choice];
      EXPECT_FALSE(choice.end) << "two ends of a choice";
      choice.end = *choice_end;
    } else {
      end = std::get<RequestEnd>(event);
      for (const auto& [index, choice] : choices)
        EXPECT_TRUE(choice.end) << "choice " << index << " did not end";
    }
  }
  // Everything that is there now.
  void Drain(EventStream& stream) {
    while (std::optional<Event> event = stream.Pop()) Take(std::move(*event));
  }
  std::optional<ErrorCode> error() const {
    return end && end->error ? std::optional(end->error->code) : std::nullopt;
  }
};

// For streams that another thread fills.
class Reader {
 public:
  Reader() : stream_(std::make_shared<EventStream>()), signal_(std::make_shared<Signal>()) {
    stream_->SetListener([signal = signal_] {
      std::lock_guard lock(signal->mu);
      signal->ready = true;
      signal->changed.notify_all();
    });
  }
  const std::shared_ptr<EventStream>& stream() const { return stream_; }
  // Reads until the terminal event; fails after five minutes without any.
  const Answer& Wait() {
    while (!answer_.end) {
      answer_.Drain(*stream_);
      if (answer_.end) break;
      std::unique_lock lock(signal_->mu);
      const bool woken =
          signal_->changed.wait_for(lock, std::chrono::minutes(5), [&] { return signal_->ready; });
      signal_->ready = false;
      if (!woken) {
        ADD_FAILURE() << "no event within five minutes";
        break;
      }
    }
    return answer_;
  }

 private:
  struct Signal {
    std::mutex mu;
    std::condition_variable changed;
    bool ready = false;  // guarded by mu
  };
  const std::shared_ptr<EventStream> stream_;
  const std::shared_ptr<Signal> signal_;
  Answer answer_;
};

}  // namespace tessera::testing
