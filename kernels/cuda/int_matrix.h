// int8 and int4 weights of the CUDA backend: quantised as on every device (kernels/quantize.h), or
// the codes of a checkpoint (kernels/code_source.h), laid out for matmul_int.cu.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/matmul_int.h"
#include "kernels/quantize.h"

namespace tessera::cuda {

inline bool IsInt(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt4;
}

class CudaIntMatrix final : public PackedMatrix {
 public:
  CudaIntMatrix(const IntLayout& layout, WeightFormat format, Storage storage)
      : PackedMatrix(layout.n, layout.k, format, static_cast<size_t>(layout.bytes())),
        layout_(layout),
        storage_(std::move(storage)) {}

  const IntLayout& layout() const { return layout_; }
  const void* data() const { return storage_.get(); }

 private:
  const IntLayout layout_;
  Storage storage_;
};

// The layout's bytes of the stacked sources, `k` columns with zeros behind theirs: their codes
// where FormatKept says so, else those of the spec's format, int8 or int4. On all cores that this
// process may use. Errors: a group size that there is none of (field "group"), a number that is not
// finite or too large (field "weights").
struct PackedInts {
  WeightFormat format() const {
    return layout.bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4;
  }

  IntLayout layout;
  std::vector<uint8_t> bytes;
};
Result<PackedInts> PackInts(std::span<const SourceMatrix> sources, const PackSpec& spec, int64_t n,
                            int64_t k, DType activations);

}  // namespace tessera::cuda
