// Starting a kernel: the host's half of device.cuh.
//
//   LaunchStatus status = launch(&NormKernel<bf16_t>, Grid{rows}, 128, smem_bytes, stream, params);
//
// `threads` is a multiple of 32 and at most 1024, `smem_bytes` the dynamic shared memory of one block
// (beyond 48 KB the kernel's limit is raised first). An empty grid is a success that starts nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream.h"

#ifdef TESSERA_CUDA_EMULATED

#include "kernels/cuda/emulation/machine.h"

namespace tessera::cuda {

template <typename Params>
LaunchStatus launch(void (*kernel)(Params), Grid grid, unsigned threads, size_t smem_bytes,
                    Stream stream, const Params& params,
                    emulation::Site site = emulation::Site::Here()) {
  return emulation::machine().Submit(
      stream, emulation::KernelLaunch::Make(kernel, grid, threads, smem_bytes, params, site));
}

}  // namespace tessera::cuda

#else

#include <cuda_runtime.h>

namespace tessera::cuda {

inline LaunchStatus ToStatus(cudaError_t error) {
  return error == cudaSuccess ? LaunchStatus{} : LaunchStatus{error, cudaGetErrorString(error)};
}

template <typename Params>
LaunchStatus launch(void (*kernel)(Params), Grid grid, unsigned threads, size_t smem_bytes,
                    Stream stream, const Params& params) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  if (smem_bytes > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(smem_bytes));
    if (error != cudaSuccess) return ToStatus(error);
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), threads, smem_bytes,
           reinterpret_cast<cudaStream_t>(stream)>>>(params);
  return ToStatus(cudaGetLastError());
}

}  // namespace tessera::cuda

#endif
