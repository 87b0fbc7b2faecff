// Matrix products by a library: cuBLASLt on a GPU (gemm_cublaslt.cc), its stand-in in emulation
// (emulation/gemm.cc).
//
// The order of additions is the library's and may change with the shape; nothing may lean on it.
// Where results must not depend on the batch, matmul_fixed.cu is used instead (--batch-invariant).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "kernels/cuda/device_allocator.h"
#include "kernels/cuda/runtime.h"
#include "kernels/dtype.h"

namespace tessera::cuda {

// out[R, N] = alpha * x[R, K] w[N, K]^T + beta * addend[R, N], sums in fp32. addend may be out.
// Strides are elements from row to row.
struct GemmArgs {
  DType dtype = DType::kBF16;      // of x and w: bf16 or fp16
  DType out_dtype = DType::kBF16;  // of out and addend: dtype or fp32
  int64_t rows = 0, n = 0, k = 0;
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* w = nullptr;
  int64_t w_stride = 0;
  float alpha = 1;
  float beta = 0;
  const void* addend = nullptr;  // null: beta is 0
  int64_t addend_stride = 0;
  void* out = nullptr;
  int64_t out_stride = 0;
};

// One per backend and stream (the workspace is the stream's). One thread at a time.
class Gemm {
 public:
  virtual ~Gemm() = default;
  virtual std::string_view name() const = 0;  // "cuBLASLt 13.1"
  virtual size_t workspace_bytes() const = 0;
  virtual LaunchStatus Run(const GemmArgs& args, Stream stream) = 0;
};

// Errors: the library does not start, no memory for the workspace.
Result<std::unique_ptr<Gemm>> MakeGemm(const DeviceProps& props, const DeviceAllocator& allocator);

}  // namespace tessera::cuda
