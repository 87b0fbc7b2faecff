// The kernel of items whose keys are spread over blocks: decode.
//
// Flash-Decoding (Dao, Haziza, Massa, Sizov, 2023) with a fixed split of 1,024 keys, so that what
// is added in which order depends on the row's length alone. For four heads of 128 features over a
// K/V head that is 512 KB of K and V against 4 KB of partial results, written and read: 0.8 %; half
// the split would be twice that. The last block of a row to finish, found by an atomic counter,
// combines all splits in ascending order: no second launch.
#pragma once

#include "kernels/cuda/attention_launch.cuh"

namespace tessera::cuda {

// Combines all splits of the item's rows, in order. Four columns a thread.
template <class S>
TESSERA_DEVICE void CombinePartials(const AttentionParams& p, const AttentionItem& item) {
  using T = typename S::T;
  const int kv_head = static_cast<int>(block_y());
  constexpr int kQuads = S::kDim / 4;
  for (int i = static_cast<int>(thread_x()); i < item.vectors * kQuads; i += S::kThreads) {
    const int row = i / kQuads, column = i % kQuads * 4;
    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f}, sum = 0.0f, maximum = kNegativeInfinity;
    for (int split = 0; split < item.splits; ++split) {
      const int64_t vector = PartialVector(p, item, kv_head, split, row);
      const auto part = ldg(reinterpret_cast<const float4*>(p.partial + vector * S::kDim + column));
      const float2_t max_sum = ldg(reinterpret_cast<const float2_t*>(p.partial_sum + 2 * vector));
      const SplitWeights w = Joined(maximum, max_sum.x, p.scale_log2);
      maximum = w.maximum;
      sum = Join(w, sum, max_sum.y);
      total[0] = Join(w, total[0], part.x);
      total[1] = Join(w, total[1], part.y);
      total[2] = Join(w, total[2], part.z);
      total[3] = Join(w, total[3], part.w);
    }
    const float scale = Reciprocal(sum);
    const uint2 packed = {pack2<T>(fmul_rn(total[0], scale), fmul_rn(total[1], scale)),
                          pack2<T>(fmul_rn(total[2], scale), fmul_rn(total[3], scale))};
    T* const to =
        static_cast<T*>(p.out) + VectorOffset(p, item, kv_head, row, p.out_stride) + column;
    if (p.vectors) {
      if (column < p.head_dim) stg(reinterpret_cast<uint2*>(to), packed);
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const uint32_t word = e < 2 ? packed.x : packed.y;
        if (column + e < p.head_dim) stg(to + e, T{static_cast<uint16_t>(word >> (e % 2 * 16))});
      }
    }
  }
}

template <typename S>
TESSERA_DEVICE void DecodeTile(const AttentionParams& p) {
  DYN_SMEM(shared);
  SHARED_ARRAY(uint32_t, is_last, 1);
  const AttentionItem item = LoadItem(p);
  AttentionTile<S> tile(p, item, smem_u32(shared));
  tile.Run();
  if (item.splits == 1) {
    tile.StoreRows();
    return;
  }
  tile.StorePartial();
  sync_threads();  // all of the block's stores come before thread 0's fence
  if (thread_x() == 0) {
    uint32_t* const counter = p.counters + item.counter * p.kv_heads + block_y();
    thread_fence();
    const uint32_t before = atomic_add(counter, 1u);
    thread_fence();
    is_last[0] = before + 1 == static_cast<uint32_t>(item.splits) ? 1u : 0u;
  }
  sync_threads();
  if (is_last[0] != 0) CombinePartials<S>(p, item);
}

}  // namespace tessera::cuda
