// What scheduler and block manager know of a request: host integers, no text, no stream, no tensor.
//
// A request has n choices. The prompt is computed once, by its leader (the first choice that is not
// finished); when all of the prompt's K/V exist, the other choices take over its pages (fork) and
// go on by themselves. After a preemption the same happens again, so that a request never needs
// more pages than in its first run.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/model.h"
#include "server/engine/prefix_key.h"
#include "server/engine/request.h"

namespace tessera {

struct SequenceState {
  explicit SequenceState(const PrefixKeys& prefix) : prefix_keys(prefix) {}

  int32_t choice = 0;
  std::vector<int32_t> tokens;  // prompt and generated
  int32_t computed = 0;         // tokens [0, computed) have their K/V in pages
  int32_t registered = 0;       // pages [0, registered) have been offered to the prefix cache
  std::vector<int32_t> pages;   // block table
  // Guesses of what follows `tokens`: rows may be run for them, in their places (speculation).
  std::vector<int32_t> draft;
  bool finished = false;
  PrefixKeys prefix_keys;

  int32_t length() const { return static_cast<int32_t>(tokens.size()); }
  int32_t pending() const {
    return length() - computed;
  }  // rows to run before the next token can be drawn
};

// A picture as the scheduler sees it.
struct MediaState {
  Digest digest;
  EncodePlan plan;
  int32_t used_tiles = 0;
  int32_t mark = 0;
  bool first = true;  // no earlier picture of the request has the same digest
};

struct RequestState {
  uint64_t id = 0;  // ascending in order of arrival
  int32_t prompt_length = 0;
  int32_t max_tokens = 0;
  std::vector<SequenceState> sequences;
  std::vector<MediaState> media;
  TimePoint deadline;
  bool admitted = false;  // holds its pictures' cross pages and its leader's self pages
  bool paused = false;    // its reader is behind

  // Index of the leader, -1 when all choices are finished.
  int leader() const {
    for (size_t i = 0; i < sequences.size(); ++i) {
      if (!sequences[i].finished) return static_cast<int>(i);
    }
    return -1;
  }
  int unfinished() const {
    int count = 0;
    for (const SequenceState& sequence : sequences) count += !sequence.finished;
    return count;
  }
};

// Self pages that a request needs at most: whole pages of the prompt once, the rest for every
// choice. The last token is drawn but never run.
int64_t WorstCaseSelfPages(int64_t prompt_length, int64_t max_tokens, int64_t n);

// Pages for `tokens` tokens.
int32_t SelfPagesFor(int32_t tokens);

}  // namespace tessera
