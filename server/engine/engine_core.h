// The engine without its thread: requests in, one step at a time, events out. Engine runs it; tests
// step it by hand.
//
// Thread-compatible. Steps run one after another. At most one is in flight between two calls, and
// only where the runner runs behind (engine_ahead.cc): whatever is submitted later runs after it,
// so pages may be given away while it still reads them.
//
// Faults are contained:
//  - a draw without a valid distribution ends its request INTERNAL and takes its pages and pictures
//  out of the caches;
//  - an exception in a step says nothing about who caused it: everybody's K/V are recomputed, and
//  those who were in the
//    step run alone until they have drawn a token. Whoever's step fails alone ends INTERNAL, the
//    others go on with the same words;
//  - StepResult::error means that the device is lost: everybody ends UNAVAILABLE.
#pragma once

#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "server/engine/active_request.h"
#include "server/engine/batch.h"
#include "server/engine/block_manager.h"
#include "server/engine/clock.h"
#include "server/engine/engine.h"
#include "server/engine/runner.h"
#include "server/engine/scheduler.h"
#include "server/engine/step_pacer.h"

namespace tessera {

// INVALID_ARGUMENT, with the numbers, for what can never be served. Any thread.
Result<void> CheckRequest(const PreparedRequest& request, const ModelRunner& runner,
                          int max_running);

class EngineCore {
 public:
  EngineCore(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
             TextDecoderFactory decoders, const Clock& clock);
  ~EngineCore();  // waits for the step in flight

  // The request has passed CheckRequest. `id` is higher than all before.
  void Add(uint64_t id, std::shared_ptr<const PreparedRequest> spec,
           std::shared_ptr<EventStream> stream);
  // Ends it CANCELLED, its pages freed. Unknown ids do nothing.
  void Cancel(uint64_t id);
  // Ends whoever is due, then runs one step, or takes in the one in flight and submits the next.
  // False: there was nothing to run.
  bool RunOnce();
  // Everybody gets `error`.
  void EndAll(const Error& error);

  // When somebody's deadline or patience ends next.
  std::optional<TimePoint> NextWake() const;
  bool device_lost() const { return device_lost_; }
  int requests() const { return static_cast<int>(requests_.size()); }
  int never_admitted() const;
  int max_running() const { return limits_.max_running; }
  EngineStats stats() const;
  const ModelRunner& runner() const { return *runner_; }

  // For tests: aborts on a breach, among them pages that belong to nobody.
  void CheckInvariants() const;

 private:
  struct EncodeJob {
    EncodeJobState state;
    std::shared_ptr<const MediaPixels> pixels;
  };

  // A step between Submit and Finish.
  struct Flight {
    StepPlan plan;
    std::vector<uint64_t> ids;  // of the requests that the plan's indices name, ascending
    Step step;
    std::vector<Draw> draws;
    std::deque<std::vector<TokenCount>> draft_counts;  // what sampling rows point to
    int32_t ahead = 0;                                 // tokens that its sequences lack
    bool failed = false;                               // Submit threw
    StepHandle handle = 0;
    TimePoint begin;
  };

  // engine_core.cc
  void EndDue(TimePoint now);
  void RunStep(const StepPlan& plan, const std::vector<ActiveRequest*>& view);
  void Submit(Flight& flight, const std::vector<ActiveRequest*>& view);
  void Finish(Flight& flight);
  void Retire(const StepPlan& plan, const std::vector<ActiveRequest*>& view, const Step& step,
              const std::vector<Draw>& draws, const StepResult& result);
  void RetireEncode(const Step& step, const StepPlan& plan, const StepResult& result);
  void OnStepException(const StepPlan& plan, const std::vector<ActiveRequest*>& view);
  void RemoveEnded();
  // `ahead`: tokens that are being drawn. `draft_counts`: what rows behind guesses count; outlives
  // the step.
  std::vector<SampleRow> SampleRows(const std::vector<Draw>& draws,
                                    const std::vector<ActiveRequest*>& view, int32_t ahead,
                                    std::deque<std::vector<TokenCount>>& draft_counts) const;
  std::vector<EncodeSlice> EncodeSlices(const StepPlan& plan) const;
  std::optional<uint64_t> Isolated();

  // engine_ahead.cc
  bool MayRunAhead(const StepPlan& plan) const;
  std::vector<ActiveRequest*> ViewOf(const Flight& flight);  // null: gone since
  // The next step of the same choices, if nothing but their tokens is missing.
  std::optional<StepPlan> PlanAhead(const Flight& flight,
                                    const std::vector<ActiveRequest*>& view) const;
  std::unique_ptr<Flight> SubmitAhead(const Flight& flight);
  // Rows and draws of whoever has ended since the step was planned.
  static void DropRows(Flight& flight, const std::vector<ActiveRequest*>& view, StepResult& result);
  void Discard();  // waits for the step in flight and forgets it

  // engine_draws.cc
  void MakeDrafts();
  void TakeDraws(const StepPlan& plan, const std::vector<ActiveRequest*>& view,
                 const std::vector<Draw>& draws, const StepResult& result);

  // engine_pages.cc
  void Apply(const StepPlan& plan, const std::vector<ActiveRequest*>& view,
             std::vector<PageCopy>& copies);
  void Admit(const PlannedAdmission& admission, ActiveRequest& request);
  void Preempt(ActiveRequest& request);
  void ReleasePages(SequenceState& sequence);
  void ReleasePictures(RequestState& state);
  void DropIdleJobs();
  void ReleaseCopied();
  void Fork(RequestState& state);
  void RegisterPages(SequenceState& sequence);
  void ResetPools();

  // engine_output.cc
  void TakeToken(ActiveRequest& request, int choice, const SampleResult& sample);
  void FinishChoice(ActiveRequest& request, int choice, FinishReason reason, int stop_string,
                    int32_t stop_token);
  void EndRequest(ActiveRequest& request, const std::optional<Error>& error);
  void FailInternal(ActiveRequest& request, Literal what);

  const EngineOptions options_;
  const std::unique_ptr<ModelRunner> runner_;
  const TextDecoderFactory decoders_;
  const Clock& clock_;
  SchedulerLimits limits_;
  StepPacer pacer_;

  BlockManager blocks_;
  std::list<ActiveRequest> requests_;  // ascending by id
  // Ended; the step in flight may still read the counts and forbidden tokens of their rows. No more
  // than run: whoever comes in ends the running ahead.
  std::list<ActiveRequest> removed_;
  std::list<EncodeJob> jobs_;  // in the order of encoding; only the first may be half done
  std::vector<int32_t>
      copied_;  // shared pages given up by this step's copies, released when it retires
  std::deque<uint64_t> suspects_;  // run alone, the first one now
  std::unique_ptr<Flight> flight_;
  TimePoint last_finish_;
  bool device_lost_ = false;
  EngineStats stats_;
};

}  // namespace tessera
