// Cross-attention over the pages of tiles. Rows that see the same tiles form one run, whatever
// sequence they belong to, and their heads one tile of vectors: the pages of a picture that several
// sequences share are read once for all of them (as the shared prefixes of cascade inference in
// FlashInfer, Ye et al., 2025, and of Hydragen, Juravsky et al., 2024). Few vectors: splits in
// blocks of their own; many: one block walks through all tiles.
#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_prefill.cuh"

namespace tessera::cuda {

template <typename S>
TESSERA_KERNEL TESSERA_BOUNDS(S::kThreads, S::kBlocks) void CrossPrefillKernel(AttentionParams p) {
  PrefillTile<S>(p);
}

template <typename S>
TESSERA_KERNEL TESSERA_BOUNDS(S::kThreads, S::kBlocks) void CrossDecodeKernel(AttentionParams p) {
  DecodeTile<S>(p);
}

LaunchStatus LaunchCrossPrefill(AttentionType type, const AttentionParams& p, Stream stream) {
  return WithInstance(type, p.head_dim, [&]<typename T, int kDim>() {
    using Shape = PrefillShape<T, kDim, true, Keys::kCross>;
    return LaunchTile<Shape>(&CrossPrefillKernel<Shape>, p, stream);
  });
}

LaunchStatus LaunchCrossDecode(AttentionType type, int tile_vectors, const AttentionParams& p,
                               Stream stream) {
  return WithInstance(type, p.head_dim, [&]<typename T, int kDim>() {
    using Narrow = DecodeShape<T, kDim, 16, Keys::kCross>;
    using Wide = DecodeShape<T, kDim, 32, Keys::kCross>;
    return tile_vectors <= 16 ? LaunchTile<Narrow>(&CrossDecodeKernel<Narrow>, p, stream)
                              : LaunchTile<Wide>(&CrossDecodeKernel<Wide>, p, stream);
  });
}

}  // namespace tessera::cuda
