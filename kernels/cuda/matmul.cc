// MatMul: the library's product. Where its own epilogue (alpha, beta, addend) says all, that is the
// one call; else the product goes to scratch as fp32 and a kernel does the rest. Under
// --batch-invariant our own kernel does all of it, and for int8 and int4 weights always.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/int_matrix.h"
#include "kernels/cuda/rows.h"

namespace tessera::cuda {
namespace {

RowType TypeOf(DType dtype) {
  return dtype == DType::kF32   ? RowType::kF32
         : dtype == DType::kF16 ? RowType::kF16
                                : RowType::kBf16;
}

RowActivation ActivationOf(Activation activation) { return static_cast<RowActivation>(activation); }

}  // namespace

// fp32 results between product and epilogue: rows are worked on in pieces that fit.
constexpr int64_t kScratchBytes = int64_t{32} << 20;

size_t MatMulScratchBytes(const ScratchLimits& limits, const DeviceProps&) {
  const int64_t row = limits.widest * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(std::max(row, std::min(limits.max_rows * row, kScratchBytes)));
}

void CudaBackend::MatMul(const MatMulArgs& args) {
  ShapeCheck check("MatMul");
  check.NotNull("w", args.w);
  check.View("x", args.x, "RK", dtype_);
  check.Extent("w", 'K', args.w->k());
  check.Extent("w", 'N', args.w->n());
  check.View("out", args.out, "RN", args.out.dtype);
  if (args.residual.data != nullptr) check.View("residual", args.residual, "RN", args.out.dtype);
  TESSERA_CHECK(args.out.dtype == dtype_ || args.out.dtype == DType::kF32,
                "MatMul: out: expected {} or fp32, got {}", Name(dtype_), Name(args.out.dtype));
  if (failed() || check['R'] == 0) return;

  MatMulParams op{.x = args.x.data,
                  .bias = args.bias,
                  .residual = args.residual.data,
                  .out = args.out.data,
                  .x_stride = args.x.stride[0],
                  .residual_stride = args.residual.stride[0],
                  .out_stride = args.out.stride[0],
                  .rows = check['R'],
                  .n = static_cast<int32_t>(check['N']),
                  .k = static_cast<int32_t>(check['K']),
                  .gate = args.gate,
                  .activation = ActivationOf(args.activation)};
  if (IsInt(args.w->format())) {
    const auto& ints = static_cast<const CudaIntMatrix&>(*args.w);
    Check(LaunchMatMulInt(TypeOf(dtype_), TypeOf(args.out.dtype),
                          {.op = op, .layout = ints.layout(), .weights = ints.data()}, stream()));
    return;
  }
  const auto& w = static_cast<const CudaPackedMatrix&>(*args.w);
  TESSERA_CHECK(w.dtype() == dtype_, "MatMul: w: expected {}, got {}", Name(dtype_),
                Name(w.dtype()));
  if (batch_invariant_) {
    op.w = w.data();
    op.k_stored = static_cast<int32_t>(w.stored_k());
    Check(LaunchMatMulFixed(TypeOf(dtype_), TypeOf(args.out.dtype), op, stream()));
    return;
  }
  GemmArgs gemm{.dtype = dtype_,
                .out_dtype = args.out.dtype,
                .rows = check['R'],
                .n = check['N'],
                .k = check['K'],
                .x = args.x.data,
                .x_stride = args.x.stride[0],
                .w = w.data(),
                .w_stride = w.stored_k(),
                .out = args.out.data,
                .out_stride = args.out.stride[0]};
  if (args.bias == nullptr && args.activation == Activation::kNone) {
    gemm.alpha = args.gate;
    if (args.residual.data != nullptr) {
      gemm.beta = 1;
      gemm.addend = args.residual.data;
      gemm.addend_stride = args.residual.stride[0];
    }
    Check(lane().gemm->Run(gemm, stream()));
    return;
  }
  const int64_t row_bytes = gemm.n * static_cast<int64_t>(sizeof(float));
  const int64_t most = std::max<int64_t>(1, kScratchBytes / row_bytes);
  const auto at = [](const TensorView& view, int64_t row) {
    return static_cast<char*>(view.data) +
           row * view.stride[0] * static_cast<int64_t>(SizeOf(view.dtype));
  };
  gemm.out_dtype = DType::kF32;
  gemm.out_stride = gemm.n;
  for (int64_t begin = 0; begin < check['R'] && !failed(); begin += most) {
    gemm.rows = std::min(most, check['R'] - begin);
    ResetScratch();
    gemm.x = at(args.x, begin);
    gemm.out = Scratch<float>("MatMul", static_cast<size_t>(gemm.rows * gemm.n));
    if (failed()) return;
    Check(lane().gemm->Run(gemm, stream()));
    Check(LaunchEpilogue(
        RowType::kF32, TypeOf(args.out.dtype),
        {.y = gemm.out,
         .bias = args.bias,
         .residual = args.residual.data == nullptr ? nullptr : at(args.residual, begin),
         .out = at(args.out, begin),
         .y_stride = gemm.n,
         .residual_stride = args.residual.stride[0],
         .out_stride = args.out.stride[0],
         .rows = gemm.rows,
         .columns = gemm.n,
         .gate = args.gate,
         .activation = ActivationOf(args.activation)},
        stream()));
  }
}

}  // namespace tessera::cuda
