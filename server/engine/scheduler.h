// What the next step does: a pure function of (requests, pages, limits) to a StepPlan. Host
// integers only.
//
// Policy, in this order:
//  1. Every choice that is generating gets its row (oldest request first). Pages that are missing
//  are taken by preemption:
//     first requests whose reader is behind, then the youngest. The oldest running request is never
//     preempted.
//  2. Waiting requests are admitted strictly in order of arrival, each with all its cross pages and
//  all self pages of what
//     it has so far at once, or not at all: two half-served requests never wait for each other.
//     Nobody overtakes.
//  3. Pictures are encoded one after another. While others have rows to run, a step does at most
//     encode_budget_flops of it (and at least one unit); otherwise all pictures of one request.
//  4. Prompts are computed in chunks, oldest first, with the rows that are left; encoding counts
//  against them.
//  5. While streams run, pictures and prompts together stay within joined_budget_flops, so that the
//  streams' steps do not grow longer than is agreed (server/engine/step_pacer.h).
//  6. Guesses of running choices get rows, logits and pages that nobody else needs at once; nobody
//  is preempted for a guess.
// Requests that are paused or past their deadline get nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "server/engine/block_manager.h"
#include "server/engine/sequence.h"

namespace tessera {

struct SchedulerLimits {
  int32_t max_rows = 0;         // of a step
  int32_t max_logits_rows = 0;  // of a step
  int32_t max_running = 0;      // choices that generate at the same time
  double encode_budget_flops = 0;
  double joined_budget_flops = 0;  // 0: no limit
  double flops_per_token = 0;
  bool prefix_cache = true;
};

// A picture that is reserved and not ready, in the order in which they are encoded.
struct EncodeJobState {
  Digest digest;
  uint64_t owner = 0;  // the request that reserved it
  EncodePlan plan;
  int32_t units_done = 0;
};

struct SchedulerInput {
  std::span<const RequestState* const> requests;  // not finished, ascending by id
  std::span<const EncodeJobState* const> jobs;
  const BlockManager* blocks = nullptr;
  TimePoint now;
  std::optional<uint64_t> only;  // after a fault: run nobody else, and encoding apart from rows
};

struct PlannedAdmission {
  int32_t request = 0;    // index in SchedulerInput::requests
  int32_t hit_pages = 0;  // pages found in the prefix cache
  int32_t new_pages = 0;
};

struct PlannedSlice {
  Digest digest;
  int32_t unit_begin = 0;
  int32_t unit_end = 0;
};

struct PlannedRows {
  int32_t request = 0;
  int32_t sequence = 0;
  int32_t first = 0;  // position of the first row
  int32_t count = 0;
  int32_t new_pages = 0;
  bool copy_page =
      false;  // the page of `first` is shared: it is copied, and its copy written (one page more)
  bool sample = false;  // the last row's logits are drawn from
  bool decode = false;  // the next row of a running choice
  int32_t drafts = 0;   // the last rows are guesses; each is drawn from, and the row before them
};

// To be applied in the order of the members.
struct StepPlan {
  std::vector<int32_t> preemptions;  // indices of requests
  std::vector<PlannedAdmission> admissions;
  std::vector<PlannedSlice> encode;
  std::vector<PlannedRows> rows;  // rows of a request are adjacent
  double joined_flops = 0;        // estimated, of pictures and prompts

  bool empty() const { return encode.empty() && rows.empty(); }
};

StepPlan PlanStep(const SchedulerInput& input, const SchedulerLimits& limits);

}  // namespace tessera
