// RopeWriteKv and CopyKvPages: the only writers of the K/V pools. A block takes one row: its
// cosines and sines are read once for all heads.
//
// Pool layout: [block of 16 keys][kv head][16][D]. The keys of a head's block are contiguous, so a
// warp of an attention kernel loads whole sectors, and a token's write is D contiguous elements a
// head.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::cuda {
namespace {

constexpr int kRopeThreads = 128;
constexpr int kCopyThreads = 256;
constexpr int kCopyPieces = 4;  // of 16 bytes, a thread

}  // namespace

// Where the row's K and V go, element offset of head 0.
TESSERA_DEVICE int64_t SlotOffset(const RopeParams& p, int64_t slot) {
  const int64_t page = slot / p.page_tokens, token = slot % p.page_tokens;
  const int64_t block = page * p.blocks_per_page + token / kPageBlock;
  return (block * p.kv_heads * kPageBlock + token % kPageBlock) * p.head_dim;
}

template <typename T>
TESSERA_DEVICE void Unpack(const uint4& from, float (&to)[8]) {
  const uint32_t words[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2_t pair = unpack2<T>(words[i]);
    to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
  }
}
template <typename T>
TESSERA_DEVICE uint4 Pack(const float (&from)[8]) {
  return {pack2<T>(from[0], from[1]), pack2<T>(from[2], from[3]), pack2<T>(from[4], from[5]),
          pack2<T>(from[6], from[7])};
}

// (a, b) turned by an angle: features d and d + half. Products and sum are rounded one by one, as
// on every backend.
TESSERA_DEVICE float Turned(float a, float b, float cosine, float sine) {
  return fadd_rn(fmul_rn(a, cosine), -fmul_rn(b, sine));
}
TESSERA_DEVICE float TurnedBehind(float a, float b, float cosine, float sine) {
  return fadd_rn(fmul_rn(b, cosine), fmul_rn(a, sine));
}

// Pieces of 8 features. Shared memory: cosines, then sines; of each first the first four features
// of all pieces, then the others, so that neighbouring lanes read neighbouring 16 bytes.
template <typename T>
TESSERA_KERNEL TESSERA_BOUNDS(kRopeThreads, 4) void RopeVectorKernel(RopeParams p) {
  DYN_SMEM(memory);
  const uint32_t table = smem_u32(memory);
  const int row = static_cast<int>(block_x()), thread = static_cast<int>(thread_x());
  const int half_pieces = p.half / 8, pieces = p.head_dim / 8;
  if (half_pieces > 0) {
    const int64_t from = int64_t{ldg(p.positions + row)} * p.half;
    for (int i = thread; i < p.half / 2; i += kRopeThreads) {  // quads: cosines, then sines
      const int quads = p.half / 4, quad = i % quads;
      const float* const source = i < quads ? p.cos_table : p.sin_table;
      const int to = i / quads * quads + quad % 2 * half_pieces + quad / 2;
      sts<float4>(table + static_cast<uint32_t>(to) * 16,
                  ldg(reinterpret_cast<const float4*>(source + from + quad * 4)));
    }
    sync_threads();
  }
  const int64_t slot = SlotOffset(p, ldg(p.slots + row));
  const int64_t head_step = int64_t{kPageBlock} * p.head_dim;

  // Turned pairs of pieces, then K's pieces that do not turn, then V.
  const int q_heads = p.q == nullptr ? 0 : p.heads;
  const int pairs = (q_heads + p.kv_heads) * half_pieces;
  for (int i = thread; i < pairs; i += kRopeThreads) {
    const int head = i / half_pieces, piece = i % half_pieces;
    const bool is_k = head >= q_heads;
    T* const at = is_k ? static_cast<T*>(p.k) + row * p.k_stride + (head - q_heads) * p.head_dim
                       : static_cast<T*>(p.q) + row * p.q_stride + head * p.head_dim;
    auto* const first = reinterpret_cast<uint4*>(at + piece * 8);
    auto* const second = reinterpret_cast<uint4*>(at + p.half + piece * 8);
    float a[8], b[8], turned[8], behind[8];
    Unpack<T>(ldg(first), a);
    Unpack<T>(ldg(second), b);
#pragma unroll
    for (int quad = 0; quad < 2; ++quad) {
      const auto where = static_cast<uint32_t>(quad * half_pieces + piece) * 16;
      const auto cosines = lds<float4>(table + where);
      const auto sines = lds<float4>(table + where + static_cast<uint32_t>(p.half) * 4);
      const float c[4] = {cosines.x, cosines.y, cosines.z, cosines.w};
      const float s[4] = {sines.x, sines.y, sines.z, sines.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        turned[quad * 4 + e] = Turned(a[quad * 4 + e], b[quad * 4 + e], c[e], s[e]);
        behind[quad * 4 + e] = TurnedBehind(a[quad * 4 + e], b[quad * 4 + e], c[e], s[e]);
      }
    }
    const uint4 low = Pack<T>(turned), high = Pack<T>(behind);
    stg(first, low);
    stg(second, high);
    if (is_k) {
      T* const to = static_cast<T*>(p.k_cache) + slot + (head - q_heads) * head_step + piece * 8;
      stg(reinterpret_cast<uint4*>(to), low);
      stg(reinterpret_cast<uint4*>(to + p.half), high);
    }
  }
  const int straight = pieces - 2 * half_pieces;
  for (int i = thread; i < p.kv_heads * straight; i += kRopeThreads) {
    const int head = i / straight, column = (2 * half_pieces + i % straight) * 8;
    stg(reinterpret_cast<uint4*>(static_cast<T*>(p.k_cache) + slot + head * head_step + column),
        ldg(reinterpret_cast<const uint4*>(static_cast<const T*>(p.k) + row * p.k_stride +
                                           head * p.head_dim + column)));
  }
  for (int i = thread; i < p.kv_heads * pieces; i += kRopeThreads) {
    const int head = i / pieces, column = i % pieces * 8;
    stg(reinterpret_cast<uint4*>(static_cast<T*>(p.v_cache) + slot + head * head_step + column),
        ldg(reinterpret_cast<const uint4*>(static_cast<const T*>(p.v) + row * p.v_stride +
                                           head * p.head_dim + column)));
  }
}

// Any shape and alignment, one feature at a time.
template <typename T>
TESSERA_KERNEL TESSERA_BOUNDS(kRopeThreads, 4) void RopeScalarKernel(RopeParams p) {
  const int row = static_cast<int>(block_x()), thread = static_cast<int>(thread_x());
  const int64_t slot = SlotOffset(p, ldg(p.slots + row));
  const int64_t head_step = int64_t{kPageBlock} * p.head_dim;
  const int q_heads = p.q == nullptr ? 0 : p.heads;
  const int64_t angles = p.half > 0 ? int64_t{ldg(p.positions + row)} * p.half : 0;
  const int pairs = (q_heads + p.kv_heads) * p.half;
  for (int i = thread; i < pairs; i += kRopeThreads) {
    const int head = i / p.half, d = i % p.half;
    const bool is_k = head >= q_heads;
    T* const at = is_k ? static_cast<T*>(p.k) + row * p.k_stride + (head - q_heads) * p.head_dim
                       : static_cast<T*>(p.q) + row * p.q_stride + head * p.head_dim;
    const float a = to_float(ldg(at + d)), b = to_float(ldg(at + d + p.half));
    const float cosine = ldg(p.cos_table + angles + d), sine = ldg(p.sin_table + angles + d);
    const T low = from_float<T>(Turned(a, b, cosine, sine));
    const T high = from_float<T>(TurnedBehind(a, b, cosine, sine));
    stg(at + d, low);
    stg(at + d + p.half, high);
    if (is_k) {
      T* const to = static_cast<T*>(p.k_cache) + slot + (head - q_heads) * head_step + d;
      stg(to, low);
      stg(to + p.half, high);
    }
  }
  for (int i = thread; i < p.kv_heads * p.head_dim; i += kRopeThreads) {
    const int head = i / p.head_dim, d = i % p.head_dim;
    const int64_t to = slot + head * head_step + d;
    if (d >= 2 * p.half)
      stg(static_cast<T*>(p.k_cache) + to, ldg(static_cast<const T*>(p.k) + row * p.k_stride + i));
    stg(static_cast<T*>(p.v_cache) + to, ldg(static_cast<const T*>(p.v) + row * p.v_stride + i));
  }
}

// A block copies a stretch of one page; y: K or V.
TESSERA_KERNEL TESSERA_BOUNDS(kCopyThreads, 4) void CopyPagesKernel(CopyPagesParams p) {
  const int64_t pieces = p.page_bytes / 16;
  const int64_t from = int64_t{ldg(p.copies + 2 * block_x())} * pieces;
  const int64_t to = int64_t{ldg(p.copies + 2 * block_x() + 1)} * pieces;
  auto* const pool = static_cast<uint4*>(block_y() == 0 ? p.k : p.v);
#pragma unroll
  for (int i = 0; i < kCopyPieces; ++i) {
    const int64_t at = (int64_t{block_z()} * kCopyPieces + i) * kCopyThreads + thread_x();
    if (at < pieces) stg(pool + to + at, ldg_stream(pool + from + at));
  }
}

LaunchStatus LaunchRopeWriteKv(AttentionType type, const RopeParams& p, Stream stream) {
  const Grid grid{static_cast<unsigned>(p.rows), 1, 1};
  if (!p.vectors) {
    return type == AttentionType::kF16
               ? launch(&RopeScalarKernel<half_t>, grid, kRopeThreads, 0, stream, p)
               : launch(&RopeScalarKernel<bf16_t>, grid, kRopeThreads, 0, stream, p);
  }
  const size_t shared = static_cast<size_t>(p.half) * 2 * sizeof(float);
  return type == AttentionType::kF16
             ? launch(&RopeVectorKernel<half_t>, grid, kRopeThreads, shared, stream, p)
             : launch(&RopeVectorKernel<bf16_t>, grid, kRopeThreads, shared, stream, p);
}

LaunchStatus LaunchCopyPages(const CopyPagesParams& p, Stream stream) {
  const int64_t per_block = int64_t{kCopyThreads} * kCopyPieces * 16;
  const Grid grid{static_cast<unsigned>(p.count), 2,
                  static_cast<unsigned>((p.page_bytes + per_block - 1) / per_block)};
  return launch(&CopyPagesKernel, grid, kCopyThreads, 0, stream, p);
}

}  // namespace tessera::cuda
