#include "kernels/cpu/backend.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/matmul.h"
#include "kernels/factory.h"
#include "kernels/sampling.h"

namespace tessera {

using cpu::kLanes;

CpuBackend::CpuBackend(const cpu::Kernels& kernels, int threads, DType operand_dtype)
    : kernels_(kernels),
      operand_dtype_(operand_dtype),
      pool_(threads, /*may_spin=*/threads <= UsableCpuCount()),
      scratch_(static_cast<size_t>(threads)) {
  TESSERA_CHECK(operand_dtype == DType::kF32 || operand_dtype == DType::kBF16,
                "operand dtype: expected fp32 or bf16, got {}", Name(operand_dtype));
  // What every matmul and attention needs on each thread, whatever the model: a few hundred KiB.
  const size_t bytes =
      std::max({cpu::MatMulThreadScratchBytes(kernels), cpu::QuantThreadScratchBytes(kernels),
                cpu::TileAttention::ScratchBytes()});
  for (Scratch& scratch : scratch_)
    TESSERA_CHECK(scratch.Reserve(bytes).has_value(), "out of memory at start");
}

Result<void> CpuBackend::Reserve(const ScratchLimits& limits) {
  const size_t dense = cpu::TileAttention::ScratchBytes() +
                       cpu::DenseScratchBytes(limits.max_dense_keys, limits.max_head_dim);
  const size_t sample = static_cast<size_t>(limits.vocab) * sizeof(SampleCandidate);
  for (Scratch& scratch : scratch_)
    TESSERA_RETURN_IF_ERROR(scratch.Reserve(std::max(dense, sample)));
  items_.reserve(static_cast<size_t>(limits.max_rows * std::max<int64_t>(1, limits.max_heads)));
  return {};
}

void CpuBackend::CopyToHost(void* to, const TensorView& from) {
  TESSERA_CHECK(from.contiguous(), "CopyToHost: expected a contiguous view, got {}",
                from.ShapeString());
  if (from.size() > 0)
    std::memcpy(to, from.data, static_cast<size_t>(from.size()) * SizeOf(from.dtype));
}

void CpuBackend::CopyToDevice(const TensorView& to, const void* from) {
  TESSERA_CHECK(to.contiguous(), "CopyToDevice: expected a contiguous view, got {}",
                to.ShapeString());
  if (to.size() > 0) std::memcpy(to.data, from, static_cast<size_t>(to.size()) * SizeOf(to.dtype));
}

}  // namespace tessera
