// What may enter, what can be counted, and what must always hold.
#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/check.h"
#include "server/engine/engine_core.h"

namespace tessera {

Result<void> CheckRequest(const PreparedRequest& request, const ModelRunner& runner,
                          int max_running) {
  const ModelInfo& info = runner.info();
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt < 1)
    return Invalid("the prompt is empty",
                   {.field = "messages", .limit = "at least 1 token", .value = "0"});
  if (request.max_tokens < 1) {
    return Invalid("value out of range", {.field = "max_tokens",
                                          .limit = "at least 1",
                                          .value = std::to_string(request.max_tokens)});
  }
  if (prompt + request.max_tokens > info.max_context) {
    return Invalid("prompt and max_tokens exceed the context",
                   {.field = "max_tokens",
                    .limit = std::to_string(info.max_context) + " tokens",
                    .value = std::to_string(prompt) + " + " + std::to_string(request.max_tokens)});
  }
  for (int32_t id : request.prompt) {
    if (id >= 0 && id < info.embedding_rows) continue;
    return Invalid("token id out of range",
                   {.field = "prompt",
                    .limit = "0 to " + std::to_string(info.embedding_rows - 1),
                    .value = std::to_string(id)});
  }
  if (request.n < 1 || request.n > max_running) {
    return Invalid("value out of range", {.field = "n",
                                          .limit = "1 to " + std::to_string(max_running),
                                          .value = std::to_string(request.n)});
  }
  const int64_t self_pages = WorstCaseSelfPages(prompt, request.max_tokens, request.n);
  if (self_pages > runner.self_pages()) {
    return Invalid("the request can never fit in the K/V cache",
                   {.field = "max_tokens",
                    .limit = std::to_string(int64_t{runner.self_pages()} * kKvBlockTokens) +
                             " tokens in the cache",
                    .value = std::to_string(self_pages * kKvBlockTokens)});
  }
  if (request.media.empty()) return {};
  if (!info.has_vision()) {
    return Invalid(
        "this model takes no pictures",
        {.field = "images", .limit = "0", .value = std::to_string(request.media.size())});
  }
  int64_t tiles = 0;
  int32_t last_mark = -1;
  std::unordered_set<Digest> seen;
  for (const Media& media : request.media) {
    TESSERA_CHECK(media.pixels != nullptr && media.mark > last_mark && media.mark < prompt,
                  "picture marks: {} after {} of {}", media.mark, last_mark, prompt);
    last_mark = media.mark;
    if (seen.insert(media.digest).second) tiles += runner.PlanEncode(*media.pixels).kept_tiles;
  }
  if (tiles > runner.cross_pages()) {
    return Invalid("the pictures can never fit in the cross-attention K/V cache",
                   {.field = "images",
                    .limit = std::to_string(runner.cross_pages()) + " tiles in the cache",
                    .value = std::to_string(tiles)});
  }
  return {};
}

EngineStats EngineCore::stats() const {
  EngineStats stats = stats_;
  for (const ActiveRequest& request : requests_)
    ++(request.state.admitted ? stats.running : stats.waiting);
  stats.self_pages_total = blocks_.self.total();
  stats.self_pages_free = blocks_.self.available();
  stats.self_pages_cached = blocks_.self.cached();
  stats.cross_pages_total = blocks_.cross.total();
  stats.cross_pages_free = blocks_.cross.available();
  stats.cross_pages_cached = blocks_.cross.cached();
  return stats;
}

void EngineCore::CheckInvariants() const {
  blocks_.CheckInvariants();
  std::unordered_map<int32_t, int> self_references;
  std::unordered_map<Digest, int> cross_references;
  uint64_t last = 0;
  for (const ActiveRequest& request : requests_) {
    const RequestState& state = request.state;
    TESSERA_CHECK(state.id > last && !request.ended && state.leader() >= 0, "request {} after {}",
                  state.id, last);
    last = state.id;
    for (const MediaState& media : state.media) {
      if (media.first && state.admitted) ++cross_references[media.digest];
    }
    for (const SequenceState& sequence : state.sequences) {
      TESSERA_CHECK(state.admitted || sequence.pages.empty(), "request {} waits and holds pages",
                    state.id);
      TESSERA_CHECK(!sequence.finished || sequence.pages.empty(), "a finished choice holds pages");
      TESSERA_CHECK(sequence.computed < sequence.length(), "computed {} of {}", sequence.computed,
                    sequence.length());
      TESSERA_CHECK(SelfPagesFor(sequence.computed) <= static_cast<int>(sequence.pages.size()),
                    "pages of {} tokens", sequence.computed);
      for (int32_t page : sequence.pages) ++self_references[page];
    }
  }
  for (int32_t page : copied_) ++self_references[page];  // read by the step in flight
  int held = 0;
  for (const auto& [page, count] : self_references) {
    TESSERA_CHECK(blocks_.self.references(page) == count, "self page {}: {} references, {} holders",
                  page, blocks_.self.references(page), count);
    ++held;
  }
  TESSERA_CHECK(held + blocks_.self.available() == blocks_.self.total(),
                "{} self pages held, {} available of {}", held, blocks_.self.available(),
                blocks_.self.total());
  int tiles = 0;
  for (const auto& [digest, count] : cross_references) {
    const CrossPool::Entry* entry = blocks_.cross.Find(digest);
    TESSERA_CHECK(entry != nullptr && entry->references == count, "a picture has {} holders",
                  count);
    tiles += static_cast<int>(entry->pages.size());
  }
  TESSERA_CHECK(tiles + blocks_.cross.available() == blocks_.cross.total(),
                "{} cross pages held, {} available of {}", tiles, blocks_.cross.available(),
                blocks_.cross.total());
  for (const EncodeJob& job : jobs_) {
    const CrossPool::Entry* entry = blocks_.cross.Find(job.state.digest);
    TESSERA_CHECK(entry != nullptr && !entry->ready && entry->references > 0,
                  "an encoding job without a holder");
  }
}

}  // namespace tessera
