// What the three attention ops share: a tile of query vectors of one K/V head goes through key
// blocks in ascending order. Each op decides which blocks and who sees what; the tier's
// micro-kernel does the arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/kernels.h"
#include "kernels/kv_view.h"

namespace tessera::cpu {

// Where the blocks of one K/V head stand. Pages of `blocks_per_page` blocks; K block [G][D][16], V
// block [G][16][D].
class KvHead {
 public:
  KvHead(const KvLayerView& kv, int head)
      : k_(static_cast<const char*>(kv.k)),
        v_(static_cast<const char*>(kv.v)),
        element_(static_cast<int64_t>(SizeOf(kv.geometry.dtype))),
        page_(kv.geometry.page_elements()),
        block_(kv.geometry.kv_heads * kv.geometry.block_elements()),
        head_(kv.geometry.block_elements() * head) {}
  const void* K(int64_t page, int64_t block) const { return k_ + Offset(page, block); }
  const void* V(int64_t page, int64_t block) const { return v_ + Offset(page, block); }

 private:
  int64_t Offset(int64_t page, int64_t block) const {
    return (page * page_ + block * block_ + head_) * element_;
  }

  const char* const k_;
  const char* const v_;
  const int64_t element_, page_, block_, head_;
};

// Bits [0, count) of a block of 64 keys, count may be beyond either end.
constexpr uint64_t FirstKeys(int64_t count) {
  return count <= 0 ? 0 : count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// The state of a tile, on a thread's scratch.
class TileAttention {
 public:
  static constexpr int kMaxHeadDim = 256;
  static constexpr size_t ScratchBytes() {
    return sizeof(float) * kMaxAttendQueries * (2 * kMaxHeadDim + 2) +
           sizeof(uint64_t) * kMaxAttendQueries;
  }

  // `scratch` of ScratchBytes(), 64-byte aligned.
  TileAttention(const Kernels& kernels, DType kv_dtype, int head_dim, float scale, char* scratch)
      : attend_(kernels.attend[KvFormatIndex(kv_dtype)]),
        q_(reinterpret_cast<float*>(scratch)),
        out_(q_ + kMaxAttendQueries * kMaxHeadDim),
        visible_(reinterpret_cast<uint64_t*>(out_ + kMaxAttendQueries * kMaxHeadDim)),
        max_(reinterpret_cast<float*>(visible_ + kMaxAttendQueries)),
        sum_(max_ + kMaxAttendQueries) {
    block_.head_dim = head_dim;
    block_.padded_dim = (head_dim + kLanes - 1) / kLanes * kLanes;
    block_.scale = scale;
    block_.q = q_;
    block_.visible = visible_;
    block_.max = max_;
    block_.sum = sum_;
    block_.out = out_;
  }

  // query(i): the i-th of `queries` vectors, head_dim features.
  template <typename Query>
  void Begin(int queries, Query&& query) {
    block_.queries = queries;
    for (int i = 0; i < kMaxAttendQueries; ++i) {
      const float* from = i < queries ? query(i) : nullptr;
      float* to = q_ + i * block_.padded_dim;
      for (int d = 0; d < block_.padded_dim; ++d)
        to[d] = from != nullptr && d < block_.head_dim ? from[d] : 0.0f;
      for (int d = 0; d < block_.padded_dim; ++d) out_[i * block_.padded_dim + d] = 0.0f;
      visible_[i] = 0;
      max_[i] = -std::numeric_limits<float>::infinity();
      sum_[i] = 0.0f;
    }
  }

  // One block of 64 keys in `key_blocks` blocks of 16. k(b), v(b): block b of them. visible(i):
  // what query i sees.
  template <typename K, typename V, typename Visible>
  void Block(int key_blocks, K&& k, V&& v, Visible&& visible) {
    uint64_t any = 0;
    for (int i = 0; i < block_.queries; ++i) any |= visible_[i] = visible(i);
    if (any == 0) return;
    while (key_blocks > 1 && (any >> ((key_blocks - 1) * kLanes)) == 0) --key_blocks;
    block_.key_blocks = key_blocks;
    for (int b = 0; b < key_blocks; ++b) {
      block_.k[b] = k(b);
      block_.v[b] = v(b);
    }
    attend_(block_);
  }

  // Writes vector i to out(i). A query that saw nothing gets zeros.
  template <typename Out>
  void End(Out&& out) {
    for (int i = 0; i < block_.queries; ++i) {
      float* to = out(i);
      const float* from = out_ + i * block_.padded_dim;
      const bool any = max_[i] != -std::numeric_limits<float>::infinity();
      for (int d = 0; d < block_.head_dim; ++d) to[d] = any ? from[d] / sum_[i] : 0.0f;
    }
  }

 private:
  void (*const attend_)(const AttendBlock&);
  float* const q_;
  float* const out_;
  uint64_t* const visible_;
  float* const max_;
  float* const sum_;
  AttendBlock block_;
};

// K and V of one head of a dense sequence, packed into blocks of 16, as DenseAttention needs them
// on each thread.
constexpr size_t DenseScratchBytes(int64_t keys, int64_t head_dim) {
  return static_cast<size_t>((keys + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens *
                             head_dim) *
         2 * sizeof(float);
}

}  // namespace tessera::cpu
