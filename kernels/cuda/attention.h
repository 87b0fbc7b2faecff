// Attention on the GPU: what the kernels take, and how the host cuts a call into work items.
//
// One algorithm serves every kernel (attention_tile.cuh), so that a row's bits do not depend on
// which of them computes it, nor on the other rows of the call:
//   - keys in blocks of 64 counted from position 0 (of each tile of a picture, in cross-attention);
//   - online softmax within a split of 16 blocks; splits are combined in ascending order.
// The prefill kernels walk through the splits of their rows one after another and combine in
// registers; the decode kernels give every split to a block of its own and the last block to finish
// combines, in the same order by the same operations (Flash-Decoding with a fixed split). Hence
// decoding, recomputing after preemption, and any chunking of a prompt give equal bits.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera::cuda {

// Storage of activations and of the cache.
enum class AttentionType : uint8_t { kBf16, kF16 };

// Constants of the op contract, which kernels do not include: host headers take seconds to compile.
// attention.cc holds the two together.
inline constexpr int kKeyBlock = 64;   // kAttentionKeyBlock
inline constexpr int kPageBlock = 16;  // kKvBlockTokens

inline constexpr int kSplitBlocks = 16;  // key blocks of a split
inline constexpr int kSplitKeys = kSplitBlocks * kKeyBlock;
inline constexpr int kTableBlocks = 8;  // key blocks whose table entries a warp holds, one a lane
inline constexpr int kMaxAttentionHeadDim = 256;

// One tile of query vectors of one K/V head's group. A vector is a pair (row, head): vector v of a
// run of rows is row v / group, head v % group of the group, so that all heads that share a K/V
// head stand in one tile and K and V are read once for them. 48 bytes, read by every thread of the
// block.
struct alignas(16) AttentionItem {
  int32_t row_begin = 0;       // row of vector 0 of the run
  int32_t vector_begin = 0;    // first vector of this tile, counted in the run
  int32_t vectors = 0;         // of this tile, at most the kernel's tile height
  int32_t first_position = 0;  // self: position of row row_begin
  int32_t table_begin = 0;     // first entry of `table`
  int32_t keys = 0;            // self and dense: keys that exist for this tile
  int32_t block_begin = 0;     // key blocks [begin, end); begin is a multiple of kSplitBlocks
  int32_t block_end = 0;
  int32_t partial_begin = 0;  // decode: vector 0 of split 0 in the scratch of partial results
  int32_t split = 0;          // decode: which of `splits` this is
  int32_t splits = 1;
  int32_t counter = 0;  // decode: index among the launch's counters
};

struct AttentionParams {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* out = nullptr;
  const AttentionItem* items = nullptr;
  // Self: block tables. Cross: pages of tiles. Dense: null, or padding bits of the keys, two words
  // a key block.
  const int32_t* table = nullptr;
  float* partial = nullptr;      // decode: [kv head][partial_vectors][head dim of the instance]
  float* partial_sum = nullptr;  // decode: [kv head][partial_vectors][2], maximum and sum
  uint32_t* counters = nullptr;  // decode: [counter][kv head], zero before
  int64_t q_stride = 0;          // elements from row to row
  int64_t out_stride = 0;
  int64_t k_stride = 0;  // dense: from key to key. Paged: from block of 16 keys to block
  int64_t v_stride = 0;
  int32_t item_count = 0;
  int32_t partial_vectors = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t group = 1;            // query heads of a K/V head
  int32_t blocks_per_page = 1;  // of 16 keys
  int32_t tile_keys = 0;        // cross: P
  int32_t tile_blocks = 1;      // cross: key blocks of a tile, ceil(P / 64)
  int64_t first_row = 0;        // dense: position of row 0 among the keys
  float scale_log2 = 0;         // scale * log2(e): exponentials are base 2
  bool vectors = false;         // rows of 16-byte pieces; else loads and stores one by one
};

// The head dim of the instance that serves D: the next of 32, 64, 80, 96, 128, 160, 192, 256.
int InstanceHeadDim(int head_dim);
// Query vectors of a tile of the prefill kernels.
int PrefillTileVectors(int head_dim);
inline constexpr int kDecodeTileVectors[] = {16, 32};

// `item_count` items are in p.items; grid (items, kv_heads).
LaunchStatus LaunchSelfPrefill(AttentionType type, const AttentionParams& p, Stream stream);
LaunchStatus LaunchCrossPrefill(AttentionType type, const AttentionParams& p, Stream stream);
LaunchStatus LaunchVision(AttentionType type, const AttentionParams& p, Stream stream);
// tile_vectors: 16 or 32.
LaunchStatus LaunchSelfDecode(AttentionType type, int tile_vectors, const AttentionParams& p,
                              Stream stream);
LaunchStatus LaunchCrossDecode(AttentionType type, int tile_vectors, const AttentionParams& p,
                               Stream stream);

struct RopeParams {
  void* q = nullptr;  // null: no queries
  void* k = nullptr;
  const void* v = nullptr;
  void* k_cache = nullptr;
  void* v_cache = nullptr;
  const float* cos_table = nullptr;  // null: no rotation
  const float* sin_table = nullptr;
  const int32_t* positions = nullptr;
  const int64_t* slots = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  int32_t rows = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t half = 0;  // rotary_dim / 2
  int32_t page_tokens = 0;
  int32_t blocks_per_page = 0;
  bool vectors = false;  // every piece of 8 features is 16-byte aligned and rotates as a whole
};
LaunchStatus LaunchRopeWriteKv(AttentionType type, const RopeParams& p, Stream stream);

struct CopyPagesParams {
  void* k = nullptr;
  void* v = nullptr;
  const int32_t* copies = nullptr;  // pairs from, to
  int64_t page_bytes = 0;           // of K alone; a multiple of 32
  int32_t count = 0;
};
LaunchStatus LaunchCopyPages(const CopyPagesParams& p, Stream stream);

}  // namespace tessera::cuda
