// What the three attention ops share: a tile of query vectors of one K/V head goes through key
// blocks in ascending order. Each op decides which blocks and who sees what; the tier's
// micro-kernel does the arithmetic.
#pragma once

#include <algorithm>
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
      const int present = i < queries ? block_.head_dim : 0;
      float* to = q_ + i * block_.padded_dim;
      if (present > 0) std::copy_n(query(i), present, to);
      std::fill(to + present, to + block_.padded_dim, 0.0f);
      std::fill_n(out_ + i * block_.padded_dim, block_.padded_dim, 0.0f);
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
      if (max_[i] == -std::numeric_limits<float>::infinity()) {
        std::fill_n(to, block_.head_dim, 0.0f);
        continue;
      }
      const float sum = sum_[i];
      for (int d = 0; d < block_.head_dim; ++d) to[d] = from[d] / sum;
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

// Elements of K, or V, of one head of a dense sequence, packed into blocks of 16.
constexpr size_t DenseHeadElements(int64_t keys, int64_t head_dim) {
  return static_cast<size_t>((keys + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens *
                             head_dim);
}
constexpr int64_t DenseKeyBlocks(int64_t keys) {
  return (keys + kAttentionKeyBlock - 1) / kAttentionKeyBlock;
}
// What DenseAttention needs on each thread: K and V of a head, which keys are padding, and the
// order of the rows.
constexpr size_t DenseScratchBytes(int64_t keys, int64_t head_dim) {
  return DenseHeadElements(keys, head_dim) * 2 * sizeof(float) +
         static_cast<size_t>(DenseKeyBlocks(keys)) * sizeof(uint64_t) +
         static_cast<size_t>(keys) * sizeof(int32_t);
}

}  // namespace tessera::cpu
