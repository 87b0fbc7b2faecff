// How attention sees the K/V pools.
//
// Both pools consist of blocks of kKvBlockTokens tokens. A page of self-attention K/V is one block.
// A page of cross-attention K/V holds one tile of one picture: ceil(tile_tokens / kKvBlockTokens)
// consecutive blocks, of which only tile_tokens keys exist. The order of elements inside a block is
// the backend's own business (the CPU keeps K transposed, so that one vector holds one feature of
// 16 keys); only its ops read and write them.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace tessera {

inline constexpr int kKvBlockTokens = 16;

// The shape of one pool. Bytes of a page over all layers: page_bytes().
struct KvGeometry {
  int layers = 0;       // self pool: self-attention layers; cross pool: cross-attention layers
  int kv_heads = 0;     // G
  int head_dim = 0;     // D
  int page_tokens = 0;  // keys in a page: kKvBlockTokens, or tokens of a tile (patches + 1)
  DType dtype = DType::kF32;

  int blocks_per_page() const { return (page_tokens + kKvBlockTokens - 1) / kKvBlockTokens; }
  // Elements of K (and as many of V) of one head in one block. int8 keeps a scale of 4 bytes per
  // token and head in front of the block's numbers: number * scale is the value.
  int64_t block_elements() const {
    return int64_t{kKvBlockTokens} * (head_dim + (dtype == DType::kI8 ? 4 : 0));
  }
  // Elements of K (and as many of V) of one layer in one page.
  int64_t page_elements() const { return blocks_per_page() * kv_heads * block_elements(); }
  int64_t page_bytes() const {
    return page_elements() * 2 * static_cast<int64_t>(SizeOf(dtype)) * layers;
  }
};

// One layer of one pool: K of page p starts at k + p * page_elements() elements, V likewise.
struct KvLayerView {
  void* k = nullptr;
  void* v = nullptr;
  KvGeometry geometry;
};

}  // namespace tessera
