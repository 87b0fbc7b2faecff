// GatedActivation. The activations of a matmul's epilogue are the same functions of the tier.
#include "kernels/check.h"
#include "kernels/cpu/backend.h"

namespace tessera {

void CpuBackend::GatedActivation(const GatedActivationArgs& args) {
  ShapeCheck check("GatedActivation");
  check.View("out", args.out, "RF", DType::kF32);
  check.View("gate_up", args.gate_up, "RG", DType::kF32);
  const int64_t width = check['F'];
  check.True(check['G'] == 2 * width, "gate_up", "twice the columns of out", check['G']);
  const auto* x = static_cast<const float*>(args.gate_up.data);
  auto* out = static_cast<float*>(args.out.data);
  ForRows(check['R'], 2 * width, [&](int64_t row) {
    const float* gate = x + row * args.gate_up.stride[0];
    kernels_.gated_activation(args.activation, gate, gate + width, out + row * args.out.stride[0],
                              width);
  });
}

}  // namespace tessera
