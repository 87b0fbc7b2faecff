// The kernel of items whose keys are spread over blocks: decode.
//
// Flash-Decoding (Dao, Haziza, Massa, Sizov, 2023) with a fixed split of 512 keys, so that what is
// added in which order depends on the row's length alone; 512 keys are 1 MB of K and V in a group
// of four heads of 128 features over eight K/V heads, against 32 KB of partial results. The last
// block of a row to finish, found by an atomic counter, combines all splits in ascending order: no
// second launch.
#pragma once

#include "kernels/cuda/attention_launch.cuh"

namespace tessera::cuda {

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
  if (is_last[0] != 0) tile.CombinePartials();
}

}  // namespace tessera::cuda
