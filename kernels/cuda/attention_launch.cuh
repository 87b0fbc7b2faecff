// Which instance of a kernel runs: type x head dim, and the tile shapes per head dim.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::cuda {

// Prefill and vision: 128 query vectors up to D = 128 (for each K/V byte that is read once, 128
// vectors are worked on); beyond, registers for O and its fold and an A100's 163 KB of shared
// memory allow 64, and 32 at 256. Small heads under a fold: 16 warps of few registers, else 8 of
// many; two blocks per SM where all fits twice.
template <typename T, int kDim, bool kFold, Keys kKeys>
using PrefillShape = TileShape<T, kDim, kDim <= 192 ? 2 : 1, kDim <= 128 ? 4 : 2,
                               (kDim > 128 || (kFold && kDim <= 64)) ? 4 : 2, kFold, kKeys,
                               !kFold && kDim <= 80 ? 2 : 1>;

// Decode: one row of warps; each takes 16 of the keys and a quarter of the columns.
template <typename T, int kDim, int kVectors, Keys kKeys>
using DecodeShape = TileShape<T, kDim, kVectors / 16, 1, 4, false, kKeys, 1>;

template <typename T, typename Launch>
LaunchStatus WithHeadDim(int head_dim, Launch&& launch) {
  if (head_dim <= 32) return launch.template operator()<T, 32>();
  if (head_dim <= 64) return launch.template operator()<T, 64>();
  if (head_dim <= 80) return launch.template operator()<T, 80>();
  if (head_dim <= 96) return launch.template operator()<T, 96>();
  if (head_dim <= 128) return launch.template operator()<T, 128>();
  if (head_dim <= 160) return launch.template operator()<T, 160>();
  if (head_dim <= 192) return launch.template operator()<T, 192>();
  return launch.template operator()<T, 256>();
}
template <typename Launch>
LaunchStatus WithInstance(AttentionType type, int head_dim, Launch&& launch) {
  return type == AttentionType::kF16 ? WithHeadDim<half_t>(head_dim, launch)
                                     : WithHeadDim<bf16_t>(head_dim, launch);
}

template <typename S>
LaunchStatus LaunchTile(void (*kernel)(AttentionParams), const AttentionParams& p, Stream stream) {
  const Grid grid{static_cast<unsigned>(p.item_count), static_cast<unsigned>(p.kv_heads), 1};
  return launch(kernel, grid, S::kThreads, S::kSharedBytes, stream, p);
}

}  // namespace tessera::cuda
