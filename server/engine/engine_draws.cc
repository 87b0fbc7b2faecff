// What is drawn in a step and what becomes of it: sampling rows, guesses and their verification.
//
// Speculation changes no word: the row of a guess computes what it would compute in a step of its
// own (results do not depend on company), the draw behind it depends on seed, choice and position
// alone, and it is taken only if every token before it turned out as guessed. K/V of wrong guesses
// lie behind `computed`, where nobody reads before the next step writes.
#include <algorithm>
#include <exception>

#include "server/engine/engine_core.h"

namespace tessera {

void EngineCore::MakeDrafts() {
  for (ActiveRequest& request : requests_) {
    for (SequenceState& sequence : request.state.sequences) {
      ChoiceState& choice = request.choices[static_cast<size_t>(sequence.choice)];
      sequence.draft.clear();
      choice.accepted = 0;
      if (sequence.finished || choice.generated == 0 || sequence.pending() != 1 ||
          request.state.paused)
        continue;
      // The last token is drawn but never run.
      const int32_t most = std::min({choice.draft_limit, options_.speculate,
                                     request.spec->max_tokens - choice.generated - 1});
      sequence.draft = choice.lookup.Guess(sequence.tokens, most);
      // Nothing follows an end id, and placeholders of pictures are never said.
      const auto end = std::find_if(sequence.draft.begin(), sequence.draft.end(), [&](int32_t id) {
        return id >= runner_->info().vocab_size ||
               std::binary_search(request.ends.begin(), request.ends.end(), id);
      });
      sequence.draft.erase(end, sequence.draft.end());
    }
  }
}

std::vector<SampleRow> EngineCore::SampleRows(
    const std::vector<Draw>& draws, const std::vector<ActiveRequest*>& view, int32_t ahead,
    std::deque<std::vector<TokenCount>>& draft_counts) const {
  std::vector<SampleRow> rows;
  for (const Draw& draw : draws) {
    const ActiveRequest& request = *view[draw.request];
    const SequenceState& sequence = request.state.sequences[draw.sequence];
    const ChoiceState& choice = request.choices[draw.sequence];
    const SamplingParams& sampling = request.spec->sampling;
    SampleRow row{.logits_row = draw.logits_row,
                  .temperature = sampling.temperature,
                  .top_k = sampling.top_k,
                  .top_p = sampling.top_p,
                  .min_p = sampling.min_p,
                  .repetition_penalty = sampling.repetition_penalty,
                  .frequency_penalty = sampling.frequency_penalty,
                  .presence_penalty = sampling.presence_penalty,
                  .seed = sampling.seed,
                  .choice = static_cast<uint32_t>(sequence.choice),
                  .position = static_cast<uint32_t>(sequence.length() + ahead + draw.drafts),
                  .logprobs = sampling.logprobs,
                  .counts = choice.counts,
                  .bias = sampling.bias};
    if (choice.generated + ahead + draw.drafts < request.spec->min_tokens)
      row.banned = request.ends;
    if (draw.drafts > 0 && request.counts_tokens()) {
      const std::span<const int32_t> guesses = sequence.draft;
      row.counts = draft_counts.emplace_back(
          choice.CountsWith(guesses.first(static_cast<size_t>(draw.drafts))));
    }
    rows.push_back(row);
  }
  return rows;
}

void EngineCore::TakeDraws(const StepPlan& plan, const std::vector<ActiveRequest*>& view,
                           const std::vector<Draw>& draws, const StepResult& result) {
  // Draws hold as far as the model would have said the guesses before them.
  std::vector<bool> holds(draws.size(), true);
  for (size_t i = 0; i < draws.size(); ++i) {
    if (draws[i].drafts == 0) continue;
    const SequenceState& sequence = view[draws[i].request]->state.sequences[draws[i].sequence];
    const int32_t guess = sequence.draft[static_cast<size_t>(draws[i].drafts) - 1];
    holds[i] = holds[i - 1] && result.samples[i - 1].id == guess;
  }
  // A request with an invalid draw fails before any of its pages can be found by others.
  for (size_t i = 0; i < draws.size(); ++i) {
    const SampleResult& sample = result.samples[i];
    if (holds[i] && (sample.invalid || sample.id < 0)) {
      FailInternal(*view[draws[i].request], "the model gave no valid probabilities");
    }
  }
  for (const PlannedRows& rows : plan.rows) {
    if (!view[rows.request]->ended)
      RegisterPages(view[rows.request]->state.sequences[rows.sequence]);
  }
  for (const PlannedRows& rows : plan.rows) {
    if (!view[rows.request]->ended) Fork(view[rows.request]->state);
  }
  for (size_t i = 0; i < draws.size(); ++i) {
    ActiveRequest& request = *view[draws[i].request];
    SequenceState& sequence = request.state.sequences[draws[i].sequence];
    if (!holds[i] || request.ended || sequence.finished) continue;
    if (draws[i].drafts > 0) {  // the guess before it was right, and so are its K/V
      ++sequence.computed;
      ++request.choices[static_cast<size_t>(draws[i].sequence)].accepted;
      ++request.usage.accepted_tokens;
      ++stats_.accepted_tokens;
    }
    try {
      TakeToken(request, draws[i].sequence, result.samples[i]);
    } catch (const std::exception&) {
      FailInternal(request, "the answer could not be put together");
    }
  }
  for (const PlannedRows& rows : plan.rows) {
    if (rows.drafts == 0) continue;
    ChoiceState& choice = view[rows.request]->choices[static_cast<size_t>(rows.sequence)];
    choice.draft_limit = choice.accepted == rows.drafts
                             ? std::min(options_.speculate, 2 * choice.draft_limit)
                             : choice.accepted + 1;
  }
}

}  // namespace tessera
