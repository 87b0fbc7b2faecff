// Steps that follow each other without a pause of the device: the next one is planned, built and
// submitted while the one before it runs, and its tokens are those that the device draws meanwhile
// (Step::drawn): it takes them from its own memory, before the host has seen them.
//
// Only steps that decode are run ahead of, and only by a step of the same choices: nobody waits,
// nobody is paused, no page must be copied or taken from others, and no sampling row counts tokens
// (penalties) or has guesses. Everything else goes step by step. A row computes the same in either
// way, so not a bit of an answer depends on it.
//
// A choice that turns out to have ended has one row too many in the step ahead. Its pages are free
// at once: steps run in order, so whoever gets them writes after that row. What it drew is dropped.
#include <algorithm>
#include <exception>
#include <utility>

#include "base/check.h"
#include "server/engine/engine_core.h"

namespace tessera {

EngineCore::~EngineCore() { Discard(); }

bool EngineCore::MayRunAhead(const StepPlan& plan) const {
  return runner_->runs_behind() && options_.speculate == 0 && suspects_.empty() &&
         plan.encode.empty() &&
         std::ranges::all_of(plan.rows, [](const PlannedRows& rows) { return rows.decode; });
}

std::vector<ActiveRequest*> EngineCore::ViewOf(const Flight& flight) {
  std::vector<ActiveRequest*> view(flight.ids.size(), nullptr);
  for (ActiveRequest& request : requests_) {
    const auto found = std::ranges::lower_bound(flight.ids, request.state.id);
    if (found != flight.ids.end() && *found == request.state.id)
      view[static_cast<size_t>(found - flight.ids.begin())] = &request;
  }
  return view;
}

std::optional<StepPlan> EngineCore::PlanAhead(const Flight& flight,
                                              const std::vector<ActiveRequest*>& view) const {
  if (!MayRunAhead(flight.plan)) return std::nullopt;
  StepPlan plan;
  int32_t pages = 0;
  size_t running = 0;  // choices of the flight that have not ended since
  for (PlannedRows rows : flight.plan.rows) {
    const ActiveRequest* request = view[static_cast<size_t>(rows.request)];
    if (request == nullptr) continue;
    const auto index = static_cast<size_t>(rows.sequence);
    const SequenceState& sequence = request->state.sequences[index];
    if (sequence.finished) continue;
    ++running;
    if (request->state.paused || request->counts_tokens()) return std::nullopt;
    if (request->choices[index].generated + 1 >= request->spec->max_tokens) continue;
    rows.first = sequence.length();
    rows.copy_page = false;
    const auto held = static_cast<int32_t>(sequence.pages.size());
    rows.new_pages = std::max(0, SelfPagesFor(rows.first + 1) - held);
    if (rows.new_pages == 0 &&
        blocks_.self.IsShared(sequence.pages[static_cast<size_t>(rows.first / kKvBlockTokens)]))
      return std::nullopt;
    pages += rows.new_pages;
    plan.rows.push_back(rows);
  }
  size_t unfinished = 0;
  for (const ActiveRequest& request : requests_)
    unfinished += static_cast<size_t>(request.state.unfinished());
  // Somebody else is there, who wants to be planned for.
  if (plan.rows.empty() || unfinished != running || pages > blocks_.self.available())
    return std::nullopt;
  return plan;
}

std::unique_ptr<EngineCore::Flight> EngineCore::SubmitAhead(const Flight& flight) {
  const std::vector<ActiveRequest*> view = ViewOf(flight);
  std::optional<StepPlan> plan = PlanAhead(flight, view);
  if (!plan) return nullptr;
  auto next = std::make_unique<Flight>();
  next->ids = flight.ids;
  next->plan = *std::move(plan);
  next->ahead = 1;
  std::vector<const RequestState*> states(view.size(), nullptr);
  for (const PlannedRows& rows : next->plan.rows) {
    RequestState& state = view[static_cast<size_t>(rows.request)]->state;
    SequenceState& sequence = state.sequences[static_cast<size_t>(rows.sequence)];
    for (int32_t i = 0; i < rows.new_pages; ++i) sequence.pages.push_back(blocks_.self.Allocate());
    sequence.draft = {0};  // stands where the token will be
    states[static_cast<size_t>(rows.request)] = &state;
  }
  BuiltBatch built = BuildBatch(next->plan, states, blocks_, runner_->info().unseen_rows);
  next->step.batch = std::move(built.batch);
  next->draws = std::move(built.draws);
  for (size_t i = 0; i < next->plan.rows.size(); ++i) {
    const PlannedRows& rows = next->plan.rows[i];
    const auto draw = std::ranges::find_if(flight.draws, [&](const Draw& drawn) {
      return drawn.request == rows.request && drawn.sequence == rows.sequence;
    });
    TESSERA_CHECK(draw != flight.draws.end(), "a row ahead of nothing");
    next->step.drawn.push_back({.row = static_cast<int32_t>(i),
                                .draw = static_cast<int32_t>(draw - flight.draws.begin())});
    view[static_cast<size_t>(rows.request)]
        ->state.sequences[static_cast<size_t>(rows.sequence)]
        .draft.clear();
  }
  Submit(*next, view);
  ++stats_.steps_ahead;
  return next;
}

void EngineCore::DropRows(Flight& flight, const std::vector<ActiveRequest*>& view,
                          StepResult& result) {
  const auto alive = [&](int32_t request, int32_t sequence) {
    const ActiveRequest* of = view[static_cast<size_t>(request)];
    return of != nullptr && !of->ended &&
           !of->state.sequences[static_cast<size_t>(sequence)].finished;
  };
  std::erase_if(flight.plan.rows,
                [&](const PlannedRows& rows) { return !alive(rows.request, rows.sequence); });
  const bool sampled = result.samples.size() == flight.draws.size();
  size_t kept = 0;
  for (size_t i = 0; i < flight.draws.size(); ++i) {
    if (!alive(flight.draws[i].request, flight.draws[i].sequence)) continue;
    flight.draws[kept] = flight.draws[i];
    if (sampled) result.samples[kept] = result.samples[i];
    ++kept;
  }
  flight.draws.resize(kept);
  if (sampled) result.samples.resize(kept);
}

void EngineCore::Discard() {
  const std::unique_ptr<Flight> flight = std::exchange(flight_, nullptr);
  if (flight == nullptr || flight->failed) return;
  try {
    (void)runner_->Wait(flight->handle);
  } catch (const std::exception&) {  // nobody waits for what it might have said
  }
}

}  // namespace tessera
