#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <queue>

#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr size_t kShortPiece = 32;
constexpr size_t kSmallChars = 2048;

uint32_t HashOf(std::string_view token) {
  return static_cast<uint32_t>(std::hash<std::string_view>{}(token));
}

}  // namespace

void TokenTable::Grow(size_t slots) {
  std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots));
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    size_t i = slot.hash & (slots - 1);
    while (slots_[i].id >= 0) i = (i + 1) & (slots - 1);
    slots_[i] = slot;
  }
}

void TokenTable::Reserve(size_t tokens) {
  const size_t slots = std::bit_ceil(std::max<size_t>(tokens * 2, 16));
  if (slots > slots_.size()) Grow(slots);
}

bool TokenTable::Insert(std::string_view token, int32_t id) {
  if (Find(token)) return false;
  Reserve(size_ + 1);
  const uint32_t hash = HashOf(token);
  size_t i = hash & (slots_.size() - 1);
  while (slots_[i].id >= 0) i = (i + 1) & (slots_.size() - 1);
  slots_[i] = {hash, static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(token.size()), id};
  arena_ += token;
  ++size_;
  return true;
}

std::optional<int32_t> TokenTable::Find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const uint32_t hash = HashOf(token);
  for (size_t i = hash & (slots_.size() - 1); slots_[i].id >= 0;
       i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.hash == hash && std::string_view(arena_).substr(slot.offset, slot.length) == token)
      return slot.id;
  }
  return std::nullopt;
}

Result<Bpe> Bpe::Build(std::vector<std::pair<std::string, int32_t>> vocab,
                       std::vector<std::pair<std::string, std::string>> merges,
                       BpeOptions options) {
  Bpe bpe;
  int32_t highest = -1;
  size_t bytes = 0;
  for (const auto& [token, id] : vocab) {
    highest = std::max(highest, id);
    bytes += token.size();
  }
  const size_t limit = std::max<size_t>(size_t{1} << 20, vocab.size() * 8);
  if (highest >= 0 && static_cast<size_t>(highest) >= limit)
    return Invalid("token id too high for the number of tokens",
                   {.field = "model.vocab",
                    .limit = fmt::format("below {}", limit),
                    .value = std::to_string(highest)});
  if (bytes > UINT32_MAX)
    return Invalid("vocabulary too big",
                   {.field = "model.vocab", .limit = "4 GiB of text", .value = "more"});
  bpe.token_count_ = vocab.size();
  bpe.tokens_.resize(highest + 1);
  bpe.ids_.Reserve(vocab.size());
  for (auto& [token, id] : vocab) {
    if (token.empty()) continue;  // the library has it, but no text can give it
    if (!bpe.ids_.Insert(token, id))
      return Invalid("duplicate token",
                     {.field = "model.vocab", .limit = "each token once", .value = token});
    if (!bpe.tokens_[id].empty())
      return Invalid("duplicate token id",
                     {.field = "model.vocab." + token,
                      .limit = "each id once",
                      .value = fmt::format("{}, also of {}", id, bpe.tokens_[id])});
    bpe.tokens_[id] = std::move(token);
  }

  if (merges.size() >= kNoRank)
    return Invalid("too many merges", {.field = "model.merges", .limit = "2^32", .value = "more"});
  bpe.merges_.resize(std::bit_ceil(std::max<size_t>(merges.size() * 2, 16)));
  const size_t mask = bpe.merges_.size() - 1, prefix = options.continuing_subword_prefix.size();
  std::string merged;
  std::vector<std::pair<int32_t, int32_t>> merge_ids;
  for (uint32_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const auto unknown = [&](std::string_view token) {
      return Invalid("merge of a token that is not in the vocabulary",
                     {.field = fmt::format("model.merges[{}]", rank),
                      .limit = "tokens of model.vocab",
                      .value = std::string(token)});
    };
    const auto left_id = bpe.ids_.Find(left), right_id = bpe.ids_.Find(right);
    if (!left_id) return unknown(left);
    if (!right_id) return unknown(right);
    merged.assign(left);
    merged.append(right, std::min(prefix, right.size()));
    const auto id = bpe.ids_.Find(merged);
    if (!id) return unknown(merged);
    const uint64_t pair = PairOf(*left_id, *right_id);
    size_t slot = HashPair(pair) & mask;
    while (bpe.merges_[slot].pair != UINT64_MAX && bpe.merges_[slot].pair != pair)
      slot = (slot + 1) & mask;
    bpe.merges_[slot] = {pair, {rank, *id}};  // of equal pairs the last counts, as in the library
    bpe.id_of_rank_.push_back(*id);
    merge_ids.emplace_back(*left_id, *right_id);
  }

  bpe.options_ = std::move(options);
  if (bpe.options_.unk_token) bpe.unk_id_ = bpe.ids_.Find(*bpe.options_.unk_token);
  bpe.id_of_char_.assign(kSmallChars, -1);
  std::string text;
  for (size_t c = 0; c < kSmallChars; ++c) {
    text.clear();
    AppendUtf8(text, static_cast<char32_t>(c));
    bpe.id_of_char_[c] = bpe.ids_.Find(text).value_or(-1);
  }
  for (int byte = 0; byte < 256; ++byte)
    bpe.byte_ids_[byte] = bpe.ids_.Find(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  bpe.FindBorders(merge_ids);
  return bpe;
}

std::string_view Bpe::TokenOf(int32_t id) const {
  return id < 0 || id >= id_limit() ? std::string_view() : std::string_view(tokens_[id]);
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const uint64_t pair = PairOf(left, right);
  const size_t mask = merges_.size() - 1;
  for (size_t slot = HashPair(pair) & mask; merges_[slot].pair != UINT64_MAX;
       slot = (slot + 1) & mask)
    if (merges_[slot].pair == pair) return &merges_[slot].merge;
  return nullptr;
}

// The ids of the characters, with what stands for those that have none.
void Bpe::Characters(std::string_view piece, Scratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  const bool affixes =
      !options_.continuing_subword_prefix.empty() || !options_.end_of_word_suffix.empty();
  bool unk_pending = false;
  ids.clear();
  for (size_t i = 0; i < piece.size();) {
    const DecodedChar c = DecodeUtf8(piece.substr(i));
    std::string_view token = piece.substr(i, c.length);
    int32_t id;
    if (affixes) {
      scratch.token.clear();
      if (i != 0) scratch.token += options_.continuing_subword_prefix;
      scratch.token += token;
      if (i + c.length == piece.size()) scratch.token += options_.end_of_word_suffix;
      token = scratch.token;
      id = ids_.Find(token).value_or(-1);
    } else {
      id = c.code_point < kSmallChars ? id_of_char_[c.code_point] : ids_.Find(token).value_or(-1);
    }
    i += c.length;
    if (id >= 0) {
      if (std::exchange(unk_pending, false)) ids.push_back(*unk_id_);
      ids.push_back(id);
      continue;
    }
    if (options_.byte_fallback && std::all_of(token.begin(), token.end(), [&](char b) {
          return byte_ids_[static_cast<uint8_t>(b)] >= 0;
        })) {
      // A pending unknown stays pending: the library adds it after these bytes
      for (const char byte : token) ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
      continue;
    }
    if (!unk_id_) continue;
    if (unk_pending && !options_.fuse_unk) ids.push_back(*unk_id_);
    unk_pending = true;
  }
  if (unk_pending) ids.push_back(*unk_id_);
}

void Bpe::Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
  if (piece.empty()) return;
  if (options_.ignore_merges) {
    if (const auto id = ids_.Find(piece)) {
      out.push_back(*id);
      return;
    }
  }
  Characters(piece, scratch);
  if (scratch.ids.size() <= kShortPiece) {
    MergeShort(scratch);
    out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
    return;
  }
  // Where no merge can ever join two characters, the parts are independent, and small ones stay in
  // the cache
  scratch.all.swap(scratch.ids);
  const std::vector<int32_t>& all = scratch.all;
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin + 1;
    while (end < all.size() && MayJoin(all[end - 1], all[end])) ++end;
    scratch.ids.assign(all.begin() + static_cast<ptrdiff_t>(begin),
                       all.begin() + static_cast<ptrdiff_t>(end));
    if (scratch.ids.size() > kShortPiece)
      MergeLong(scratch);
    else
      MergeShort(scratch);
    out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
    begin = end;
  }
}

// A merge joins the last character of one token and the first of another; what no merge joins is a
// border for good. A token's characters are the symbols it was merged from; if merges disagree
// about them, no borders are used.
void Bpe::FindBorders(const std::vector<std::pair<int32_t, int32_t>>& merges) {
  std::vector<std::pair<int32_t, int32_t>> ends(tokens_.size());  // first and last character
  for (int32_t id = 0; id < id_limit(); ++id) ends[id] = {id, id};
  std::vector<bool> used(tokens_.size()), made(tokens_.size());
  joins_.assign(std::bit_ceil(std::max<size_t>(merges.size() * 2, 16)), UINT64_MAX);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = merges[rank];
    const int32_t id = id_of_rank_[rank];
    used[left] = used[right] = true;
    const std::pair<int32_t, int32_t> own{ends[left].first, ends[right].second};
    if ((made[id] && ends[id] != own) || (!made[id] && used[id])) return;
    made[id] = true;
    ends[id] = own;
    const uint64_t pair = PairOf(ends[left].second, ends[right].first);
    size_t slot = HashPair(pair) & (joins_.size() - 1);
    while (joins_[slot] != UINT64_MAX && joins_[slot] != pair)
      slot = (slot + 1) & (joins_.size() - 1);
    joins_[slot] = pair;
  }
  // A token that merges make and use must not also be what a character starts as
  const auto starts_as = [&](int32_t id) {
    std::string_view token = tokens_[id];
    if (id == unk_id_.value_or(-1) || (token.size() == 6 && token.starts_with("<0x"))) return true;
    if (token.starts_with(options_.continuing_subword_prefix))
      token.remove_prefix(options_.continuing_subword_prefix.size());
    if (token.ends_with(options_.end_of_word_suffix))
      token.remove_suffix(options_.end_of_word_suffix.size());
    return token.empty() || DecodeUtf8(token).length == token.size();
  };
  for (const std::pair<int32_t, int32_t>& pair : merges)
    for (const int32_t id : {pair.first, pair.second})
      if (made[id] && starts_as(id)) return;
  borders_known_ = true;
}

bool Bpe::MayJoin(int32_t left, int32_t right) const {
  if (!borders_known_) return true;
  const uint64_t pair = PairOf(left, right);
  for (size_t slot = HashPair(pair) & (joins_.size() - 1); joins_[slot] != UINT64_MAX;
       slot = (slot + 1) & (joins_.size() - 1))
    if (joins_[slot] == pair) return true;
  return false;
}

// Lowest rank first, leftmost of equal ones; each merge looks at its two new pairs only.
void Bpe::MergeShort(Scratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  std::vector<uint32_t>& ranks = scratch.ranks;  // of the pair that starts at each symbol
  const auto rank_at = [&](size_t i) {
    const Merge* merge = FindMerge(ids[i], ids[i + 1]);
    return merge == nullptr ? kNoRank : merge->rank;
  };
  if (ids.size() < 2) return;
  ranks.resize(ids.size() - 1);
  for (size_t i = 0; i + 1 < ids.size(); ++i) ranks[i] = rank_at(i);
  while (!ranks.empty()) {
    const size_t best = std::min_element(ranks.begin(), ranks.end()) - ranks.begin();
    if (ranks[best] == kNoRank) return;
    ids[best] = id_of_rank_[ranks[best]];
    ids.erase(ids.begin() + best + 1);
    ranks.erase(ranks.begin() + best);
    if (best > 0) ranks[best - 1] = rank_at(best - 1);
    if (best < ranks.size()) ranks[best] = rank_at(best);
  }
}

// The same for long pieces: a queue of ranks, and for each rank its positions from left to right.
// Positions of one rank come nearly sorted, so a piece of n symbols costs about n steps, against n
// log n cache misses of one big heap.
void Bpe::MergeLong(Scratch& scratch) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  const int32_t count = static_cast<int32_t>(scratch.ids.size());
  symbols.resize(count);
  for (int32_t i = 0; i < count; ++i)
    symbols[i] = {scratch.ids[i], i - 1, i + 1 < count ? i + 1 : -1};
  if (scratch.bucket_of_rank.size() != id_of_rank_.size())
    scratch.bucket_of_rank.assign(id_of_rank_.size(), -1);
  scratch.bucket_ranks.clear();
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>>
      queue;  // ranks whose bucket is not empty

  const auto add = [&](int32_t position) {
    const int32_t next = symbols[position].next;
    if (next < 0) return;
    const Merge* merge = FindMerge(symbols[position].id, symbols[next].id);
    if (merge == nullptr) return;
    int32_t& index = scratch.bucket_of_rank[merge->rank];
    if (index < 0) {
      index = static_cast<int32_t>(scratch.bucket_ranks.size());
      scratch.bucket_ranks.push_back(merge->rank);
      if (scratch.buckets.size() < scratch.bucket_ranks.size()) scratch.buckets.emplace_back();
      Scratch::Bucket& fresh = scratch.buckets[index];
      fresh.positions.clear();
      fresh.head = 0;
      fresh.sorted = true;
    }
    Scratch::Bucket& bucket = scratch.buckets[index];
    if (bucket.head == bucket.positions.size()) {
      bucket.positions.clear();
      bucket.head = 0;
      bucket.sorted = true;
      queue.push(merge->rank);
    } else if (position < bucket.positions.back()) {
      bucket.sorted = false;
    }
    bucket.positions.push_back(position);
  };

  for (int32_t i = 0; i < count; ++i) add(i);
  while (!queue.empty()) {
    const uint32_t rank = queue.top();
    Scratch::Bucket& bucket = scratch.buckets[scratch.bucket_of_rank[rank]];
    if (bucket.head == bucket.positions.size()) {
      queue.pop();
      continue;
    }
    if (!std::exchange(bucket.sorted, true))
      std::sort(bucket.positions.begin() + static_cast<ptrdiff_t>(bucket.head),
                bucket.positions.end());
    const int32_t position = bucket.positions[bucket.head++];
    // The entry is stale if the pair has changed since
    Symbol& left = symbols[position];
    if (left.id < 0 || left.next < 0) continue;
    const int32_t right_position = left.next;
    const Merge* merge = FindMerge(left.id, symbols[right_position].id);
    const int32_t id = id_of_rank_[rank];
    if (merge == nullptr || merge->id != id) continue;
    Symbol& right = symbols[right_position];
    left.id = id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[left.next].previous = position;
    if (left.previous >= 0) add(left.previous);
    add(position);
  }
  scratch.ids.clear();
  for (int32_t i = 0; i >= 0; i = symbols[i].next) scratch.ids.push_back(symbols[i].id);
  for (const uint32_t rank : scratch.bucket_ranks) scratch.bucket_of_rank[rank] = -1;
}

}  // namespace tessera
