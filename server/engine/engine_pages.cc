// Applies a plan to the pages: the only place where sequences gain or lose them.
#include <algorithm>

#include "base/check.h"
#include "server/engine/engine_core.h"

namespace tessera {

void EngineCore::Apply(const StepPlan& plan, const std::vector<ActiveRequest*>& view,
                       std::vector<PageCopy>& copies) {
  for (int32_t index : plan.preemptions) Preempt(*view[index]);
  DropIdleJobs();

  // What is found in the caches is taken hold of before anything is allocated, which may evict.
  std::vector<std::vector<const MediaState*>> missing(plan.admissions.size());
  for (size_t i = 0; i < plan.admissions.size(); ++i) {
    ActiveRequest& request = *view[plan.admissions[i].request];
    SequenceState& leader = request.state.sequences[request.state.leader()];
    const std::span<const Digest> keys = leader.prefix_keys.keys();
    leader.pages = blocks_.self.Match(keys.first(plan.admissions[i].hit_pages));
    TESSERA_CHECK(static_cast<int>(leader.pages.size()) == plan.admissions[i].hit_pages,
                  "prefix hits changed");
    blocks_.self.Acquire(leader.pages);
    for (const MediaState& media : request.state.media) {
      if (!media.first) continue;
      if (blocks_.cross.Find(media.digest) != nullptr) {
        blocks_.cross.Acquire(media.digest);
        ++stats_.image_cache_hits;
      } else {
        missing[i].push_back(&media);
      }
    }
  }
  for (size_t i = 0; i < plan.admissions.size(); ++i) {
    ActiveRequest& request = *view[plan.admissions[i].request];
    for (const MediaState* media : missing[i]) {
      if (blocks_.cross.Find(media->digest) !=
          nullptr) {  // reserved by an earlier admission of this plan
        blocks_.cross.Acquire(media->digest);
        ++stats_.image_cache_hits;
        continue;
      }
      blocks_.cross.Reserve(media->digest, media->plan.kept_tiles);
      const size_t index = media - request.state.media.data();
      jobs_.push_back({{.digest = media->digest, .owner = request.state.id, .plan = media->plan},
                       request.spec->media[index].pixels});
    }
    Admit(plan.admissions[i], request);
  }

  for (const PlannedRows& rows : plan.rows) {
    SequenceState& sequence = view[rows.request]->state.sequences[rows.sequence];
    TESSERA_CHECK(sequence.computed == rows.first,
                  "rows from {} of a sequence that is computed to {}", rows.first,
                  sequence.computed);
    if (rows.copy_page) {
      int32_t& page = sequence.pages[rows.first / kKvBlockTokens];
      const int32_t copy = blocks_.self.Allocate();
      copies.push_back({.from = page, .to = copy});
      copied_.push_back(page);
      page = copy;
    }
    for (int32_t i = 0; i < rows.new_pages; ++i) sequence.pages.push_back(blocks_.self.Allocate());
  }
}

void EngineCore::Admit(const PlannedAdmission& admission, ActiveRequest& request) {
  RequestState& state = request.state;
  SequenceState& leader = state.sequences[state.leader()];
  for (int32_t i = 0; i < admission.new_pages; ++i) leader.pages.push_back(blocks_.self.Allocate());
  leader.computed = admission.hit_pages * kKvBlockTokens;
  leader.registered = admission.hit_pages;
  state.admitted = true;
  if (!request.was_admitted) {
    request.was_admitted = true;
    request.usage.cached_tokens = leader.computed;
    stats_.cached_tokens += leader.computed;
    request.timings.queue = std::chrono::duration<double>(clock_.Now() - request.submitted).count();
  }
  Fork(state);
}

void EngineCore::Preempt(ActiveRequest& request) {
  for (SequenceState& sequence : request.state.sequences) ReleasePages(sequence);
  ReleasePictures(request.state);
  ++request.usage.preemptions;
  ++stats_.preemptions;
}

void EngineCore::ReleasePages(SequenceState& sequence) {
  blocks_.self.Release(sequence.pages);
  sequence.pages.clear();
  sequence.computed = 0;
  sequence.registered = 0;
}

void EngineCore::ReleasePictures(RequestState& state) {
  if (!state.admitted) return;
  state.admitted = false;
  for (const MediaState& media : state.media) {
    if (media.first) blocks_.cross.Release(media.digest);
  }
}

void EngineCore::DropIdleJobs() {
  jobs_.remove_if([&](const EncodeJob& job) {
    const CrossPool::Entry* entry = blocks_.cross.Find(job.state.digest);
    return entry == nullptr || entry->ready;
  });
}

void EngineCore::ReleaseCopied() {
  blocks_.self.Release(copied_);
  copied_.clear();
}

// The other choices take over the prompt's pages once all of the prompt is computed. The last page
// may be partly filled, or hold the leader's own tokens behind the prompt: whoever writes into it
// first copies it.
void EngineCore::Fork(RequestState& state) {
  const int leader_index = state.leader();
  if (leader_index < 0 || state.sequences.size() == 1) return;
  const SequenceState& leader = state.sequences[leader_index];
  if (leader.computed < state.prompt_length) return;
  const int32_t shared = SelfPagesFor(state.prompt_length);
  for (SequenceState& other : state.sequences) {
    if (&other == &leader || other.finished || !other.pages.empty()) continue;
    other.pages.assign(leader.pages.begin(), leader.pages.begin() + shared);
    blocks_.self.Acquire(other.pages);
    other.computed = state.prompt_length;
    other.registered = state.prompt_length / kKvBlockTokens;
  }
}

void EngineCore::RegisterPages(SequenceState& sequence) {
  if (!options_.prefix_cache) return;
  const int32_t full = sequence.computed / kKvBlockTokens;
  const std::vector<Digest>& keys = sequence.prefix_keys.keys();
  for (; sequence.registered < full; ++sequence.registered) {
    blocks_.self.Register(sequence.pages[sequence.registered], keys[sequence.registered]);
  }
}

// After a fault in the middle of a change: nothing that the tables say is relied upon.
void EngineCore::ResetPools() {
  blocks_ = BlockManager(runner_->self_pages(), runner_->cross_pages());
  jobs_.clear();
  copied_.clear();
  for (ActiveRequest& request : requests_) {
    request.state.admitted = false;
    for (SequenceState& sequence : request.state.sequences) {
      sequence.pages.clear();
      sequence.computed = 0;
      sequence.registered = 0;
    }
  }
}

}  // namespace tessera
