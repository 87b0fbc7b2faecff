// A request as the engine keeps it from acceptance to its terminal event.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "server/engine/events.h"
#include "server/engine/prompt_lookup.h"
#include "server/engine/request.h"
#include "server/engine/sequence.h"
#include "server/engine/stop_matcher.h"
#include "server/engine/text_decoder.h"

namespace tessera {

// What a choice keeps beside its SequenceState; survives preemption.
struct ChoiceState {
  std::unique_ptr<TextDecoder> decoder;
  StopMatcher matcher;
  std::vector<TokenCount> counts;                   // kept only where a penalty is set
  std::unordered_map<int32_t, size_t> count_index;  // id -> index in counts
  int32_t generated = 0;
  PromptLookup lookup;
  int32_t draft_limit = 1;  // doubles when all guesses were right, shrinks to what was
  int32_t accepted = 0;     // guesses of this step that were right

  void Count(int32_t id, bool in_prompt) {
    const auto [it, added] = count_index.try_emplace(id, counts.size());
    if (added) counts.push_back({.id = id});
    TokenCount& count = counts[it->second];
    ++(in_prompt ? count.in_prompt : count.in_output);
  }
  // As if `guesses` had been said.
  std::vector<TokenCount> CountsWith(std::span<const int32_t> guesses) const {
    std::vector<TokenCount> with = counts;
    for (int32_t id : guesses) {
      const auto found = std::find_if(with.begin(), with.end(),
                                      [&](const TokenCount& count) { return count.id == id; });
      if (found == with.end()) {
        with.push_back({.id = id, .in_output = 1});
      } else {
        ++found->in_output;
      }
    }
    return with;
  }
};

struct ActiveRequest {
  RequestState state;
  std::shared_ptr<const PreparedRequest> spec;
  std::shared_ptr<EventStream> stream;
  std::vector<ChoiceState> choices;
  std::vector<int32_t> ends;  // end_ids and stop_token_ids
  Usage usage;
  StageTimings timings;
  TimePoint submitted;
  bool was_admitted = false;
  bool has_first_token = false;
  bool ended = false;  // the terminal event is out; leaves the table at the end of the step

  bool counts_tokens() const {
    const SamplingParams& sampling = spec->sampling;
    return sampling.repetition_penalty != 1.0f || sampling.frequency_penalty != 0.0f ||
           sampling.presence_penalty != 0.0f;
  }
};

}  // namespace tessera
