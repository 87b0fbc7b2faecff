// Causal self-attention of chunks of prompts over the paged cache, ragged: a block takes one tile
// of one sequence and one K/V head. Fully masked key blocks are skipped by each row of warps on its
// own, so a tile's height costs no matrix work.
#include "kernels/cuda/attention_prefill.cuh"

namespace tessera::cuda {

template <typename S>
TESSERA_KERNEL TESSERA_BOUNDS(S::kThreads, S::kBlocks) void SelfPrefillKernel(AttentionParams p) {
  PrefillTile<S>(p);
}

LaunchStatus LaunchSelfPrefill(AttentionType type, const AttentionParams& p, Stream stream) {
  return WithInstance(type, p.head_dim, [&]<typename T, int kDim>() {
    using Shape = PrefillShape<T, kDim, true, Keys::kSelf>;
    return LaunchTile<Shape>(&SelfPrefillKernel<Shape>, p, stream);
  });
}

}  // namespace tessera::cuda
