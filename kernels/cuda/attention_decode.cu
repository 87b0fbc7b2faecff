// Self-attention of decoding rows over the paged cache: the heads of a group are the rows of the
// matrix tile, so K and V are read once per K/V head.
#include "kernels/cuda/attention_decode.cuh"

namespace tessera::cuda {

template <typename S>
TESSERA_KERNEL TESSERA_BOUNDS(S::kThreads, S::kBlocks) void SelfDecodeKernel(AttentionParams p) {
  DecodeTile<S>(p);
}

LaunchStatus LaunchSelfDecode(AttentionType type, int tile_vectors, const AttentionParams& p,
                              Stream stream) {
  return WithInstance(type, p.head_dim, [&]<typename T, int kDim>() {
    using Narrow = DecodeShape<T, kDim, 16, Keys::kSelf>;
    using Wide = DecodeShape<T, kDim, 32, Keys::kSelf>;
    return tile_vectors <= 16 ? LaunchTile<Narrow>(&SelfDecodeKernel<Narrow>, p, stream)
                              : LaunchTile<Wide>(&SelfDecodeKernel<Wide>, p, stream);
  });
}

}  // namespace tessera::cuda
