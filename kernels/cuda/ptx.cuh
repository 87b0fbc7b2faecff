// device.cuh on a GPU: each PTX instruction in exactly one wrapper. Sections are those of the PTX ISA
// document, by name because their numbers move from edition to edition.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/device.cuh"

#define TESSERA_KERNEL __global__
#define TESSERA_BOUNDS(threads, blocks_per_sm) __launch_bounds__(threads, blocks_per_sm)
#define TESSERA_DEVICE __device__ __forceinline__

#define DYN_SMEM(name)                                                 \
  extern __shared__ __align__(128) uint8_t tessera_dynamic_smem[];     \
  uint8_t* const name = tessera_dynamic_smem
#define SHARED_ARRAY(T, name, count) __shared__ __align__(16) T name[count]

namespace tessera::cuda {

// "Special Registers": %tid, %ctaid, %ntid, %nctaid, %laneid
TESSERA_DEVICE uint32_t thread_x() { return threadIdx.x; }
TESSERA_DEVICE uint32_t block_x() { return blockIdx.x; }
TESSERA_DEVICE uint32_t block_y() { return blockIdx.y; }
TESSERA_DEVICE uint32_t block_z() { return blockIdx.z; }
TESSERA_DEVICE uint32_t block_dim_x() { return blockDim.x; }
TESSERA_DEVICE uint32_t grid_x() { return gridDim.x; }
TESSERA_DEVICE uint32_t grid_y() { return gridDim.y; }
TESSERA_DEVICE uint32_t grid_z() { return gridDim.z; }
TESSERA_DEVICE uint32_t lane_id() { return threadIdx.x % kWarpSize; }
TESSERA_DEVICE uint32_t warp_id() { return threadIdx.x / kWarpSize; }

// "Data Movement and Conversion Instructions: cvta"
TESSERA_DEVICE uint32_t smem_u32(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// "Data Movement and Conversion Instructions: ld", .shared
template <typename T>
TESSERA_DEVICE T lds(uint32_t address) {
  static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0);
  if constexpr (sizeof(T) == 16) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
    return __builtin_bit_cast(T, v);
  } else if constexpr (sizeof(T) == 8) {
    uint2 v;
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];"
                 : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
    return __builtin_bit_cast(T, v);
  } else if constexpr (sizeof(T) == 4) {
    uint32_t v;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
    return __builtin_bit_cast(T, v);
  } else if constexpr (sizeof(T) == 2) {
    uint16_t v;
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(v) : "r"(address) : "memory");
    return __builtin_bit_cast(T, v);
  } else {
    uint32_t v;
    asm volatile("ld.shared.u8 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
    return __builtin_bit_cast(T, static_cast<uint8_t>(v));
  }
}

// "Data Movement and Conversion Instructions: st", .shared
template <typename T>
TESSERA_DEVICE void sts(uint32_t address, T value) {
  static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0);
  if constexpr (sizeof(T) == 16) {
    auto v = __builtin_bit_cast(uint4, value);
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    auto v = __builtin_bit_cast(uint2, value);
    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(v.x), "r"(v.y) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    auto v = __builtin_bit_cast(uint32_t, value);
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
  } else if constexpr (sizeof(T) == 2) {
    auto v = __builtin_bit_cast(uint16_t, value);
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(v) : "memory");
  } else {
    uint32_t v = __builtin_bit_cast(uint8_t, value);
    asm volatile("st.shared.u8 [%0], %1;" ::"r"(address), "r"(v) : "memory");
  }
}

// "Data Movement and Conversion Instructions: ld", .global. Not .nc: a block may read what another
// block of the same launch published.
#define TESSERA_LOAD_GLOBAL(name, modifier)                                                      \
  template <typename T>                                                                          \
  TESSERA_DEVICE T name(const T* pointer) {                                                      \
    static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0);                        \
    const size_t address = __cvta_generic_to_global(pointer);                                    \
    if constexpr (sizeof(T) == 16) {                                                             \
      uint4 v;                                                                                   \
      asm volatile("ld.global" modifier ".v4.b32 {%0, %1, %2, %3}, [%4];"                        \
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(address) : "memory");      \
      return __builtin_bit_cast(T, v);                                                           \
    } else if constexpr (sizeof(T) == 8) {                                                       \
      uint2 v;                                                                                   \
      asm volatile("ld.global" modifier ".v2.b32 {%0, %1}, [%2];"                                \
                   : "=r"(v.x), "=r"(v.y) : "l"(address) : "memory");                            \
      return __builtin_bit_cast(T, v);                                                           \
    } else if constexpr (sizeof(T) == 4) {                                                       \
      uint32_t v;                                                                                \
      asm volatile("ld.global" modifier ".b32 %0, [%1];" : "=r"(v) : "l"(address) : "memory");   \
      return __builtin_bit_cast(T, v);                                                           \
    } else if constexpr (sizeof(T) == 2) {                                                       \
      uint16_t v;                                                                                \
      asm volatile("ld.global" modifier ".b16 %0, [%1];" : "=h"(v) : "l"(address) : "memory");   \
      return __builtin_bit_cast(T, v);                                                           \
    } else {                                                                                     \
      uint32_t v;                                                                                \
      asm volatile("ld.global" modifier ".u8 %0, [%1];" : "=r"(v) : "l"(address) : "memory");    \
      return __builtin_bit_cast(T, static_cast<uint8_t>(v));                                     \
    }                                                                                            \
  }
TESSERA_LOAD_GLOBAL(ldg, "")
TESSERA_LOAD_GLOBAL(ldg_stream, ".L1::no_allocate")
#undef TESSERA_LOAD_GLOBAL

// "Data Movement and Conversion Instructions: st", .global
template <typename T>
TESSERA_DEVICE void stg(T* pointer, T value) {
  static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0);
  const size_t address = __cvta_generic_to_global(pointer);
  if constexpr (sizeof(T) == 16) {
    auto v = __builtin_bit_cast(uint4, value);
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    auto v = __builtin_bit_cast(uint2, value);
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(v.x), "r"(v.y) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    auto v = __builtin_bit_cast(uint32_t, value);
    asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(v) : "memory");
  } else if constexpr (sizeof(T) == 2) {
    auto v = __builtin_bit_cast(uint16_t, value);
    asm volatile("st.global.b16 [%0], %1;" ::"l"(address), "h"(v) : "memory");
  } else {
    uint32_t v = __builtin_bit_cast(uint8_t, value);
    asm volatile("st.global.u8 [%0], %1;" ::"l"(address), "r"(v) : "memory");
  }
}

// "Data Movement and Conversion Instructions: cp.async". A source size of 0 reads nothing and writes
// zeros. .cg passes L1 by and exists for 16 bytes only.
TESSERA_DEVICE void cp_async16(uint32_t smem, const void* global, bool pred) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem),
               "l"(__cvta_generic_to_global(global)), "r"(pred ? 16 : 0) : "memory");
}
TESSERA_DEVICE void cp_async4(uint32_t smem, const void* global, bool pred) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem),
               "l"(__cvta_generic_to_global(global)), "r"(pred ? 4 : 0) : "memory");
}
// "Data Movement and Conversion Instructions: cp.async.commit_group"
TESSERA_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// "Data Movement and Conversion Instructions: cp.async.wait_group"
template <int kOpen>
TESSERA_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kOpen) : "memory");
}

// "Parallel Synchronization and Communication Instructions: bar / barrier"
TESSERA_DEVICE void sync_threads() { __syncthreads(); }
TESSERA_DEVICE void named_barrier(int id, int threads) {
  asm volatile("barrier.sync.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// "Parallel Synchronization and Communication Instructions: bar.warp.sync"
TESSERA_DEVICE void sync_warp() { __syncwarp(); }
// "Parallel Synchronization and Communication Instructions: membar / fence"
TESSERA_DEVICE void thread_fence() { __threadfence(); }

// "Parallel Synchronization and Communication Instructions: shfl.sync" (64 bits: two of them)
template <typename T>
TESSERA_DEVICE T shfl_xor(T value, uint32_t mask) {
  return __shfl_xor_sync(0xffffffffu, value, static_cast<int>(mask));
}
template <typename T>
TESSERA_DEVICE T shfl_down(T value, uint32_t delta) {
  return __shfl_down_sync(0xffffffffu, value, delta);
}
template <typename T>
TESSERA_DEVICE T shfl_idx(T value, uint32_t lane) {
  return __shfl_sync(0xffffffffu, value, static_cast<int>(lane));
}
// "Parallel Synchronization and Communication Instructions: vote.sync", .ballot
TESSERA_DEVICE uint32_t ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }

// "Parallel Synchronization and Communication Instructions: atom", .relaxed.gpu
TESSERA_DEVICE int32_t atomic_add(int32_t* pointer, int32_t v) { return atomicAdd(pointer, v); }
TESSERA_DEVICE uint32_t atomic_add(uint32_t* pointer, uint32_t v) { return atomicAdd(pointer, v); }
TESSERA_DEVICE uint64_t atomic_add(uint64_t* pointer, uint64_t v) {
  return atomicAdd(reinterpret_cast<unsigned long long*>(pointer), v);
}
TESSERA_DEVICE float atomic_add(float* pointer, float v) { return atomicAdd(pointer, v); }
TESSERA_DEVICE int32_t atomic_max(int32_t* pointer, int32_t v) { return atomicMax(pointer, v); }
TESSERA_DEVICE uint32_t atomic_add_shared(uint32_t address, uint32_t v) {
  uint32_t old;
  asm volatile("atom.shared.add.u32 %0, [%1], %2;" : "=r"(old) : "r"(address), "r"(v) : "memory");
  return old;
}

}  // namespace tessera::cuda

#include "kernels/cuda/ptx_math.cuh"
