// The kernel of items whose rows one block finishes alone: prefill and vision.
#pragma once

#include "kernels/cuda/attention_launch.cuh"

namespace tessera::cuda {

template <typename S>
TESSERA_DEVICE void PrefillTile(const AttentionParams& p) {
  DYN_SMEM(shared);
  const AttentionItem item = LoadItem(p);
  AttentionTile<S> tile(p, item, smem_u32(shared));
  tile.Run();
  tile.StoreRows();
}

}  // namespace tessera::cuda
