#include "server/engine/scheduler.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "kernels/kv_view.h"

namespace tessera {
namespace {

// The pools as they would be after what has been planned so far.
class PoolsOutlook {
 public:
  explicit PoolsOutlook(const BlockManager& blocks)
      : blocks_(blocks),
        self_available_(blocks.self.available()),
        cross_available_(blocks.cross.available()) {}

  int self_available() const { return self_available_; }
  int cross_available() const { return cross_available_; }

  void TakeSelf(int pages) { self_available_ -= pages; }
  void HoldSelf(int32_t page) {
    if (self_references(page) == 0) --self_available_;
    ++self_change_[page];
  }
  void DropSelf(int32_t page) {
    --self_change_[page];
    if (self_references(page) == 0) ++self_available_;
  }
  // A planned copy gives up the shared page, which becomes available only when the step retires:
  // the copy reads it.
  void UnshareSelf(int32_t page) { --self_change_[page]; }
  void ReshareSelf(int32_t page) { ++self_change_[page]; }
  bool IsShared(int32_t page) const {
    return blocks_.self.has_key(page) || self_references(page) > 1;
  }
  int self_references(int32_t page) const {
    const auto it = self_change_.find(page);
    return blocks_.self.references(page) + (it == self_change_.end() ? 0 : it->second);
  }

  // Tiles that holding this picture takes out of what is available.
  int CrossCost(const MediaState& media) const {
    const auto it = cross_change_.find(media.digest);
    const int change = it == cross_change_.end() ? 0 : it->second;
    const CrossPool::Entry* entry = blocks_.cross.Find(media.digest);
    if (entry == nullptr) return change > 0 ? 0 : media.plan.kept_tiles;
    if (entry->references + change > 0) return 0;
    return media.plan.kept_tiles;  // cached, or released within this plan
  }
  void HoldCross(const MediaState& media) {
    cross_available_ -= CrossCost(media);
    ++cross_change_[media.digest];
  }
  void DropCross(const MediaState& media) {
    --cross_change_[media.digest];
    if (CrossHeld(media.digest)) return;
    cross_available_ += media.plan.kept_tiles;
    const CrossPool::Entry* entry = blocks_.cross.Find(media.digest);
    if (entry != nullptr && (!entry->ready || entry->doomed)) lost_.insert(media.digest);
  }
  // Whether anybody still holds a picture that is being encoded.
  bool CrossHeld(const Digest& digest) const {
    const auto it = cross_change_.find(digest);
    const CrossPool::Entry* entry = blocks_.cross.Find(digest);
    return (entry == nullptr ? 0 : entry->references) +
               (it == cross_change_.end() ? 0 : it->second) >
           0;
  }
  // Whether the pool has it, or would still have it: half-encoded pictures that nobody holds any
  // more are gone.
  bool CrossKnown(const Digest& digest) const {
    return blocks_.cross.Find(digest) != nullptr && !lost_.contains(digest);
  }
  bool CrossReady(const Digest& digest) const {
    return CrossKnown(digest) && blocks_.cross.Find(digest)->ready;
  }

 private:
  const BlockManager& blocks_;
  int self_available_;
  int cross_available_;
  std::unordered_map<int32_t, int> self_change_;
  std::unordered_map<Digest, int> cross_change_;
  std::unordered_set<Digest> lost_;  // entries that end with this plan's preemptions
};

// Prompts go on, however small the budget: beside decode rows, so few are almost free.
constexpr double kLeastPrefillRows = 4;

class Planner {
 public:
  Planner(const SchedulerInput& input, const SchedulerLimits& limits)
      : input_(input),
        limits_(limits),
        pools_(*input.blocks),
        rows_left_(limits.max_rows),
        logits_left_(limits.max_logits_rows),
        state_(input.requests.size()) {
    for (size_t i = 0; i < input.requests.size(); ++i) {
      const RequestState& request = *input.requests[i];
      state_[i].admitted = request.admitted;
      state_[i].eligible = !request.paused && request.deadline > input.now &&
                           (!input.only || *input.only == request.id);
      if (request.admitted && state_[i].eligible && oldest_ < 0) oldest_ = static_cast<int>(i);
    }
  }

  StepPlan Plan() {
    PlanDecode();
    PlanDrafts();
    // Whoever is preempted now comes first again when pages are free: admitting others at once
    // would thrash.
    if (!preempted_active_) PlanAdmissions();
    PlanEncode();
    if (!input_.only || plan_.encode.empty()) PlanPrefill();
    std::stable_sort(
        plan_.rows.begin(), plan_.rows.end(),
        [](const PlannedRows& a, const PlannedRows& b) { return a.request < b.request; });
    return std::move(plan_);
  }

 private:
  struct Outlook {
    bool admitted = false;
    bool eligible = false;
    bool preempted = false;  // by this plan
    bool fresh = false;      // admitted by this plan
    int hit_pages = 0;
  };

  static bool IsDecode(const RequestState& request, const SequenceState& sequence) {
    return !sequence.finished && sequence.length() > request.prompt_length &&
           sequence.pending() == 1 && !sequence.pages.empty();
  }

  // The next victim, -1 if there is none. Active requests only if they are younger than `index`.
  int Victim(int index) const {
    for (bool paused : {true, false}) {
      for (int i = static_cast<int>(input_.requests.size()) - 1; i >= 0; --i) {
        const Outlook& outlook = state_[i];
        if (!outlook.admitted || outlook.preempted || outlook.fresh || i == index || i == oldest_)
          continue;
        if (input_.requests[i]->paused != paused) continue;
        if (!paused && i < index) continue;
        return i;
      }
    }
    return -1;
  }

  void Preempt(int index) {
    const RequestState& request = *input_.requests[index];
    state_[index].admitted = false;
    state_[index].preempted = true;
    if (!request.paused) preempted_active_ = true;
    plan_.preemptions.push_back(index);
    // Rows already planned for it are taken back, with their pages.
    std::erase_if(plan_.rows, [&](const PlannedRows& rows) {
      if (rows.request != index) return false;
      rows_left_ += rows.count;
      logits_left_ += rows.sample ? 1 + rows.drafts : 0;
      pools_.TakeSelf(-(rows.new_pages + (rows.copy_page ? 1 : 0)));
      if (rows.copy_page) {
        pools_.ReshareSelf(request.sequences[rows.sequence].pages[rows.first / kKvBlockTokens]);
      }
      return true;
    });
    for (const SequenceState& sequence : request.sequences) {
      for (int32_t page : sequence.pages) pools_.DropSelf(page);
    }
    for (const MediaState& media : request.media) {
      if (media.first) pools_.DropCross(media);
    }
  }

  // Plans `count` rows of a sequence if the pages can be had; may preempt others, or the request
  // itself where `may_yield`. Returns whether they were planned.
  bool PlanRows(int index, int sequence_index, int32_t count, bool may_yield) {
    const RequestState& request = *input_.requests[index];
    const SequenceState& sequence = request.sequences[sequence_index];
    PlannedRows rows{
        .request = index, .sequence = sequence_index, .first = sequence.computed, .count = count};
    if (state_[index].fresh) {
      rows.first = state_[index].hit_pages * kKvBlockTokens;
    } else {
      const int32_t end = SelfPagesFor(rows.first + count);
      rows.new_pages = std::max<int32_t>(0, end - static_cast<int32_t>(sequence.pages.size()));
    }
    rows.sample = rows.first + count == sequence.length();
    const size_t page = rows.first / kKvBlockTokens;
    for (;;) {
      rows.copy_page = page < sequence.pages.size() && pools_.IsShared(sequence.pages[page]);
      if (pools_.self_available() >= rows.new_pages + (rows.copy_page ? 1 : 0)) break;
      const int victim = Victim(index);
      if (victim >= 0) {
        Preempt(victim);
      } else {
        if (may_yield && index != oldest_) Preempt(index);
        return false;
      }
    }
    pools_.TakeSelf(rows.new_pages + (rows.copy_page ? 1 : 0));
    if (rows.copy_page) pools_.UnshareSelf(sequence.pages[page]);
    rows_left_ -= count;
    logits_left_ -= rows.sample ? 1 : 0;
    plan_.rows.push_back(rows);
    return true;
  }

  void PlanDecode() {
    int decoding = 0;
    for (size_t i = 0; i < input_.requests.size(); ++i) {
      const RequestState& request = *input_.requests[i];
      for (size_t s = 0; s < request.sequences.size(); ++s) {
        if (!state_[i].admitted || !state_[i].eligible || !IsDecode(request, request.sequences[s]))
          continue;
        if (decoding >= limits_.max_running || rows_left_ < 1 || logits_left_ < 1) return;
        if (!PlanRows(static_cast<int>(i), static_cast<int>(s), 1, true)) continue;
        plan_.rows.back().decode = true;
        ++decoding;
      }
    }
  }

  // Guesses take only what is left, and leave a page to everybody who runs.
  void PlanDrafts() {
    if (!plan_.preemptions.empty()) return;
    const auto reserve = static_cast<int32_t>(plan_.rows.size());
    for (PlannedRows& rows : plan_.rows) {
      const SequenceState& sequence = input_.requests[rows.request]->sequences[rows.sequence];
      int32_t drafts =
          std::min({static_cast<int32_t>(sequence.draft.size()), rows_left_, logits_left_});
      int32_t pages = 0;
      for (; drafts > 0; --drafts) {
        const auto held = static_cast<int32_t>(sequence.pages.size()) + rows.new_pages;
        pages = std::max(0, SelfPagesFor(rows.first + rows.count + drafts) - held);
        if (pages == 0 || pools_.self_available() >= pages + reserve) break;
      }
      if (drafts <= 0) continue;
      pools_.TakeSelf(pages);
      rows.new_pages += pages;
      rows.count += drafts;
      rows.drafts = drafts;
      rows_left_ -= drafts;
      logits_left_ -= drafts;
    }
  }

  void PlanAdmissions() {
    int running = 0;
    for (size_t i = 0; i < input_.requests.size(); ++i) {
      if (state_[i].admitted && state_[i].eligible) running += input_.requests[i]->unfinished();
    }
    for (size_t i = 0; i < input_.requests.size(); ++i) {
      if (state_[i].admitted || state_[i].preempted || !state_[i].eligible) continue;
      const int choices = input_.requests[i]->unfinished();
      if (running + choices > limits_.max_running) return;
      if (!Admit(static_cast<int>(i), running)) return;
      running += choices;
    }
  }

  bool Admit(int index, int running) {
    const RequestState& request = *input_.requests[index];
    const SequenceState& leader = request.sequences[request.leader()];
    PlannedAdmission admission{.request = index};
    for (;;) {
      // The last token is always computed: its logits are wanted.
      const size_t findable = limits_.prefix_cache
                                  ? std::min<size_t>(leader.prefix_keys.keys().size(),
                                                     (leader.length() - 1) / kKvBlockTokens)
                                  : 0;
      const std::vector<int32_t> hits =
          input_.blocks->self.Match(std::span(leader.prefix_keys.keys()).first(findable));
      int self_cost = SelfPagesFor(leader.length()) - static_cast<int>(hits.size());
      admission.hit_pages = static_cast<int32_t>(hits.size());
      admission.new_pages = self_cost;
      for (int32_t page : hits) self_cost += pools_.self_references(page) == 0;
      for (const SequenceState& other : request.sequences) {
        if (&other == &leader || other.finished) continue;
        self_cost += SelfPagesFor(other.length()) - request.prompt_length / kKvBlockTokens;
      }
      int cross_cost = 0;
      for (const MediaState& media : request.media)
        cross_cost += media.first ? pools_.CrossCost(media) : 0;
      // A page for everybody who runs already, so that admitting does not lead to preempting at
      // once.
      if (pools_.self_available() >= self_cost + running &&
          pools_.cross_available() >= cross_cost) {
        for (int32_t page : hits) pools_.HoldSelf(page);
        break;
      }
      const int victim = AdmissionVictim();
      if (victim < 0) return false;
      Preempt(victim);
    }
    pools_.TakeSelf(admission.new_pages);
    for (const MediaState& media : request.media) {
      if (!media.first) continue;
      if (!pools_.CrossKnown(media.digest) && pools_.CrossCost(media) > 0) {
        fresh_jobs_.push_back({.digest = media.digest, .owner = request.id, .plan = media.plan});
      }
      pools_.HoldCross(media);
    }
    Outlook& outlook = state_[index];
    outlook.admitted = true;
    outlook.fresh = true;
    outlook.hit_pages = admission.hit_pages;
    if (oldest_ < 0) oldest_ = index;
    plan_.admissions.push_back(admission);
    return true;
  }

  // Readers that are behind give way to those who wait; nobody else does, except to an isolated
  // request.
  int AdmissionVictim() const {
    for (int i = static_cast<int>(input_.requests.size()) - 1; i >= 0; --i) {
      if (state_[i].admitted && (input_.requests[i]->paused || input_.only)) return i;
    }
    return -1;
  }

  bool MediaReady(const RequestState& request) const {
    return std::all_of(request.media.begin(), request.media.end(), [&](const MediaState& media) {
      return pools_.CrossReady(media.digest) ||
             std::find(finished_.begin(), finished_.end(), media.digest) != finished_.end();
    });
  }

  void PlanEncode() {
    std::vector<const EncodeJobState*> jobs;
    for (const EncodeJobState* job : input_.jobs) {
      if (pools_.CrossKnown(job->digest)) jobs.push_back(job);
    }
    for (const EncodeJobState& job : fresh_jobs_) jobs.push_back(&job);
    if (jobs.empty()) return;
    if (input_.only) {
      // Only what the isolated request needs; its own pictures are at the end of the queue or
      // nowhere.
      std::erase_if(jobs, [&](const EncodeJobState* job) { return !NeededByOnly(job->digest); });
      if (jobs.empty()) return;
    }
    bool others_run = !plan_.rows.empty();
    for (size_t i = 0; i < input_.requests.size() && !others_run; ++i) {
      others_run = state_[i].admitted && state_[i].eligible && MediaReady(*input_.requests[i]) &&
                   input_.requests[i]->leader() >= 0;
    }
    double budget = limits_.encode_budget_flops;
    if (StreamsRun() && limits_.joined_budget_flops > 0)
      budget = std::min(budget, limits_.joined_budget_flops);
    const uint64_t owner = jobs.front()->owner;
    for (const EncodeJobState* job : jobs) {
      if (!others_run && job->owner != owner) break;
      const int32_t left = job->plan.units - job->units_done;
      int32_t units = left;
      if (others_run && job->plan.flops_per_unit > 0) {
        const double affordable = budget / job->plan.flops_per_unit;
        if (affordable < left) units = static_cast<int32_t>(std::max(0.0, affordable));
        if (plan_.encode.empty())
          units = std::max(units, 1);  // it goes on, however small the budget
      }
      if (units == 0) break;
      plan_.encode.push_back({job->digest, job->units_done, job->units_done + units});
      encode_flops_ += units * job->plan.flops_per_unit;
      budget -= units * job->plan.flops_per_unit;
      if (units < left) break;
      finished_.push_back(job->digest);
    }
    plan_.joined_flops = encode_flops_;
    if (!others_run) encode_flops_ = 0;  // nobody to be kept waiting
  }

  bool NeededByOnly(const Digest& digest) const {
    for (const RequestState* request : input_.requests) {
      if (request->id != *input_.only) continue;
      for (const MediaState& media : request->media) {
        if (media.digest == digest) return true;
      }
    }
    return false;
  }

  // Decode rows are planned before anything that may join them.
  bool StreamsRun() const { return !plan_.rows.empty() && plan_.rows.front().decode; }

  void PlanPrefill() {
    int32_t budget = rows_left_;
    if (encode_flops_ > 0 && limits_.flops_per_token > 0) {
      const double taken = encode_flops_ / limits_.flops_per_token;
      budget = static_cast<int32_t>(std::max<double>(limits_.max_rows / 4, budget - taken));
      budget = std::min(budget, rows_left_);
    }
    if (StreamsRun() && limits_.joined_budget_flops > 0 && limits_.flops_per_token > 0) {
      const double left = (limits_.joined_budget_flops - encode_flops_) / limits_.flops_per_token;
      const double most = std::max<double>(kLeastPrefillRows, left);
      if (most < budget) budget = static_cast<int32_t>(most);
    }
    for (size_t i = 0; i < input_.requests.size(); ++i) {
      const RequestState& request = *input_.requests[i];
      if (!state_[i].eligible || !MediaReady(request)) continue;
      const int leader = request.leader();
      for (size_t s = 0; s < request.sequences.size(); ++s) {
        if (budget <= 0 || !state_[i].admitted) break;
        const SequenceState& sequence = request.sequences[s];
        if (sequence.finished) continue;
        const bool fresh = state_[i].fresh;
        if (fresh ? static_cast<int>(s) != leader : sequence.pages.empty())
          continue;  // not forked yet
        if (!fresh && IsDecode(request, sequence)) continue;
        const int32_t done = fresh ? state_[i].hit_pages * kKvBlockTokens : sequence.computed;
        int32_t count = std::min(budget, sequence.length() - done);
        if (count <= 0) continue;
        if (done + count == sequence.length() && logits_left_ < 1) continue;
        if (!PlanRows(static_cast<int>(i), static_cast<int>(s), count, false)) continue;
        budget -= count;
        plan_.joined_flops += count * limits_.flops_per_token;
      }
    }
  }

  const SchedulerInput& input_;
  const SchedulerLimits& limits_;
  PoolsOutlook pools_;
  int32_t rows_left_;
  int32_t logits_left_;
  std::vector<Outlook> state_;
  int oldest_ = -1;
  bool preempted_active_ = false;
  std::vector<EncodeJobState> fresh_jobs_;
  std::vector<Digest> finished_;  // pictures that this step completes
  double encode_flops_ = 0;
  StepPlan plan_;
};

}  // namespace

StepPlan PlanStep(const SchedulerInput& input, const SchedulerLimits& limits) {
  return Planner(input, limits).Plan();
}

}  // namespace tessera
