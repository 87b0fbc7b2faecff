// RmsNorm, LayerNorm, HeadRmsNorm: one row after another.
#include "kernels/check.h"
#include "kernels/cpu/backend.h"

namespace tessera {

void CpuBackend::RmsNorm(const RmsNormArgs& args) {
  ShapeCheck check("RmsNorm");
  check.View("x", args.x, "RC", DType::kF32);
  check.View("out", args.out, "RC", DType::kF32);
  check.NotNull("weight", args.weight);
  const auto* x = static_cast<const float*>(args.x.data);
  auto* out = static_cast<float*>(args.out.data);
  ForRows(check['R'], check['C'], [&](int64_t row) {
    kernels_.rms_norm(x + row * args.x.stride[0], args.weight, args.eps,
                      out + row * args.out.stride[0], check['C']);
  });
}

void CpuBackend::LayerNorm(const LayerNormArgs& args) {
  ShapeCheck check("LayerNorm");
  check.View("x", args.x, "RC", DType::kF32);
  check.View("out", args.out, "RC", DType::kF32);
  check.NotNull("weight", args.weight);
  const auto* x = static_cast<const float*>(args.x.data);
  auto* out = static_cast<float*>(args.out.data);
  ForRows(check['R'], check['C'], [&](int64_t row) {
    kernels_.layer_norm(x + row * args.x.stride[0], args.weight, args.bias, args.eps,
                        out + row * args.out.stride[0], check['C']);
  });
}

void CpuBackend::HeadRmsNorm(const TensorView& x, int heads, const float* weight, float eps) {
  ShapeCheck check("HeadRmsNorm");
  check.View("x", x, "RQ", DType::kF32);
  check.NotNull("weight", weight);
  check.True(heads > 0 && check['Q'] % heads == 0, "x", "heads * D columns", check['Q']);
  const int64_t head_dim = check['Q'] / heads;
  ForRows(check['R'], check['Q'], [&](int64_t row) {
    float* values = static_cast<float*>(x.data) + row * x.stride[0];
    for (int head = 0; head < heads; ++head, values += head_dim)
      kernels_.rms_norm(values, weight, eps, values, head_dim);
  });
}

}  // namespace tessera
