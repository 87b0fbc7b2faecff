#include "server/engine/engine_core.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "base/check.h"

namespace tessera {
namespace {

std::vector<const RequestState*> States(const std::vector<ActiveRequest*>& view) {
  std::vector<const RequestState*> states;
  states.reserve(view.size());
  for (const ActiveRequest* request : view) states.push_back(&request->state);
  return states;
}

}  // namespace

EngineCore::EngineCore(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
                       TextDecoderFactory decoders, const Clock& clock)
    : options_(options),
      runner_(std::move(runner)),
      decoders_(std::move(decoders)),
      clock_(clock),
      // 16 rows are a start that hardly anybody notices.
      pacer_(options.slowdown, 16 * runner_->info().flops_per_token,
             runner_->info().flops_per_token),
      blocks_(runner_->self_pages(), runner_->cross_pages()) {
  limits_.max_rows = std::max(1, std::min(options.token_budget, runner_->max_rows()));
  limits_.max_logits_rows = std::max(1, runner_->max_logits_rows());
  limits_.max_running =
      std::max(1, std::min({options.max_running, limits_.max_rows, limits_.max_logits_rows}));
  limits_.encode_budget_flops = options.encode_budget_flops;
  limits_.flops_per_token = runner_->info().flops_per_token;
  limits_.prefix_cache = options.prefix_cache;
}

void EngineCore::Add(uint64_t id, std::shared_ptr<const PreparedRequest> spec,
                     std::shared_ptr<EventStream> stream) {
  std::list<ActiveRequest> node(
      1);  // joins the others when it is complete: out of memory leaves nothing behind
  ActiveRequest& request = node.front();
  request.spec = std::move(spec);
  request.stream = std::move(stream);
  const PreparedRequest& prepared = *request.spec;
  const ModelInfo& info = runner_->info();
  request.timings = prepared.prepared;
  request.submitted = clock_.Now();
  request.usage.prompt_tokens = static_cast<int32_t>(prepared.prompt.size());
  request.usage.images = static_cast<int32_t>(prepared.media.size());
  request.ends = prepared.end_ids;
  request.ends.insert(request.ends.end(), prepared.stop_token_ids.begin(),
                      prepared.stop_token_ids.end());
  std::sort(request.ends.begin(), request.ends.end());

  RequestState& state = request.state;
  state.id = id;
  state.prompt_length = static_cast<int32_t>(prepared.prompt.size());
  state.max_tokens = prepared.max_tokens;
  state.deadline = prepared.deadline;
  std::unordered_set<Digest> seen;
  for (const Media& media : prepared.media) {
    MediaState& entry = state.media.emplace_back();
    entry.digest = media.digest;
    entry.plan = runner_->PlanEncode(*media.pixels);
    entry.used_tiles = media.pixels->used_tiles;
    entry.mark = media.mark;
    entry.first = seen.insert(media.digest).second;
    request.usage.image_tokens += entry.used_tiles * info.cross_kv.page_tokens;
  }
  PrefixKeys keys(prepared, info.unseen_rows);
  keys.Extend(prepared.prompt);
  const StopMatcher matcher(prepared.stop, prepared.include_stop);
  for (int choice = 0; choice < prepared.n; ++choice) {
    SequenceState& sequence = state.sequences.emplace_back(keys);
    sequence.choice = choice;
    sequence.tokens = prepared.prompt;
    request.choices.push_back(
        {.decoder = decoders_(prepared.skip_special_tokens), .matcher = matcher});
    ChoiceState& text = request.choices.back();
    if (!request.counts_tokens()) continue;
    for (int32_t token : prepared.prompt) text.Count(token, true);
  }
  ++stats_.requests_accepted;
  stats_.prompt_tokens += state.prompt_length;
  requests_.splice(requests_.end(), node);
}

void EngineCore::Cancel(uint64_t id) {
  for (ActiveRequest& request : requests_) {
    if (request.state.id != id) continue;
    EndRequest(request, Error{.code = ErrorCode::kCancelled, .what = "the request was cancelled"});
    RemoveEnded();
    return;
  }
}

void EngineCore::EndAll(const Error& error) {
  for (ActiveRequest& request : requests_) EndRequest(request, error);
  RemoveEnded();
}

void EngineCore::RemoveEnded() {
  for (auto it = requests_.begin(); it != requests_.end();) {
    const auto next = std::next(it);
    if (it->ended) removed_.splice(removed_.end(), requests_, it);
    it = next;
  }
  if (flight_ == nullptr) removed_.clear();
}

void EngineCore::EndDue(TimePoint now) {
  for (ActiveRequest& request : requests_) {
    const std::optional<TimePoint> full_since = request.stream->FullSince();
    request.state.paused = full_since.has_value();
    if (request.state.deadline <= now) {
      EndRequest(request,
                 Error{.code = ErrorCode::kDeadlineExceeded, .what = "the deadline has passed"});
    } else if (full_since && *full_since + options_.stalled_reader <= now) {
      EndRequest(request, Error{.code = ErrorCode::kResourceExhausted,
                                .what = "the client does not read its stream",
                                .field = "stream",
                                .limit = std::to_string(options_.stalled_reader.count()) + " s"});
    }
  }
  RemoveEnded();
}

std::optional<TimePoint> EngineCore::NextWake() const {
  std::optional<TimePoint> next;
  const auto earlier = [&](TimePoint time) { next = next ? std::min(*next, time) : time; };
  for (const ActiveRequest& request : requests_) {
    earlier(request.state.deadline);
    if (const auto since = request.stream->FullSince()) earlier(*since + options_.stalled_reader);
  }
  return next;
}

// The request to run alone, if a fault is being traced.
std::optional<uint64_t> EngineCore::Isolated() {
  while (!suspects_.empty()) {
    for (const ActiveRequest& request : requests_) {
      if (request.state.id == suspects_.front() && !request.state.paused) return request.state.id;
    }
    suspects_.pop_front();  // ended, or nothing can be learnt while its reader is behind
  }
  return std::nullopt;
}

bool EngineCore::RunOnce() {
  const TimePoint now = clock_.Now();
  EndDue(now);
  if (flight_ == nullptr && (requests_.empty() || device_lost_)) return false;
  try {
    if (flight_ != nullptr) {
      std::unique_ptr<Flight> next = SubmitAhead(*flight_);
      const std::unique_ptr<Flight> done = std::exchange(flight_, std::move(next));
      Finish(*done);
      RemoveEnded();
      if (flight_ != nullptr) return true;
    }
    if (requests_.empty() || device_lost_) return false;
    std::vector<ActiveRequest*> view;
    for (ActiveRequest& request : requests_) view.push_back(&request);
    const std::vector<const RequestState*> states = States(view);
    if (options_.speculate > 0) MakeDrafts();
    if (options_.slowdown > 0) limits_.joined_budget_flops = pacer_.budget();
    std::vector<const EncodeJobState*> jobs;
    for (const EncodeJob& job : jobs_) jobs.push_back(&job.state);
    const StepPlan plan = PlanStep(
        {.requests = states, .jobs = jobs, .blocks = &blocks_, .now = now, .only = Isolated()},
        limits_);
    if (plan.empty() && plan.preemptions.empty() && plan.admissions.empty()) return false;
    RunStep(plan, view);
  } catch (const std::exception&) {
    // Outside the model's step, e.g. out of memory while the plan was applied: the tables may be
    // half changed.
    Discard();
    ResetPools();
    suspects_.clear();
    for (const ActiveRequest& request : requests_) suspects_.push_back(request.state.id);
    ++stats_.faults;
  }
  RemoveEnded();
  return true;
}

void EngineCore::RunStep(const StepPlan& plan, const std::vector<ActiveRequest*>& view) {
  auto flight = std::make_unique<Flight>();
  std::vector<PageCopy> copies;
  Apply(plan, view, copies);
  if (plan.empty()) return;
  flight->plan = plan;
  for (const ActiveRequest* request : view) flight->ids.push_back(request->state.id);
  BuiltBatch built = BuildBatch(plan, States(view), blocks_, runner_->info().unseen_rows);
  flight->step.batch = std::move(built.batch);
  flight->step.batch.page_copies = std::move(copies);
  flight->step.encode = EncodeSlices(plan);
  flight->draws = std::move(built.draws);
  Submit(*flight, view);
  if (!flight->failed && MayRunAhead(plan)) {
    flight_ = std::move(flight);
  } else {
    Finish(*flight);
  }
}

void EngineCore::Submit(Flight& flight, const std::vector<ActiveRequest*>& view) {
  flight.step.sample = SampleRows(flight.draws, view, flight.ahead, flight.draft_counts);
  flight.begin = clock_.Now();
  try {
    flight.handle = runner_->Submit(flight.step);
  } catch (const std::exception&) {
    flight.failed = true;
  }
}

void EngineCore::Finish(Flight& flight) {
  StepResult result;
  try {
    if (!flight.failed) result = runner_->Wait(flight.handle);
  } catch (const std::exception&) {
    flight.failed = true;
  }
  ++stats_.steps;
  const TimePoint now = clock_.Now();
  const double seconds =  // since the device had nothing else to do
      std::chrono::duration<double>(now - std::max(flight.begin, last_finish_)).count();
  last_finish_ = now;
  stats_.busy_seconds += seconds;
  if (!flight.failed) {
    const auto streams = std::count_if(flight.plan.rows.begin(), flight.plan.rows.end(),
                                       [](const PlannedRows& rows) { return rows.decode; });
    pacer_.Observe(static_cast<int>(streams), flight.plan.joined_flops, seconds);
  }
  ReleaseCopied();
  const std::vector<ActiveRequest*> view = ViewOf(flight);
  DropRows(flight, view, result);
  if (flight.failed) {
    Discard();  // the step ahead hangs on this one
    OnStepException(flight.plan, view);
  } else if (result.error) {
    Discard();
    device_lost_ = true;
    EndAll(Error{.code = ErrorCode::kUnavailable, .what = "the device was lost"});
  } else {
    Retire(flight.plan, view, flight.step, flight.draws, result);
  }
}

std::vector<EncodeSlice> EngineCore::EncodeSlices(const StepPlan& plan) const {
  std::vector<EncodeSlice> slices;
  for (const PlannedSlice& planned : plan.encode) {
    const auto job = std::find_if(jobs_.begin(), jobs_.end(), [&](const EncodeJob& job) {
      return job.state.digest == planned.digest;
    });
    TESSERA_CHECK(job != jobs_.end() && job->state.units_done == planned.unit_begin,
                  "a slice without its job");
    slices.push_back({.slot = 0,  // one picture after another, each from its first unit to its last
                      .pixels = job->pixels.get(),
                      .unit_begin = planned.unit_begin,
                      .unit_end = planned.unit_end,
                      .cross_pages = blocks_.cross.Find(planned.digest)->pages});
  }
  return slices;
}

void EngineCore::RetireEncode(const Step& step, const StepPlan& plan, const StepResult& result) {
  for (size_t i = 0; i < plan.encode.size(); ++i) {
    const PlannedSlice& slice = plan.encode[i];
    const auto job = std::find_if(jobs_.begin(), jobs_.end(), [&](const EncodeJob& job) {
      return job.state.digest == slice.digest;
    });
    stats_.encode_units += slice.unit_end - slice.unit_begin;
    job->state.units_done = step.encode[i].unit_end;
    const bool done = job->state.units_done == job->state.plan.units;
    if (done) ++stats_.images_encoded;
    // The work is the owner's; others who wait for the same picture got it for nothing.
    for (ActiveRequest& request : requests_) {
      if (request.state.id != job->state.owner) continue;
      if (i < result.encode_seconds.size())
        request.timings.vision_encode += result.encode_seconds[i];
      if (i < result.cross_kv_seconds.size())
        request.timings.cross_kv += result.cross_kv_seconds[i];
      if (done)
        request.usage.images_encoded =
            std::min(request.usage.images_encoded + 1, request.usage.images);
    }
    if (!done) continue;
    blocks_.cross.MarkReady(slice.digest);
    jobs_.erase(job);
  }
}

void EngineCore::Retire(const StepPlan& plan, const std::vector<ActiveRequest*>& view,
                        const Step& step, const std::vector<Draw>& draws,
                        const StepResult& result) {
  RetireEncode(step, plan, result);
  TESSERA_CHECK(result.samples.size() == draws.size(), "draws: expected {}, got {}", draws.size(),
                result.samples.size());
  const ActiveRequest* timed = nullptr;
  for (const PlannedRows& rows : plan.rows) {
    ActiveRequest& request = *view[rows.request];
    SequenceState& sequence = request.state.sequences[rows.sequence];
    sequence.computed += rows.count - rows.drafts;
    request.usage.drafted_tokens += rows.drafts;
    stats_.drafted_tokens += rows.drafts;
    const bool decode = rows.first >= request.state.prompt_length;
    if (&request != timed)
      (decode ? request.timings.decode : request.timings.prefill) += result.forward_seconds;
    timed = &request;
  }
  TakeDraws(plan, view, draws, result);
  // Whoever drew a token alone is not to blame.
  if (!suspects_.empty() && !draws.empty()) suspects_.pop_front();
}

void EngineCore::OnStepException(const StepPlan& plan, const std::vector<ActiveRequest*>& view) {
  ++stats_.faults;
  if (!suspects_.empty()) {
    for (ActiveRequest* request : view) {
      if (request != nullptr && request->state.id == suspects_.front())
        FailInternal(*request, "the step failed");
    }
    suspects_.pop_front();
    return;
  }
  for (ActiveRequest* request : view) {
    if (request == nullptr) continue;  // ended since
    const RequestState& state = request->state;
    const bool in_rows =
        std::any_of(plan.rows.begin(), plan.rows.end(),
                    [&](const PlannedRows& rows) { return view[rows.request] == request; });
    const bool in_encode =
        std::any_of(plan.encode.begin(), plan.encode.end(), [&](const PlannedSlice& slice) {
          return std::any_of(state.media.begin(), state.media.end(), [&](const MediaState& media) {
            return state.admitted && media.digest == slice.digest;
          });
        });
    if (in_rows || in_encode) suspects_.push_back(state.id);
  }
  for (ActiveRequest* request : view) {
    if (request != nullptr && request->state.admitted) Preempt(*request);
  }
  DropIdleJobs();
}

int EngineCore::never_admitted() const {
  return static_cast<int>(
      std::count_if(requests_.begin(), requests_.end(),
                    [](const ActiveRequest& request) { return !request.was_admitted; }));
}

}  // namespace tessera
