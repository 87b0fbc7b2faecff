// device.cuh in the emulator: each word does what its PTX instruction does, after the checks.
#pragma once

#include <cstring>
#include <type_traits>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/numbers.h"
#include "kernels/cuda/emulation/warp_ops.h"

#define TESSERA_KERNEL
#define TESSERA_BOUNDS(threads, blocks_per_sm)
#define TESSERA_DEVICE inline

#define DYN_SMEM(name) \
  uint8_t* const name = ::tessera::cuda::emulation::current_thread->block->dynamic_shared()
#define SHARED_ARRAY(T, name, count) \
  const ::tessera::cuda::emulation::SharedArray<T> name(count, #name)

namespace tessera::cuda {

// CUDA's vector types
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

using emulation::Site;

namespace emulation {
inline Thread& Me() { return *current_thread; }

template <typename T>
inline constexpr bool kMovable = std::is_trivially_copyable_v<T> && sizeof(T) <= 16 &&
                                 (sizeof(T) & (sizeof(T) - 1)) == 0;

template <typename T>
T Load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
}  // namespace emulation

inline uint32_t thread_x() { return emulation::Me().index; }
inline uint32_t block_x() { return emulation::Me().block->position()[0]; }
inline uint32_t block_y() { return emulation::Me().block->position()[1]; }
inline uint32_t block_z() { return emulation::Me().block->position()[2]; }
inline uint32_t block_dim_x() { return emulation::Me().block->launch().threads; }
inline uint32_t grid_x() { return emulation::Me().block->launch().grid.x; }
inline uint32_t grid_y() { return emulation::Me().block->launch().grid.y; }
inline uint32_t grid_z() { return emulation::Me().block->launch().grid.z; }
inline uint32_t lane_id() { return emulation::Me().lane; }
inline uint32_t warp_id() { return emulation::Me().warp->index; }

template <typename T>
T lds(uint32_t address, Site site = Site::Here()) {
  static_assert(emulation::kMovable<T>);
  emulation::Thread& me = emulation::Me();
  return emulation::Load<T>(
      me.block->Shared(me, address, sizeof(T), emulation::Access::kLoad, site, "lds"));
}
template <typename T>
void sts(uint32_t address, T value, Site site = Site::Here()) {
  static_assert(emulation::kMovable<T>);
  emulation::Thread& me = emulation::Me();
  std::memcpy(me.block->Shared(me, address, sizeof(T), emulation::Access::kStore, site, "sts"),
              &value, sizeof(T));
}
template <typename T>
T ldg(const T* pointer, Site site = Site::Here()) {
  static_assert(emulation::kMovable<T>);
  emulation::Thread& me = emulation::Me();
  return emulation::Load<T>(
      me.block->Global(me, pointer, sizeof(T), emulation::Access::kLoad, site, "ldg"));
}
template <typename T>
T ldg_stream(const T* pointer, Site site = Site::Here()) {
  return ldg(pointer, site);
}
template <typename T>
void stg(T* pointer, std::type_identity_t<T> value, Site site = Site::Here()) {
  static_assert(emulation::kMovable<T>);
  emulation::Thread& me = emulation::Me();
  std::memcpy(me.block->Global(me, pointer, sizeof(T), emulation::Access::kStore, site, "stg"),
              &value, sizeof(T));
}

inline void cp_async16(uint32_t smem, const void* global, bool pred, Site site = Site::Here()) {
  emulation::Me().block->IssueCopy(emulation::Me(), smem, global, 16, pred, site);
}
inline void cp_async4(uint32_t smem, const void* global, bool pred, Site site = Site::Here()) {
  emulation::Me().block->IssueCopy(emulation::Me(), smem, global, 4, pred, site);
}
inline void cp_async_commit() { ++emulation::Me().copy_group; }
template <int kOpen>
void cp_async_wait() {
  emulation::Me().block->WaitCopies(emulation::Me(), kOpen);
}

inline void sync_threads(Site site = Site::Here()) {
  emulation::Me().block->SyncThreads(emulation::Me(), site);
}
inline void named_barrier(int id, int threads, Site site = Site::Here()) {
  emulation::Me().block->NamedBarrier(emulation::Me(), static_cast<uint32_t>(id),
                                      static_cast<uint32_t>(threads), site);
}
inline void sync_warp(Site site = Site::Here()) { emulation::SyncWarp(site); }
inline void thread_fence() { emulation::Me().block->Fence(emulation::Me()); }

template <typename T>
T shfl_xor(T value, uint32_t mask, Site site = Site::Here()) {
  return emulation::Shuffle(value, (lane_id() ^ mask) % kWarpSize, site);
}
template <typename T>
T shfl_down(T value, uint32_t delta, Site site = Site::Here()) {
  const uint32_t from = lane_id() + delta;
  return emulation::Shuffle(value, from < kWarpSize ? from : lane_id(), site);
}
template <typename T>
T shfl_idx(T value, uint32_t lane, Site site = Site::Here()) {
  return emulation::Shuffle(value, lane % kWarpSize, site);
}
inline uint32_t ballot(bool predicate, Site site = Site::Here()) {
  return emulation::Ballot(predicate, site);
}

namespace emulation {
template <typename T>
T& AtomicGlobal(T* pointer, Site site, const char* word) {
  return *static_cast<T*>(
      Me().block->Global(Me(), pointer, sizeof(T), Access::kAtomic, site, word));
}
}  // namespace emulation

template <typename T>
T atomic_add(T* pointer, std::type_identity_t<T> v, Site site = Site::Here()) {
  T& target = emulation::AtomicGlobal(pointer, site, "atomic_add");
  const auto publishing = emulation::Me().block->Publish(emulation::Me(), pointer);
  return std::atomic_ref<T>(target).fetch_add(v);
}
inline int32_t atomic_max(int32_t* pointer, int32_t v, Site site = Site::Here()) {
  std::atomic_ref<int32_t> target(emulation::AtomicGlobal(pointer, site, "atomic_max"));
  const auto publishing = emulation::Me().block->Publish(emulation::Me(), pointer);
  int32_t old = target.load();
  while (old < v && !target.compare_exchange_weak(old, v)) {
  }
  return old;
}
inline uint32_t atomic_add_shared(uint32_t address, uint32_t v, Site site = Site::Here()) {
  emulation::Thread& me = emulation::Me();
  void* target =
      me.block->Shared(me, address, 4, emulation::Access::kAtomic, site, "atomic_add_shared");
  const auto old = emulation::Load<uint32_t>(target);
  const uint32_t sum = old + v;
  std::memcpy(target, &sum, 4);
  return old;
}

inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t address, Site site = Site::Here()) {
  emulation::Ldmatrix<4>(r, address, false, site);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address, Site site = Site::Here()) {
  emulation::Ldmatrix<4>(r, address, true, site);
}
inline void ldmatrix_x2(uint32_t (&r)[2], uint32_t address, Site site = Site::Here()) {
  emulation::Ldmatrix<2>(r, address, false, site);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], uint32_t address, Site site = Site::Here()) {
  emulation::Ldmatrix<2>(r, address, true, site);
}
template <typename T>
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                 Site site = Site::Here()) {
  emulation::Mma16x8x16(d, a, b, std::is_same_v<T, half_t>, site);
}

namespace emulation {

// An element of a SHARED_ARRAY: reads and writes go through lds and sts.
template <typename T>
class SharedElement {
 public:
  SharedElement(uint32_t address, Site site) : address_(address), site_(site) {}
  SharedElement(const SharedElement&) = default;
  operator T() const { return lds<T>(address_, site_); }  // NOLINT(google-explicit-constructor)
  const SharedElement& operator=(const T& value) const {
    sts<T>(address_, value, site_);
    return *this;
  }
  const SharedElement& operator=(const SharedElement& other) const { return *this = T(other); }
  SharedElement& operator=(const SharedElement& other) {
    *this = T(other);
    return *this;
  }
  const SharedElement& operator+=(const T& value) const { return *this = T(*this) + value; }

 private:
  uint32_t address_;
  Site site_;
};

// An index that knows where it was written: operator[] takes no default argument.
struct SitedIndex {
  template <typename Integer>
  SitedIndex(Integer index, Site site = Site::Here())  // NOLINT(google-explicit-constructor)
      : index(static_cast<int64_t>(index)), site(site) {}
  int64_t index;
  Site site;
};

template <typename T>
class SharedArray {
 public:
  SharedArray(size_t count, const char* name, Site site = Site::Here())
      : begin_(Me().block->StaticArray(Me(), count * sizeof(T), name, site)), count_(count) {}
  SharedElement<T> operator[](SitedIndex i) const {
    if (i.index < 0 || static_cast<size_t>(i.index) >= count_) FailIndex(i.index, count_, i.site);
    return {begin_ + static_cast<uint32_t>(i.index * sizeof(T)), i.site};
  }
  uint32_t address() const { return begin_; }

 private:
  uint32_t begin_;
  size_t count_;
};

}  // namespace emulation

inline uint32_t smem_u32(const void* pointer, Site site = Site::Here()) {
  return emulation::Me().block->SharedAddress(emulation::Me(), pointer, site);
}
template <typename T>
uint32_t smem_u32(const emulation::SharedArray<T>& array) {
  return array.address();
}

}  // namespace tessera::cuda
