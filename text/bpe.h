// Byte-pair encoding of one piece of text (Sennrich et al. 2016), with the options of the
// `tokenizers` library's BPE model: byte fallback, unknown token, prefixes and suffixes of
// subwords, whole pieces before merges.
//
// Thread safety: const after Build. A Scratch belongs to one call at a time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace tessera {

// Strings to ids: open addressing over one arena, for lookups of parts of a text without a copy.
class TokenTable {
 public:
  // False if the token is there already (nothing changes).
  bool Insert(std::string_view token, int32_t id);
  std::optional<int32_t> Find(std::string_view token) const;
  void Reserve(size_t tokens);
  size_t size() const { return size_; }

 private:
  struct Slot {
    uint32_t hash = 0, offset = 0, length = 0;
    int32_t id = -1;  // -1: free
  };
  void Grow(size_t slots);

  std::vector<Slot> slots_;
  std::string arena_;
  size_t size_ = 0;
};

struct BpeOptions {
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix, end_of_word_suffix;  // empty: none
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

class Bpe {
 public:
  struct Symbol {
    int32_t id;
    int32_t previous, next;  // -1: none; linked only in long pieces
  };
  // Buffers kept between pieces of one call.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<int32_t> ids, all;
    std::vector<uint32_t> ranks;
    std::vector<int32_t> bucket_of_rank;  // -1: none
    struct Bucket {
      std::vector<int32_t> positions;
      size_t head = 0;
      bool sorted = true;
    };
    std::vector<Bucket> buckets;
    std::vector<uint32_t> bucket_ranks;
    std::string token;
  };

  // Ids are in [0, kMaxTokenId]; duplicate tokens or ids, merges of unknown tokens are errors. The
  // highest id may be at most 2^20 or 8 times the number of tokens, whichever is more.
  static Result<Bpe> Build(std::vector<std::pair<std::string, int32_t>> vocab,
                           std::vector<std::pair<std::string, std::string>> merges,
                           BpeOptions options);

  // Appends the ids of a piece (valid UTF-8). Time n log(merges) for a piece of n characters, and
  // n^2 only up to 32.
  void Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const;

  std::optional<int32_t> IdOf(std::string_view token) const { return ids_.Find(token); }
  // Empty where no token has the id.
  std::string_view TokenOf(int32_t id) const;
  size_t token_count() const { return token_count_; }
  int32_t id_limit() const { return static_cast<int32_t>(tokens_.size()); }

 private:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  struct MergeSlot {
    uint64_t pair = UINT64_MAX;
    Merge merge{};
  };
  static constexpr uint32_t kNoRank = UINT32_MAX;

  static uint64_t PairOf(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static size_t HashPair(uint64_t pair) {
    return static_cast<size_t>((pair ^ pair >> 29) * 0x9E3779B97F4A7C15u >> 20);
  }
  const Merge* FindMerge(int32_t left, int32_t right) const;
  void Characters(std::string_view piece, Scratch& scratch) const;
  void MergeShort(Scratch& scratch) const;
  void MergeLong(Scratch& scratch) const;
  void FindBorders(const std::vector<std::pair<int32_t, int32_t>>& merges);
  bool MayJoin(int32_t left, int32_t right) const;

  BpeOptions options_;
  std::optional<int32_t> unk_id_;
  size_t token_count_ = 0;
  std::vector<std::string> tokens_;  // by id
  TokenTable ids_;
  std::vector<MergeSlot> merges_;  // open addressing, a power of two
  std::vector<int32_t> id_of_rank_;
  std::vector<uint64_t>
      joins_;  // pairs of characters that some merge joins: open addressing, a power of two
  bool borders_known_ = false;
  std::vector<int32_t> id_of_char_;      // of the first 2048 code points, -1: not in the vocabulary
  std::array<int32_t, 256> byte_ids_{};  // of "<0x00>" and so on, -1: none
};

}  // namespace tessera
