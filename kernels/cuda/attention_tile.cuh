// The body of every attention kernel: a tile of query vectors against a range of key blocks.
//
// FlashAttention-2 (Dao, 2023) with two changes that equal bits and few bytes ask for.
//
// 1. Warps form a grid of kRowWarps x kColWarps. The warps of a row divide the work on the same
//    query vectors: each takes a part of the 64 keys for the scores S = Q K^T, and a part of the D
//    columns for O += P V. Between the two, row maxima and P pass through shared memory. So a K or
//    V fragment that was loaded serves all kMTiles * 16 vectors of a row of warps, and the decode
//    kernels are the same code with one row of warps: S, P and each column of O are made of the
//    same numbers added in the same order whatever the grid of warps is.
// 2. The sum of a row of P is a matrix product too, with a column of ones: P as rounded for the
// product
//    with V is what gets summed, and again the order is the same everywhere.
//
// Shared memory: Q, two stages of K and V (cp.async writes one while the other is read), P, maxima.
// Rows are swizzled, so that the eight 16-byte pieces ldmatrix fetches at a time (eight rows, one
// column) lie in eight different groups of four banks: see Swizzled(). Q's place is reused for the
// output, which leaves in whole 16-byte pieces.
//
// Fragment layouts: PTX ISA, cited at the wrappers (ptx_math.cuh).
#pragma once

#include "kernels/cuda/attention_shape.cuh"

namespace tessera::cuda {

template <class S>
class AttentionTile {
 public:
  using T = typename S::T;

  TESSERA_DEVICE AttentionTile(const AttentionParams& p, const AttentionItem& item, uint32_t shared)
      : p_(p), item_(item), shared_(shared) {
    kv_head_ = static_cast<int>(block_y());
    lane_ = static_cast<int>(lane_id());
    const int warp = static_cast<int>(warp_id());
    row_warp_ = warp / S::kColWarps;
    col_warp_ = warp % S::kColWarps;
    first_vector_ = row_warp_ * S::kGroupVectors;
    Clear(max_, sum_, out_);
    if constexpr (S::kFold) Clear(folded_max_, folded_sum_, folded_);
    FindLimits();
  }

  // All key blocks of the item.
  TESSERA_DEVICE void Run() {
    if (item_.block_begin < item_.block_end) {
      FetchQueries();
      Fetch(item_.block_begin);
    }
    for (int block = item_.block_begin; block < item_.block_end; ++block) {
      cp_async_wait<0>();
      // This block's keys are there for all; and nobody reads the stage any more that the next
      // fills.
      sync_threads();
      if (block + 1 < item_.block_end) Fetch(block + 1);
      Attend(block);
      if constexpr (S::kFold) {
        if (block % kSplitBlocks == kSplitBlocks - 1 || block + 1 == item_.block_end) Fold();
      }
    }
  }

  // Writes the finished rows. Without kFold the item is the rows' only split.
  TESSERA_DEVICE void StoreRows() {
    // The sums are the first warp's of each row of warps; the maxima's place is free by now, and so
    // is that of Q: both were last read before the barrier on P.
    if (col_warp_ == 0 && lane_ % 4 == 0) {
#pragma unroll
      for (int mt = 0; mt < S::kMTiles; ++mt) {
#pragma unroll
        for (int half = 0; half < 2; ++half)
          sts<float>(SumAddress(LocalRow(mt, half)),
                     S::kFold ? folded_sum_[S::kFold ? mt : 0][half] : sum_[mt][2 * half]);
      }
    }
    SyncGroup();
#pragma unroll
    for (int mt = 0; mt < S::kMTiles; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = LocalRow(mt, half);
        const float scale = Reciprocal(lds<float>(SumAddress(row)));
#pragma unroll
        for (int nt = 0; nt < S::kOutTiles; ++nt) {
          if (!HasColumns(nt)) continue;
          float a, b;
          if constexpr (S::kFold) {
            a = folded_[mt][nt][2 * half], b = folded_[mt][nt][2 * half + 1];
          } else {  // as if joined with nothing
            a = fadd_rn(out_[mt][nt][2 * half], 0.0f),
            b = fadd_rn(out_[mt][nt][2 * half + 1], 0.0f);
          }
          sts<uint32_t>(shared_ + Swizzled<S::kChunks>(row, Column(nt)) + lane_ % 4 * 4,
                        pack2<T>(fmul_rn(a, scale), fmul_rn(b, scale)));
        }
      }
    }
    sync_threads();
    for (int i = static_cast<int>(thread_x()); i < item_.vectors * S::kChunks; i += S::kThreads) {
      const int row = i / S::kChunks, chunk = i % S::kChunks;
      const int elements = p_.head_dim - chunk * 8;
      if (elements <= 0) continue;
      T* const to = static_cast<T*>(p_.out) + Offset(row, p_.out_stride) + chunk * 8;
      const uint32_t from = shared_ + Swizzled<S::kChunks>(row, chunk);
      if (p_.vectors) {
        stg(reinterpret_cast<uint4*>(to), lds<uint4>(from));
      } else {
        for (int e = 0; e < 8 && e < elements; ++e) stg(to + e, lds<T>(from + e * 2));
      }
    }
  }

  // Leaves the split's result in memory for the block that will combine.
  TESSERA_DEVICE void StorePartial() {
#pragma unroll
    for (int mt = 0; mt < S::kMTiles; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = LocalRow(mt, half);
        if (row >= item_.vectors) continue;
        const int64_t vector = PartialVector(p_, item_, kv_head_, item_.split, row);
#pragma unroll
        for (int nt = 0; nt < S::kOutTiles; ++nt) {
          if (!HasColumns(nt)) continue;
          stg(reinterpret_cast<float2_t*>(p_.partial + vector * S::kDim + Column(nt) * 8 +
                                          lane_ % 4 * 2),
              float2_t{out_[mt][nt][2 * half], out_[mt][nt][2 * half + 1]});
        }
        if (col_warp_ == 0 && lane_ % 4 == 0)
          stg(reinterpret_cast<float2_t*>(p_.partial_sum + 2 * vector),
              float2_t{max_[mt][half], sum_[mt][2 * half]});
      }
    }
  }

 private:
  // Of D fragments, this lane holds vectors lane / 4 (half 0) and lane / 4 + 8 of each tile of 16.
  TESSERA_DEVICE int LocalRow(int mt, int half) const {
    return first_vector_ + mt * 16 + half * 8 + lane_ / 4;
  }
  // Column tile nt of this warp, in pieces of 8 features. The last warp of a row may have fewer.
  TESSERA_DEVICE int Column(int nt) const { return col_warp_ * S::kOutTiles + nt; }
  TESSERA_DEVICE bool HasColumns(int nt) const {
    return S::kOutTiles * S::kColWarps == S::kChunks || Column(nt) < S::kChunks;
  }
  TESSERA_DEVICE int64_t Offset(int row, int64_t stride) const {
    return VectorOffset(p_, item_, kv_head_, row, stride);
  }
  TESSERA_DEVICE uint32_t SumAddress(int row) const {
    return shared_ + S::kMaxima + static_cast<uint32_t>(row) * 4;
  }
  TESSERA_DEVICE uint32_t Stage(int block) const {
    return shared_ + S::kStages + static_cast<uint32_t>(block % 2) * 2 * S::kHalfStage;
  }

  // The keys that the group's vectors see: self, all below lowest_, none from highest_ on; dense,
  // all, or, where lowest_ is set, not all for some vector.
  TESSERA_DEVICE void FindLimits() {
    const int last = item_.vectors - 1;
    active_ = first_vector_ <= last;  // else the group has no vectors
    if constexpr (S::kKeys == Keys::kSelf) {
      const int end = first_vector_ + S::kGroupVectors - 1;
      lowest_ = Limit(first_vector_ < last ? first_vector_ : last);
      highest_ = Limit(end < last ? end : last);
    }
    if constexpr (S::kKeys == Keys::kDense) {
      if (p_.table != nullptr) {
        bool any = false;
#pragma unroll
        for (int i = 0; i < S::kMTiles * 2; ++i) any |= IsPadding(LocalRow(i / 2, i % 2));
        lowest_ = ballot(any) != 0;
      }
    }
  }
  // Vectors that are not there behave as the last one.
  TESSERA_DEVICE int Existing(int row) const {
    return row < item_.vectors ? row : item_.vectors - 1;
  }
  TESSERA_DEVICE bool IsPadding(int row) const {
    const int at = static_cast<int>(p_.first_row) + item_.row_begin +
                   (item_.vector_begin + Existing(row)) / p_.group;
    return (ldg(p_.table + at / 32) >> (at % 32) & 1) != 0;
  }
  // Keys below it are seen.
  TESSERA_DEVICE int Limit(int row) const {
    return item_.first_position + (item_.vector_begin + row) / p_.group + 1;
  }

  TESSERA_DEVICE void FetchQueries() {
    for (int i = static_cast<int>(thread_x()); i < S::kVectors * S::kChunks; i += S::kThreads) {
      const int row = i / S::kChunks, chunk = i % S::kChunks;
      const int elements = row < item_.vectors ? p_.head_dim - chunk * 8 : 0;
      CopyPiece(
          shared_ + Swizzled<S::kChunks>(row, chunk),
          static_cast<const T*>(p_.q) + (elements > 0 ? Offset(row, p_.q_stride) + chunk * 8 : 0),
          elements, p_.vectors);
    }
  }

  // Lane l's entry of the table of 8 key blocks: where its block of 16 keys number l lies in the
  // pool. One coalesced load of 128 bytes a warp, handed around by shuffles.
  TESSERA_DEVICE int TableEntry(int block) const {
    if constexpr (S::kKeys == Keys::kSelf) {
      const int at = block * (kKeyBlock / kPageBlock) + lane_;
      if (at * kPageBlock >= item_.keys) return 0;
      const int page = ldg(p_.table + item_.table_begin + at / p_.blocks_per_page);
      return page * p_.blocks_per_page + at % p_.blocks_per_page;
    } else if constexpr (S::kKeys == Keys::kCross) {
      const int at = block + lane_ / 4;
      const int within = at % p_.tile_blocks * 4 + lane_ % 4;
      if (at >= item_.block_end || within >= p_.blocks_per_page) return 0;
      return ldg(p_.table + item_.table_begin + at / p_.tile_blocks) * p_.blocks_per_page + within;
    } else {
      const int at = block * 2 + lane_;
      if (p_.table == nullptr || lane_ >= 2 * kTableBlocks || at * 32 >= item_.keys) return 0;
      return ldg(p_.table + at);  // padding bits
    }
  }
  // Keys of `block` that exist.
  TESSERA_DEVICE int Present(int block) const {
    int left;
    if constexpr (S::kKeys == Keys::kCross) {
      left = p_.tile_keys - block % p_.tile_blocks * kKeyBlock;
    } else {
      left = item_.keys - block * kKeyBlock;
    }
    return left < kKeyBlock ? left : kKeyBlock;
  }

  // Key block `block` on its way to its stage. Keys that do not exist become zeros: what lies there
  // in the pool may be NaN, and 0 * NaN is not 0.
  TESSERA_DEVICE void Fetch(int block) {
    if constexpr (S::kKeys != Keys::kDense) {
      if (block % kTableBlocks == 0) table_ = TableEntry(block);
    }
    const int present = Present(block);
    const uint32_t stage = Stage(block);
    constexpr int kPieces = kKeyBlock * S::kChunks;
#pragma unroll 1  // addresses of pieces to come would cost the registers that O needs
    for (int begin = 0; begin < kPieces; begin += S::kThreads) {
      const int i = begin + static_cast<int>(thread_x());
      if (kPieces % S::kThreads != 0 && i >= kPieces) break;  // whole warps
      const int row = i / S::kChunks, chunk = i % S::kChunks;
      int64_t k, v;
      if constexpr (S::kKeys == Keys::kDense) {
        const int64_t key = block * kKeyBlock + row;
        k = key * p_.k_stride + int64_t{kv_head_} * p_.head_dim + chunk * 8;
        v = key * p_.v_stride + int64_t{kv_head_} * p_.head_dim + chunk * 8;
      } else {
        // 16 keys are a multiple of 32 pieces: a warp's pieces are of one block.
        const int from =
            shfl_idx(table_, static_cast<uint32_t>(block % kTableBlocks * 4 + row / kPageBlock));
        k = v = from * p_.k_stride + (kv_head_ * kPageBlock + row % kPageBlock) * p_.head_dim +
                chunk * 8;
      }
      const int elements = row < present ? p_.head_dim - chunk * 8 : 0;
      if (elements <= 0) k = v = 0;
      const uint32_t to = stage + Swizzled<S::kChunks>(row, chunk);
      CopyPiece(to, static_cast<const T*>(p_.k) + k, elements, p_.vectors);
      CopyPiece(to + S::kHalfStage, static_cast<const T*>(p_.v) + v, elements, p_.vectors);
    }
    cp_async_commit();
  }

  // The warps of one row of warps meet.
  TESSERA_DEVICE void SyncGroup() {
    if constexpr (S::kRowWarps == 1) {
      sync_threads();
    } else {
      named_barrier(1 + row_warp_, S::kColWarps * 32);
    }
  }

  TESSERA_DEVICE void Attend(int block) {
    if constexpr (S::kKeys == Keys::kDense) {
      if (block % kTableBlocks == 0) table_ = TableEntry(block);
    }
    int seen = Present(block);  // keys of the block that some vector of the group sees
    if constexpr (S::kKeys == Keys::kSelf) {
      const int below = highest_ - block * kKeyBlock;
      seen = below < seen ? below : seen;
    }
    if (!active_ || seen <= 0) return;  // alike in all warps of the group

    float s[S::kMTiles][S::kKeyTiles][4] = {};
    const int first_key = col_warp_ * S::kKeyTiles * 8;
    if (first_key < seen) Scores(Stage(block), first_key, s);
    Mask(block, seen, first_key, s);
    Softmax(first_key, s);
    Accumulate(Stage(block) + S::kHalfStage, seen);
  }

  // S = Q K^T for this warp's keys.
  TESSERA_DEVICE void Scores(uint32_t keys, int first_key,
                             float (&s)[S::kMTiles][S::kKeyTiles][4]) {
    // Two blocks per SM have 128 registers: addresses of all steps at once would not fit.
    constexpr int kSteps = S::kDim / 16;
    [[maybe_unused]] constexpr int kUnrolled = S::kBlocks > 1 ? 2 : kSteps;
#pragma unroll kUnrolled
    for (int ks = 0; ks < kSteps; ++ks) {
      uint32_t a[S::kMTiles][4];
#pragma unroll
      for (int mt = 0; mt < S::kMTiles; ++mt)
        ldmatrix_x4(a[mt], shared_ + Swizzled<S::kChunks>(first_vector_ + mt * 16 + lane_ % 16,
                                                          2 * ks + lane_ / 16));
#pragma unroll
      for (int kt = 0; kt < S::kKeyTiles; kt += 2) {
        // Matrices: keys 0-7 and 8-15, features 0-7 and 8-15 of each.
        uint32_t b[4];
        ldmatrix_x4(b, keys + Swizzled<S::kChunks>(first_key + kt * 8 + lane_ % 8 + lane_ / 16 * 8,
                                                   2 * ks + lane_ / 8 % 2));
        const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
        for (int mt = 0; mt < S::kMTiles; ++mt) {
          mma_16x8x16<T>(s[mt][kt], a[mt], low);
          mma_16x8x16<T>(s[mt][kt + 1], a[mt], high);
        }
      }
    }
  }

  // Scores of keys that a vector does not see become -inf. Blocks that all see whole need none of
  // it.
  TESSERA_DEVICE void Mask(int block, int seen, int first_key,
                           float (&s)[S::kMTiles][S::kKeyTiles][4]) {
    bool needed = seen < kKeyBlock;
    uint32_t padding = 0;  // bits of the 32 keys among which this warp's are
    if constexpr (S::kKeys == Keys::kSelf) needed |= lowest_ - block * kKeyBlock < kKeyBlock;
    if constexpr (S::kKeys == Keys::kDense) {
      static_assert(S::kKeyTiles <= 4);
      if (lowest_ != 0) {
        const int at = block % kTableBlocks * 2 + first_key / 32;
        padding = static_cast<uint32_t>(shfl_idx(table_, static_cast<uint32_t>(at)));
        needed |= padding != 0;
      }
    }
    if (!needed) return;
#pragma unroll
    for (int mt = 0; mt < S::kMTiles; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        int end = seen;  // keys of the block below it exist and are seen
        uint32_t hidden = 0;
        if constexpr (S::kKeys == Keys::kSelf) {
          const int limit = Limit(Existing(LocalRow(mt, half))) - block * kKeyBlock;
          end = limit < end ? limit : end;
        }
        if constexpr (S::kKeys == Keys::kDense) {
          if (padding != 0 && IsPadding(LocalRow(mt, half))) hidden = padding;
        }
#pragma unroll
        for (int kt = 0; kt < S::kKeyTiles; ++kt) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int key = first_key + kt * 8 + lane_ % 4 * 2 + e;
            if (key >= end || (hidden >> (key % 32) & 1) != 0)
              s[mt][kt][2 * half + e] = kNegativeInfinity;
          }
        }
      }
    }
  }

  // New maxima, P into shared memory, and what was summed so far weighed anew.
  TESSERA_DEVICE void Softmax(int first_key, float (&s)[S::kMTiles][S::kKeyTiles][4]) {
    const uint32_t maxima = shared_ + S::kMaxima;
#pragma unroll
    for (int mt = 0; mt < S::kMTiles; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float m = kNegativeInfinity;
#pragma unroll
        for (int kt = 0; kt < S::kKeyTiles; ++kt) {
          m = m > s[mt][kt][2 * half] ? m : s[mt][kt][2 * half];
          m = m > s[mt][kt][2 * half + 1] ? m : s[mt][kt][2 * half + 1];
        }
#pragma unroll
        for (uint32_t mask = 1; mask < 4; mask *= 2) {  // the four lanes of a row
          const float other = shfl_xor(m, mask);
          m = m > other ? m : other;
        }
        if (lane_ % 4 == 0)
          sts<float>(
              maxima + static_cast<uint32_t>(col_warp_ * S::kVectors + LocalRow(mt, half)) * 4, m);
      }
    }
    SyncGroup();
#pragma unroll
    for (int mt = 0; mt < S::kMTiles; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = LocalRow(mt, half);
        float m = max_[mt][half];
#pragma unroll
        for (int c = 0; c < S::kColWarps; ++c) {
          const float other = lds<float>(maxima + static_cast<uint32_t>(c * S::kVectors + row) * 4);
          m = m > other ? m : other;
        }
        const float before = Weight(max_[mt][half], m, p_.scale_log2);
        max_[mt][half] = m;
        // Nothing seen yet: every score is -inf, and so is the difference from 0.
        const float shift = m == kNegativeInfinity ? 0.0f : -fmul_rn(m, p_.scale_log2);
#pragma unroll
        for (int kt = 0; kt < S::kKeyTiles; ++kt) {
          const float a = fast_exp2(fma_rn(s[mt][kt][2 * half], p_.scale_log2, shift));
          const float b = fast_exp2(fma_rn(s[mt][kt][2 * half + 1], p_.scale_log2, shift));
          sts<uint32_t>(
              shared_ + S::kWeights + Swizzled<8>(row, first_key / 8 + kt) + lane_ % 4 * 4,
              pack2<T>(a, b));
        }
        sum_[mt][2 * half] *= before;
#pragma unroll
        for (int nt = 0; nt < S::kOutTiles; ++nt) {
          out_[mt][nt][2 * half] *= before;
          out_[mt][nt][2 * half + 1] *= before;
        }
      }
    }
    SyncGroup();
  }

  // O += P V for this warp's columns, and the sums of P.
  TESSERA_DEVICE void Accumulate(uint32_t values, int seen) {
    const uint32_t one = pack2<T>(1.0f, 1.0f);
    const uint32_t ones[2] = {one, one};
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // 32 keys: two steps of k
      if (half * 32 >= seen) break;
      const bool second = half * 32 + 16 < seen;
      uint32_t a[2][S::kMTiles][4];
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        if (step == 1 && !second) break;
#pragma unroll
        for (int mt = 0; mt < S::kMTiles; ++mt) {
          ldmatrix_x4(a[step][mt], shared_ + S::kWeights +
                                       Swizzled<8>(first_vector_ + mt * 16 + lane_ % 16,
                                                   half * 4 + step * 2 + lane_ / 16));
          if (col_warp_ == 0) mma_16x8x16<T>(sum_[mt], a[step][mt], ones);
        }
      }
#pragma unroll
      for (int nt = 0; nt < S::kOutTiles; ++nt) {
        if (!HasColumns(nt)) continue;
        uint32_t b[4];  // keys 0-7, 8-15, 16-23, 24-31 of the half, transposed
        ldmatrix_x4_trans(b, values + Swizzled<S::kChunks>(half * 32 + lane_, Column(nt)));
        const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
        for (int mt = 0; mt < S::kMTiles; ++mt) {
          mma_16x8x16<T>(out_[mt][nt], a[0][mt], low);
          if (second) mma_16x8x16<T>(out_[mt][nt], a[1][mt], high);
        }
      }
    }
  }

  // The split is complete: it joins those before it.
  TESSERA_DEVICE void Fold() {
#pragma unroll
    for (int mt = 0; mt < S::kMTiles; ++mt) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const SplitWeights w = Joined(folded_max_[mt][half], max_[mt][half], p_.scale_log2);
        folded_max_[mt][half] = w.maximum;
        folded_sum_[mt][half] = Join(w, folded_sum_[mt][half], sum_[mt][2 * half]);
#pragma unroll
        for (int nt = 0; nt < S::kOutTiles; ++nt) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e)
            folded_[mt][nt][e] = Join(w, folded_[mt][nt][e], out_[mt][nt][e]);
        }
      }
    }
    Clear(max_, sum_, out_);
  }

  const AttentionParams& p_;
  const AttentionItem& item_;
  const uint32_t shared_;
  int kv_head_, lane_, row_warp_, col_warp_;
  int first_vector_;  // of this row of warps, in the tile
  bool active_;
  int table_ = 0;  // TableEntry(): of blocks being fetched; dense, of those at hand
  int lowest_ = 0, highest_ = 0;
  // Within the split. sum_ is a D fragment whose columns are all alike; column 0 of the warps has
  // it.
  float max_[S::kMTiles][2];
  float sum_[S::kMTiles][4];
  float out_[S::kMTiles][S::kOutTiles][4];
  // Over the splits before it.
  static constexpr int kFoldTiles = S::kFold ? S::kMTiles : 1;
  static constexpr int kFoldOut = S::kFold ? S::kOutTiles : 1;
  float folded_max_[kFoldTiles][2];
  float folded_sum_[kFoldTiles][2];
  float folded_[kFoldTiles][kFoldOut][4];
};

}  // namespace tessera::cuda
