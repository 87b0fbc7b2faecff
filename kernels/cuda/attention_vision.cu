// Attention of the vision encoder: not causal, K and V given whole as rows of a (fused) projection.
// The mask is the reference's: a padding query does not see padding keys, all other pairs see each
// other. Padding comes as one bit a key, two words a key block; blocks without any take the path
// without a mask.
#include "kernels/cuda/attention_prefill.cuh"

namespace tessera::cuda {

template <typename S>
TESSERA_KERNEL TESSERA_BOUNDS(S::kThreads, S::kBlocks) void VisionKernel(AttentionParams p) {
  PrefillTile<S>(p);
}

LaunchStatus LaunchVision(AttentionType type, const AttentionParams& p, Stream stream) {
  return WithInstance(type, p.head_dim, [&]<typename T, int kDim>() {
    using Shape = PrefillShape<T, kDim, false, Keys::kDense>;
    return LaunchTile<Shape>(&VisionKernel<Shape>, p, stream);
  });
}

}  // namespace tessera::cuda
