// Turns a StepPlan that has been applied to the pages into the model's inputs.
//
// Which tiles a row sees (docs/fidelity.md): a picture is seen from its mark up to, not including,
// the next mark; the pictures of adjacent marks are seen together; the last ones to the end, by
// generated tokens too.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "server/engine/runner.h"
#include "server/engine/scheduler.h"
#include "server/engine/sequence.h"

namespace tessera {

// A token to be drawn from a row of Batch::logits_rows.
struct Draw {
  int32_t request = 0;  // index, as in PlannedRows
  int32_t sequence = 0;
  int32_t logits_row = 0;
  int32_t drafts = 0;  // guesses that stand before it
};

struct BuiltBatch {
  Batch batch;
  std::vector<Draw> draws;
};

// The pictures [begin, end) that position `position` sees; empty if it sees none.
struct MediaInterval {
  int32_t begin = 0;
  int32_t end = 0;
};
MediaInterval VisibleMedia(std::span<const MediaState> media, int32_t position);

// `requests` and `blocks` as they are after the plan was applied; all pictures of planned rows have
// their cross pages. The first draw of a prompt is made for every choice from the same row. Rows of
// guesses are drawn from one by one: the draws of a choice are adjacent, ascending by `drafts`.
BuiltBatch BuildBatch(const StepPlan& plan, std::span<const RequestState* const> requests,
                      const BlockManager& blocks, UnseenRows unseen_rows);

}  // namespace tessera
