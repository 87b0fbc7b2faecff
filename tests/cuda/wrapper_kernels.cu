// Kernels that do one thing each with one word of device.cuh; tests/cuda/wrapper_test.cc says what has
// to come out. Inputs and outputs are arrays of the type under test.
#include "tests/cuda/wrapper_kernels.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace tessera::cuda {

template <typename T>
TESSERA_DEVICE const T* In(const WrapperParams& p) {
  return reinterpret_cast<const T*>(p.in);
}
template <typename T>
TESSERA_DEVICE T* Out(const WrapperParams& p) {
  return reinterpret_cast<T*>(p.out);
}

TESSERA_KERNEL void PlaceKernel(WrapperParams p) {
  const uint32_t block = (block_z() * grid_y() + block_y()) * grid_x() + block_x();
  uint32_t* out = Out<uint32_t>(p) + (block * block_dim_x() + thread_x()) * 10;
  stg(out + 0, thread_x());
  stg(out + 1, lane_id());
  stg(out + 2, warp_id());
  stg(out + 3, block_x());
  stg(out + 4, block_y());
  stg(out + 5, block_z());
  stg(out + 6, block_dim_x());
  stg(out + 7, grid_x());
  stg(out + 8, grid_y());
  stg(out + 9, grid_z());
}

// Reversed, through shared memory.
template <typename T>
TESSERA_KERNEL void SharedKernel(WrapperParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  sts(base + thread_x() * sizeof(T), ldg(In<T>(p) + thread_x()));
  sync_threads();
  const uint32_t other = block_dim_x() - 1 - thread_x();
  stg(Out<T>(p) + thread_x(), lds<T>(base + other * sizeof(T)));
}

TESSERA_KERNEL void SharedArrayKernel(WrapperParams p) {
  SHARED_ARRAY(uint32_t, first, 64);
  SHARED_ARRAY(uint16_t, second, 64);
  first[thread_x()] = ldg(In<uint32_t>(p) + thread_x());
  second[thread_x()] = static_cast<uint16_t>(thread_x());
  sync_threads();
  const uint32_t other = thread_x() ^ 33u;
  const uint32_t sum = first[other] + second[other];
  stg(Out<uint32_t>(p) + thread_x() * 2, sum);
  stg(Out<uint32_t>(p) + thread_x() * 2 + 1, lds<uint32_t>(smem_u32(first) + other * 4));
}

template <typename T, bool kStream>
TESSERA_KERNEL void GlobalKernel(WrapperParams p) {
  const T* in = In<T>(p) + (p.count - 1 - thread_x());
  stg(Out<T>(p) + thread_x(), kStream ? ldg_stream(in) : ldg(in));
}

// Two groups; odd threads copy zeros. After wait<1> the first group is there, after wait<0> both.
template <int kBytes>
TESSERA_KERNEL void CopyKernel(WrapperParams p) {
  DYN_SMEM(smem);
  const uint32_t mine = smem_u32(smem) + thread_x() * 2 * kBytes;
  const uint8_t* in = p.in + thread_x() * 2 * kBytes;
  uint8_t* out = p.out + thread_x() * 2 * kBytes;
  for (int i = 0; i < 2; ++i) {
    if constexpr (kBytes == 16) {
      cp_async16(mine + i * kBytes, in + i * kBytes, thread_x() % 2 == 0);
    } else {
      cp_async4(mine + i * kBytes, in + i * kBytes, thread_x() % 2 == 0);
    }
    cp_async_commit();
  }
  cp_async_wait<1>();
  for (int b = 0; b < kBytes; b += 4) stg(reinterpret_cast<uint32_t*>(out + b), lds<uint32_t>(mine + b));
  cp_async_wait<0>();
  for (int b = kBytes; b < 2 * kBytes; b += 4)
    stg(reinterpret_cast<uint32_t*>(out + b), lds<uint32_t>(mine + b));
}

// Thread i takes what thread i + 32 of the same group wrote. Warps 0 and 1 meet at barrier 1, warps 2
// and 3 at barrier 2.
TESSERA_KERNEL void NamedBarrierKernel(WrapperParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  sts(base + thread_x() * 4, ldg(In<uint32_t>(p) + thread_x()));
  named_barrier(1 + static_cast<int>(thread_x() / 64), 64);
  stg(Out<uint32_t>(p) + thread_x(), lds<uint32_t>(base + (thread_x() ^ 32u) * 4));
}

TESSERA_KERNEL void SyncWarpKernel(WrapperParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  sts(base + thread_x() * 4, ldg(In<uint32_t>(p) + thread_x()));
  sync_warp();
  stg(Out<uint32_t>(p) + thread_x(), lds<uint32_t>(base + (thread_x() ^ 5u) * 4));
}

// Three results a lane: xor 5, down 7, from lane 3 l + 1 (mod 32).
template <typename T>
TESSERA_KERNEL void ShuffleKernel(WrapperParams p) {
  const T v = ldg(In<T>(p) + lane_id());
  T* out = Out<T>(p) + lane_id() * 3;
  stg(out + 0, shfl_xor(v, 5u));
  stg(out + 1, shfl_down(v, 7u));
  stg(out + 2, shfl_idx(v, (lane_id() * 3 + 1) % kWarpSize));
}

TESSERA_KERNEL void BallotKernel(WrapperParams p) {
  stg(Out<uint32_t>(p) + thread_x(), ballot(ldg(In<uint32_t>(p) + thread_x()) % 2 == 1));
}

// out[0] is the sum, then by thread what it found before it added.
template <typename T>
TESSERA_KERNEL void AtomicAddKernel(WrapperParams p) {
  const uint32_t i = block_x() * block_dim_x() + thread_x();
  const T old = atomic_add(Out<T>(p), ldg(In<T>(p) + i));
  stg(Out<T>(p) + 1 + i, old);
}

TESSERA_KERNEL void AtomicMaxKernel(WrapperParams p) {
  const uint32_t i = block_x() * block_dim_x() + thread_x();
  atomic_max(Out<int32_t>(p), ldg(In<int32_t>(p) + i));
}

// A histogram of the low three bits.
TESSERA_KERNEL void AtomicSharedKernel(WrapperParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  if (thread_x() < 8) sts(base + thread_x() * 4, uint32_t{0});
  sync_threads();
  atomic_add_shared(base + ldg(In<uint32_t>(p) + thread_x()) % 8 * 4, 1u);
  sync_threads();
  if (thread_x() < 8) stg(Out<uint32_t>(p) + thread_x(), lds<uint32_t>(base + thread_x() * 4));
}

// Every block publishes its sum; the last one adds them. out: counter, total, then one sum per block.
TESSERA_KERNEL void ThreadFenceKernel(WrapperParams p) {
  SHARED_ARRAY(uint32_t, last, 1);
  uint32_t* out = Out<uint32_t>(p);
  uint32_t v = ldg(In<uint32_t>(p) + block_x() * kWarpSize + lane_id());
  for (uint32_t m = 16; m > 0; m /= 2) v += shfl_xor(v, m);
  if (thread_x() == 0) {
    stg(out + 2 + block_x(), v);
    thread_fence();
    last[0] = atomic_add(out, 1u) == grid_x() - 1 ? 1u : 0u;
    thread_fence();
  }
  sync_threads();
  if (last[0] == 0 || thread_x() != 0) return;
  uint32_t total = 0;
  for (uint32_t b = 0; b < grid_x(); ++b) total += ldg(out + 2 + b);
  stg(out + 1, total);
}

// Rows of 16 bytes at a stride of 48, so that the address given by each lane matters.
template <int kCount, bool kTransposed>
TESSERA_KERNEL void LdmatrixKernel(WrapperParams p) {
  DYN_SMEM(smem);
  const uint32_t base = smem_u32(smem);
  sts(base + lane_id() * 48, ldg(In<uint4>(p) + lane_id()));
  sync_warp();
  uint32_t r[kCount];
  const uint32_t address = base + lane_id() % (8 * kCount) * 48;
  if constexpr (kCount == 4) {
    kTransposed ? ldmatrix_x4_trans(r, address) : ldmatrix_x4(r, address);
  } else {
    kTransposed ? ldmatrix_x2_trans(r, address) : ldmatrix_x2(r, address);
  }
  for (int j = 0; j < kCount; ++j) stg(Out<uint32_t>(p) + lane_id() * kCount + j, r[j]);
}

// in: by lane 4 registers of A, 2 of B, 4 of D; out: D.
template <typename T>
TESSERA_KERNEL void MmaKernel(WrapperParams p) {
  const uint32_t* in = In<uint32_t>(p) + lane_id() * 10;
  uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 4; ++i) a[i] = ldg(in + i);
  for (int i = 0; i < 2; ++i) b[i] = ldg(in + 4 + i);
  for (int i = 0; i < 4; ++i) d[i] = ldg(reinterpret_cast<const float*>(in) + 6 + i);
  mma_16x8x16<T>(d, a, b);
  for (int i = 0; i < 4; ++i) stg(Out<float>(p) + lane_id() * 4 + i, d[i]);
}

// y[i] = f(x[i]) over p.count elements.
template <typename X, typename Y, typename F>
TESSERA_DEVICE void Map(const WrapperParams& p, F f) {
  for (uint32_t i = block_x() * block_dim_x() + thread_x(); i < p.count; i += grid_x() * block_dim_x())
    stg(Out<Y>(p) + i, static_cast<Y>(f(ldg(In<X>(p) + i))));
}
// y[i] = f(x[3i], x[3i+1], x[3i+2])
template <typename X, typename F>
TESSERA_DEVICE void Map3(const WrapperParams& p, F f) {
  for (uint32_t i = block_x() * block_dim_x() + thread_x(); i < p.count; i += grid_x() * block_dim_x()) {
    const X* x = In<X>(p) + i * 3;
    stg(Out<X>(p) + i, f(ldg(x), ldg(x + 1), ldg(x + 2)));
  }
}

template <typename T>
TESSERA_KERNEL void ToFloatKernel(WrapperParams p) {
  Map<T, float>(p, [](T x) { return to_float(x); });
}
template <typename T>
TESSERA_KERNEL void FromFloatKernel(WrapperParams p) {
  Map<float, T>(p, [](float x) { return from_float<T>(x); });
}
// Pairs: out the packed word of (x, -2x), and the sum of the unpacked.
struct PackResult {
  uint32_t packed;
  float sum;
};
template <typename T>
TESSERA_KERNEL void PackKernel(WrapperParams p) {
  Map<float, PackResult>(p, [](float x) {
    const uint32_t packed = pack2<T>(x, -2.0f * x);
    const float2_t both = unpack2<T>(packed);
    return PackResult{packed, both.x + 4.0f * both.y};
  });
}

#define TESSERA_MAP_KERNEL(name, type, expression)         \
  TESSERA_KERNEL void name##Kernel(WrapperParams p) {      \
    Map<type, type>(p, [](type x) { return expression; }); \
  }
#define TESSERA_MAP3_KERNEL(name, type, expression)                                           \
  TESSERA_KERNEL void name##Kernel(WrapperParams p) {                                         \
    Map3<type>(p, [](type x, [[maybe_unused]] type y, [[maybe_unused]] type z) {              \
      return expression;                                                                      \
    });                                                                                       \
  }
TESSERA_MAP_KERNEL(FastExp2, float, fast_exp2(x))
TESSERA_MAP_KERNEL(FastRcp, float, fast_rcp(x))
TESSERA_MAP_KERNEL(RsqrtRn, float, rsqrt_rn(x))
TESSERA_MAP_KERNEL(ExpF, float, exp_f(x))
TESSERA_MAP_KERNEL(ErfF, float, erf_f(x))
TESSERA_MAP_KERNEL(TanhF, float, tanh_f(x))
TESSERA_MAP3_KERNEL(FmaRn, float, fma_rn(x, y, z))
TESSERA_MAP3_KERNEL(FaddRn, float, fadd_rn(x, y))
TESSERA_MAP3_KERNEL(FmulRn, float, fadd_rn(fmul_rn(x, y), z))
TESSERA_MAP3_KERNEL(FdivRn, float, fdiv_rn(x, y))
TESSERA_MAP3_KERNEL(DaddRn, double, dadd_rn(x, y))
TESSERA_MAP3_KERNEL(DmulRn, double, dadd_rn(dmul_rn(x, y), z))
TESSERA_MAP3_KERNEL(DdivRn, double, ddiv_rn(x, y))
TESSERA_MAP3_KERNEL(Dfma, double, dfma(x, y, z))
TESSERA_MAP3_KERNEL(Umulhi64, uint64_t, umulhi64(x, y))
#undef TESSERA_MAP_KERNEL
#undef TESSERA_MAP3_KERNEL

namespace {

struct Entry {
  std::string_view name;
  void (*kernel)(WrapperParams);
  size_t smem_bytes;
};

const std::vector<Entry>& Entries() {
  static const std::vector<Entry> entries = {
      {"place", &PlaceKernel, 0},
      {"lds_sts 1", &SharedKernel<uint8_t>, 64},
      {"lds_sts 2", &SharedKernel<uint16_t>, 128},
      {"lds_sts 4", &SharedKernel<uint32_t>, 256},
      {"lds_sts 8", &SharedKernel<uint2>, 512},
      {"lds_sts 16", &SharedKernel<uint4>, 1024},
      {"shared_array", &SharedArrayKernel, 0},
      {"ldg_stg 1", &GlobalKernel<uint8_t, false>, 0},
      {"ldg_stg 2", &GlobalKernel<bf16_t, false>, 0},
      {"ldg_stg 4", &GlobalKernel<float, false>, 0},
      {"ldg_stg 8", &GlobalKernel<uint2, false>, 0},
      {"ldg_stg 16", &GlobalKernel<uint4, false>, 0},
      {"ldg_stream 2", &GlobalKernel<half_t, true>, 0},
      {"ldg_stream 4", &GlobalKernel<int32_t, true>, 0},
      {"ldg_stream 16", &GlobalKernel<float4, true>, 0},
      {"cp_async 16", &CopyKernel<16>, 64 * 32},
      {"cp_async 4", &CopyKernel<4>, 64 * 8},
      {"named_barrier", &NamedBarrierKernel, 128 * 4},
      {"sync_warp", &SyncWarpKernel, 64 * 4},
      {"shfl float", &ShuffleKernel<float>, 0},
      {"shfl int32", &ShuffleKernel<int32_t>, 0},
      {"shfl uint32", &ShuffleKernel<uint32_t>, 0},
      {"shfl double", &ShuffleKernel<double>, 0},
      {"shfl uint64", &ShuffleKernel<uint64_t>, 0},
      {"ballot", &BallotKernel, 0},
      {"atomic_add int32", &AtomicAddKernel<int32_t>, 0},
      {"atomic_add uint32", &AtomicAddKernel<uint32_t>, 0},
      {"atomic_add uint64", &AtomicAddKernel<uint64_t>, 0},
      {"atomic_add float", &AtomicAddKernel<float>, 0},
      {"atomic_max", &AtomicMaxKernel, 0},
      {"atomic_add_shared", &AtomicSharedKernel, 32},
      {"thread_fence", &ThreadFenceKernel, 0},
      {"ldmatrix_x4", &LdmatrixKernel<4, false>, 32 * 48},
      {"ldmatrix_x4_trans", &LdmatrixKernel<4, true>, 32 * 48},
      {"ldmatrix_x2", &LdmatrixKernel<2, false>, 32 * 48},
      {"ldmatrix_x2_trans", &LdmatrixKernel<2, true>, 32 * 48},
      {"mma bf16", &MmaKernel<bf16_t>, 0},
      {"mma half", &MmaKernel<half_t>, 0},
      {"to_float bf16", &ToFloatKernel<bf16_t>, 0},
      {"to_float half", &ToFloatKernel<half_t>, 0},
      {"from_float bf16", &FromFloatKernel<bf16_t>, 0},
      {"from_float half", &FromFloatKernel<half_t>, 0},
      {"pack2 bf16", &PackKernel<bf16_t>, 0},
      {"pack2 half", &PackKernel<half_t>, 0},
      {"fast_exp2", &FastExp2Kernel, 0},
      {"fast_rcp", &FastRcpKernel, 0},
      {"rsqrt_rn", &RsqrtRnKernel, 0},
      {"exp_f", &ExpFKernel, 0},
      {"erf_f", &ErfFKernel, 0},
      {"tanh_f", &TanhFKernel, 0},
      {"fma_rn", &FmaRnKernel, 0},
      {"fadd_rn", &FaddRnKernel, 0},
      {"fmul_rn", &FmulRnKernel, 0},
      {"fdiv_rn", &FdivRnKernel, 0},
      {"dadd_rn", &DaddRnKernel, 0},
      {"dmul_rn", &DmulRnKernel, 0},
      {"ddiv_rn", &DdivRnKernel, 0},
      {"dfma", &DfmaKernel, 0},
      {"umulhi64", &Umulhi64Kernel, 0},
  };
  return entries;
}

}  // namespace

std::vector<std::string_view> WrapperNames() {
  std::vector<std::string_view> names;
  for (const Entry& entry : Entries()) names.push_back(entry.name);
  return names;
}

LaunchStatus RunWrapper(std::string_view name, const WrapperParams& params, Grid grid,
                        unsigned threads, Stream stream) {
  for (const Entry& entry : Entries()) {
    if (entry.name == name) {
      return launch(entry.kernel, grid, threads, entry.smem_bytes, stream, params);
    }
  }
  return {1, "no such wrapper: " + std::string(name)};
}

}  // namespace tessera::cuda
