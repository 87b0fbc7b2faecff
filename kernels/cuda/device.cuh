// The vocabulary of our CUDA kernels. A kernel is written in these words alone: no asm, no raw
// __shared__, no <<<>>>, no threadIdx. The same source is then built twice,
//   by nvcc            against ptx.cuh               every word is one PTX instruction or intrinsic
//   by a C++ compiler  against emulation/device.h    every word is executed, checked and counted
// and this file is the only one, beside launch.cuh, that knows there are two.
//
// A kernel takes one trivially copyable struct by value and is not in an anonymous namespace:
//
//   template <typename T>
//   TESSERA_KERNEL TESSERA_BOUNDS(128, 4) void AddKernel(AddParams p) {
//     const uint32_t i = block_x() * block_dim_x() + thread_x();
//     if (i < p.count) stg(p.out + i, from_float<T>(to_float(ldg(p.a + i)) + to_float(ldg(p.b + i))));
//   }
//
// Where I am      thread_x() block_x() block_y() block_z() block_dim_x() grid_x() grid_y() grid_z()
//                 lane_id() warp_id()
// Shared memory   DYN_SMEM(name): uint8_t* of the launch's dynamic bytes, 128-byte aligned, and
//                 SHARED_ARRAY(T, name, count); smem_u32(pointer or array) is its 32-bit address, which
//                 lds<T>(address), sts(address, value) and ldmatrix take. T has 1, 2, 4, 8 or 16 bytes
//                 and addresses are multiples of its size.
// Global memory   ldg(pointer), ldg_stream(pointer) (read once: kept out of L1), stg(pointer, value)
// Asynchronous    cp_async16(smem, global, pred), cp_async4: 16 or 4 bytes to shared memory, zeros
//                 where pred is false (the pointer is then not read). cp_async_commit() closes a group,
//                 cp_async_wait<N>() waits until at most N groups of this thread are open; the bytes are
//                 visible to this thread then, to the others after the next sync_threads().
// Barriers        sync_threads(), sync_warp(), named_barrier(id, threads), id 1 to 15. Every thread (of
//                 the warp) arrives at the same call. Shuffles, ballot, ldmatrix and mma are executed
//                 by the full warp too but order no memory: that is what sync_warp() is for.
// Warps           shfl_xor(v, mask) shfl_down(v, delta) shfl_idx(v, lane): 32- and 64-bit values;
//                 ballot(bool)
// Atomics         atomic_add(pointer, v): int32, uint32, uint64, float; atomic_max(int32*, v);
//                 atomic_add_shared(address, uint32): relaxed, return the old value. thread_fence()
//                 makes them publish: all write; sync_threads(); one thread: thread_fence(),
//                 atomic_add(counter, 1), thread_fence(); sync_threads(); the last block reads.
// Matrices        ldmatrix_x4(_trans)(r, address), ldmatrix_x2(_trans), mma_16x8x16<T>(d, a, b)
// Numbers         bf16_t, half_t, to_float(x), from_float<T>(f), pack2<T>(lo, hi), unpack2<T>(u32);
//                 fma_rn, rsqrt_rn, exp_f, erf_f, tanh_f as IEEE and libm; fast_exp2, fast_rcp by
//                 the special function unit (2 ulp or so); dadd_rn, dmul_rn, ddiv_rn, dfma, fadd_rn,
//                 fmul_rn are never contracted; umulhi64
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera::cuda {

// Storage types. Arithmetic is done in float.
struct bf16_t {
  uint16_t bits;
};
struct half_t {
  uint16_t bits;
};

struct float2_t {
  float x;
  float y;
};

inline constexpr uint32_t kWarpSize = 32;

}  // namespace tessera::cuda

#ifdef TESSERA_CUDA_EMULATED
#include "kernels/cuda/emulation/device.h"
#else
#include "kernels/cuda/ptx.cuh"
#endif
