#include "server/engine/batch.h"

#include "base/check.h"
#include "kernels/kv_view.h"

namespace tessera {
namespace {

// Where the tiles of a request's pictures stand in Batch::cross_tile_pages.
struct TileList {
  std::vector<int32_t> begin;  // [media + 1]: used tiles of picture i are [begin[i], begin[i + 1])
  int32_t end = 0;             // behind the padding tiles
};

// The used tiles of all pictures in order, so that an interval of pictures is an interval of tiles;
// then the padding tiles, which only rows that see no picture read.
TileList AppendTiles(const RequestState& request, const BlockManager& blocks,
                     UnseenRows unseen_rows, std::vector<int32_t>& pages) {
  TileList list;
  for (const MediaState& media : request.media) {
    list.begin.push_back(static_cast<int32_t>(pages.size()));
    const CrossPool::Entry* entry = blocks.cross.Find(media.digest);
    TESSERA_CHECK(
        entry != nullptr && static_cast<int>(entry->pages.size()) == media.plan.kept_tiles,
        "a planned picture has no cross pages");
    pages.insert(pages.end(), entry->pages.begin(), entry->pages.begin() + media.used_tiles);
  }
  list.begin.push_back(static_cast<int32_t>(pages.size()));
  if (unseen_rows == UnseenRows::kAttend) {
    for (const MediaState& media : request.media) {
      const CrossPool::Entry* entry = blocks.cross.Find(media.digest);
      pages.insert(pages.end(), entry->pages.begin() + media.used_tiles, entry->pages.end());
    }
  }
  list.end = static_cast<int32_t>(pages.size());
  return list;
}

}  // namespace

MediaInterval VisibleMedia(std::span<const MediaState> media, int32_t position) {
  int32_t end = 0;
  while (end < static_cast<int32_t>(media.size()) && media[end].mark <= position) ++end;
  int32_t begin = end;
  while (begin > 0 && (begin == end || media[begin - 1].mark + 1 == media[begin].mark)) --begin;
  return {begin, end};
}

BuiltBatch BuildBatch(const StepPlan& plan, std::span<const RequestState* const> requests,
                      const BlockManager& blocks, UnseenRows unseen_rows) {
  BuiltBatch out;
  Batch& batch = out.batch;
  int32_t tiles_of = -1;  // whose tiles `tiles` are
  TileList tiles;
  for (const PlannedRows& rows : plan.rows) {
    const RequestState& request = *requests[rows.request];
    const SequenceState& sequence = request.sequences[rows.sequence];
    const std::span<const MediaState> media = request.media;
    if (!media.empty() && tiles_of != rows.request) {
      tiles = AppendTiles(request, blocks, unseen_rows, batch.cross_tile_pages);
      tiles_of = rows.request;
    }
    const int32_t end = rows.first + rows.count;
    batch.sequences.push_back({.row_begin = static_cast<int32_t>(batch.tokens.size()),
                               .row_count = rows.count,
                               .first_position = rows.first,
                               .page_begin = static_cast<int32_t>(batch.self_pages.size())});
    batch.self_pages.insert(batch.self_pages.end(), sequence.pages.begin(),
                            sequence.pages.begin() + SelfPagesFor(end));
    for (int32_t position = rows.first; position < end; ++position) {
      const int32_t row = static_cast<int32_t>(batch.tokens.size());
      const int32_t guess = position - sequence.length();
      batch.tokens.push_back(guess < 0 ? sequence.tokens[position] : sequence.draft[guess]);
      batch.positions.push_back(position);
      batch.self_slots.push_back(int64_t{sequence.pages[position / kKvBlockTokens]} *
                                     kKvBlockTokens +
                                 position % kKvBlockTokens);
      if (media.empty()) continue;
      const MediaInterval seen = VisibleMedia(media, position);
      if (seen.begin < seen.end) {
        batch.cross_rows.push_back({.row = row,
                                    .tiles_begin = tiles.begin[seen.begin],
                                    .tiles_end = tiles.begin[seen.end],
                                    .mlp = true});
      } else if (unseen_rows == UnseenRows::kAttend) {
        batch.cross_rows.push_back(
            {.row = row, .tiles_begin = tiles.begin[0], .tiles_end = tiles.end, .mlp = false});
      }
    }
    if (!rows.sample) continue;
    const int32_t logits_row = static_cast<int32_t>(batch.logits_rows.size());
    for (int32_t row = rows.drafts; row >= 0; --row)
      batch.logits_rows.push_back(static_cast<int32_t>(batch.tokens.size()) - 1 - row);
    if (sequence.length() > request.prompt_length) {
      for (int32_t drafts = 0; drafts <= rows.drafts; ++drafts)
        out.draws.push_back({rows.request, rows.sequence, logits_row + drafts, drafts});
      continue;
    }
    for (size_t s = 0; s < request.sequences.size(); ++s) {
      if (!request.sequences[s].finished)
        out.draws.push_back({rows.request, static_cast<int32_t>(s), logits_row});
    }
  }
  return out;
}

}  // namespace tessera
