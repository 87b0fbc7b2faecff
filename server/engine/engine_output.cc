// From drawn tokens to events: text, stop conditions, ends.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "server/engine/engine_core.h"

namespace tessera {
namespace {

double Seconds(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

void EngineCore::TakeToken(ActiveRequest& request, int index, const SampleResult& sample) {
  const PreparedRequest& spec = *request.spec;
  SequenceState& sequence = request.state.sequences[index];
  ChoiceState& choice = request.choices[index];
  sequence.tokens.push_back(sample.id);
  sequence.prefix_keys.Extend(sequence.tokens);
  ++choice.generated;
  ++request.usage.generated_tokens;
  ++stats_.generated_tokens;
  if (request.counts_tokens()) choice.Count(sample.id, false);
  if (!request.has_first_token) {
    request.has_first_token = true;
    request.timings.first_token = Seconds(spec.arrival, clock_.Now());
  }

  TextDelta delta{.choice = index};
  TokenOut token{.id = sample.id};
  if (spec.sampling.logprobs >= 0) {
    token.logprob = sample.logprob;
    token.top.assign(sample.top.begin(), sample.top.begin() + sample.alternatives);
  }
  delta.tokens.push_back(std::move(token));

  const bool counts = choice.generated >= spec.min_tokens;
  const bool is_end = choice.generated > spec.min_tokens &&
                      std::binary_search(request.ends.begin(), request.ends.end(), sample.id);
  const bool is_last = is_end || choice.generated >= spec.max_tokens;
  // The text of an end id is part of the answer only where the client asked for what stopped it.
  std::string piece;
  if (!is_end || spec.include_stop) piece = choice.decoder->Push(sample.id);
  if (is_last) piece += choice.decoder->Flush();
  StopMatcher::Output out = choice.matcher.Feed(piece, counts);
  delta.text = std::move(out.text);
  if (is_last && out.match < 0) delta.text += choice.matcher.Flush();
  request.stream->Push(std::move(delta), clock_.Now());

  if (out.match >= 0) {
    FinishChoice(request, index, FinishReason::kStop, out.match, -1);
  } else if (is_end) {
    FinishChoice(request, index, FinishReason::kStop, -1, sample.id);
  } else if (is_last) {
    FinishChoice(request, index, FinishReason::kLength, -1, -1);
  }
}

void EngineCore::FinishChoice(ActiveRequest& request, int index, FinishReason reason,
                              int stop_string, int32_t stop_token) {
  SequenceState& sequence = request.state.sequences[index];
  sequence.finished = true;
  ReleasePages(sequence);
  ChoiceEnd end{.choice = index, .reason = reason, .stop_token = stop_token};
  if (stop_string >= 0) end.stop_string = request.spec->stop[stop_string];
  request.stream->Push(std::move(end), clock_.Now());
  if (request.state.unfinished() == 0) EndRequest(request, std::nullopt);
}

void EngineCore::EndRequest(ActiveRequest& request, const std::optional<Error>& error) {
  if (std::exchange(request.ended, true)) return;
  const TimePoint now = clock_.Now();
  const bool cancelled = error && error->code == ErrorCode::kCancelled;
  for (SequenceState& sequence : request.state.sequences) {
    if (std::exchange(sequence.finished, true)) continue;
    ReleasePages(sequence);
    request.stream->Push(
        ChoiceEnd{.choice = sequence.choice,
                  .reason = cancelled ? FinishReason::kCancelled : FinishReason::kError},
        now);
  }
  ReleasePictures(request.state);
  DropIdleJobs();
  if (!error) {
    ++stats_.requests_finished;
  } else if (cancelled) {
    ++stats_.requests_cancelled;
  } else {
    ++stats_.requests_failed;
  }
  if (!request.was_admitted) request.timings.queue = Seconds(request.submitted, now);
  request.timings.total = Seconds(request.spec->arrival, now);
  request.stream->Push(
      RequestEnd{.error = error, .usage = request.usage, .timings = request.timings}, now);
}

void EngineCore::FailInternal(ActiveRequest& request, Literal what) {
  if (request.ended) return;
  // Whatever made it fail may be in its K/V: nobody else shall find them.
  for (const SequenceState& sequence : request.state.sequences) {
    for (int32_t page : sequence.pages) blocks_.self.Forget(page);
  }
  if (request.state.admitted) {
    for (const MediaState& media : request.state.media) blocks_.cross.Doom(media.digest);
  }
  EndRequest(request, Error{.code = ErrorCode::kInternal, .what = what});
}

}  // namespace tessera
