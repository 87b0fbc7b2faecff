// Default bodies of fused ops, made of unfused ones: what a new backend starts with, and what fused
// bodies are tested against.
#include "kernels/backend.h"

namespace tessera {

Result<Tensor> Backend::AllocateTensor(DType dtype, std::initializer_list<int64_t> shape,
                                       MemoryUse use) {
  size_t bytes = SizeOf(dtype);
  for (int64_t extent : shape) {
    TESSERA_CHECK(extent >= 0, "AllocateTensor: expected extents of at least 0, got {}", extent);
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(extent), &bytes))
      return Fail(ErrorCode::kResourceExhausted, "tensor is larger than the address space");
  }
  TESSERA_TRY(Storage storage, Allocate(bytes, use));
  const TensorView view = TensorView::Of(storage.get(), dtype, shape);
  return Tensor(std::move(storage), view);
}

void Backend::HeadRmsNorm(const TensorView& x, int heads, const float* weight, float eps) {
  TESSERA_CHECK(x.rank == 2 && heads > 0 && x.dim(1) % heads == 0,
                "HeadRmsNorm: x: expected [R, {} * D], got {}", heads, x.ShapeString());
  const int64_t head_dim = x.dim(1) / heads;
  for (int head = 0; head < heads; ++head) {
    const TensorView part = x.Columns(head * head_dim, head_dim);
    RmsNorm({.x = part, .weight = weight, .eps = eps, .out = part});
  }
}

}  // namespace tessera
