// CudaBackend: the same class over a GPU and over the emulated one. Ops are queued on a stream;
// Synchronize() waits. Op families are defined in their own files: attention.cc, rows.cc,
// draws.cc, matmul.cc, pack.cc.
//
// Activations lie in memory as bf16 (fp16 where asked for), sums are fp32. Errors of the device are
// sticky: the first is kept for lost(), later ops do nothing.
//
// Thread safety: as Backend says.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/device_allocator.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/graphs.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/staging.h"
#include "kernels/factory.h"

namespace tessera::cuda {

// Row-major [N][stored_k] with zeros behind K: K contiguous, rows 16-byte aligned.
class CudaPackedMatrix final : public PackedMatrix {
 public:
  CudaPackedMatrix(int64_t n, int64_t k, int64_t stored_k, WeightFormat format, size_t bytes,
                   Storage storage)
      : PackedMatrix(n, k, format, bytes), stored_k_(stored_k), storage_(std::move(storage)) {}

  const void* data() const { return storage_.get(); }
  int64_t stored_k() const { return stored_k_; }  // elements from row to row
  DType dtype() const {
    return format() == WeightFormat::kF32   ? DType::kF32
           : format() == WeightFormat::kF16 ? DType::kF16
                                            : DType::kBF16;
  }

 private:
  const int64_t stored_k_;
  Storage storage_;
};

class CudaBackend final : public Backend {
 public:
  // Errors: no device, memory, an option out of range; one line each.
  static Result<std::unique_ptr<CudaBackend>> Make(const BackendOptions& options);
  ~CudaBackend() override;

  std::string_view name() const override { return props_.emulated ? "cuda-emulated" : "cuda"; }
  std::string_view tier() const override { return tier_; }
  DType activation_dtype() const override { return dtype_; }
  DType operand_dtype() const override { return dtype_; }
  int threads() const override { return 1; }

  Result<Storage> Allocate(size_t bytes, MemoryUse use) override;
  Result<Storage> Allocate(size_t bytes) { return Allocate(bytes, MemoryUse::kWeights); }
  Result<void> Reserve(const ScratchLimits& limits) override;
  void CopyToHost(void* to, const TensorView& from) override;
  void CopyToDevice(const TensorView& to, const void* from) override;
  void Synchronize() override;
  int lanes() const override { return static_cast<int>(lanes_.size()); }
  void SelectLane(int lane) override;
  void OrderLanes(int earlier, int later) override;
  void BeginGraph(int64_t key) override;
  [[nodiscard]] bool EndGraph() override;
  Result<std::unique_ptr<PackedMatrix>> Pack(std::span<const SourceMatrix> sources,
                                             const PackSpec& spec) override;
  bool takes_codes() const override { return true; }

  // matmul.cc
  void MatMul(const MatMulArgs& args) override;
  // rows.cc
  void RmsNorm(const RmsNormArgs& args) override;
  void LayerNorm(const LayerNormArgs& args) override;
  void GatedActivation(const GatedActivationArgs& args) override;
  void Embedding(const EmbeddingArgs& args) override;
  void GatherRows(const GatherRowsArgs& args) override;
  void ScatterRows(const ScatterRowsArgs& args) override;
  void AddRows(const AddRowsArgs& args) override;
  void Patchify(const PatchifyArgs& args) override;
  void HeadRmsNorm(const TensorView& x, int heads, const float* weight, float eps) override;
  // draws.cc
  void Sample(const SampleArgs& args) override;
  void BeginSample(const SampleArgs& args) override;
  void EndSample(std::span<SampleResult> results) override;
  // attention.cc
  void RopeWriteKv(const RopeWriteKvArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void DenseAttention(const DenseAttentionArgs& args) override;
  void CopyKvPages(const CopyKvPagesArgs& args) override;

  std::optional<Error> lost() const override;
  DeviceMemory device_memory() const override;
  std::vector<MemoryAccount> memory() const override { return allocator_.Accounts(); }
  std::string_view gemm() const override { return gemm_name_; }
  bool batch_invariant() const override { return batch_invariant_; }
  std::string_view graphs() const override { return graphs_text_; }

  // ---- For the op files.
  Stream stream() const { return lane().stream; }
  const DeviceProps& props() const { return props_; }
  // Copies host data to device memory by way of pinned memory, in stream order. The device pointer
  // is 256-byte aligned and valid for what this op queues; nullptr for nothing. Equal contents are
  // copied once a step.
  template <typename T>
  const T* Stage(std::span<const T> values) {
    return static_cast<const T*>(StageBytes(values.data(), values.size_bytes()));
  }
  // Device memory that this op alone uses, content undefined. Pieces add up until ResetScratch(),
  // which an op calls first. Beyond what Reserve() made room for is a programmer error.
  void ResetScratch();
  template <typename T>
  T* Scratch(const char* op, size_t count) {
    return static_cast<T*>(ScratchBytes(op, count * sizeof(T)));
  }
  void Zero(void* memory, size_t bytes);
  // Keeps the first error.
  void Check(const LaunchStatus& status);
  bool failed() const { return error_.has_value(); }
  uint64_t graphs_built() const { return graphs_->built(); }
  uint64_t graphs_launched() const { return graphs_->launched(); }

 private:
  // A stream and what ops on it use.
  struct Lane {
    Stream stream = nullptr;
    std::unique_ptr<Staging> staging;
    std::unique_ptr<Gemm> gemm;
    Event reached = nullptr;  // what another lane waits for
    std::unique_ptr<Arena> scratch;
  };

  // A draw that was begun: its results on their way to the host.
  struct Draw {
    Event copied = nullptr;
    Storage outputs;  // pinned: SampleOutput, draw_room_ of them
    std::vector<SampleTask> tasks;
  };

  CudaBackend() = default;
  Result<void> Start(const BackendOptions& options);
  Result<void> MakeLane(Lane& lane);
  void DestroyLane(Lane& lane);
  Lane& lane() { return lanes_[current_]; }
  const Lane& lane() const { return lanes_[current_]; }
  const void* StageBytes(const void* data, size_t bytes);
  void* ScratchBytes(const char* op, size_t bytes);
  // draws.cc
  Result<void> ReserveDraws();
  void FreeDraws();
  // rows.cc
  void MoveRows(MoveKind kind, const TensorView& x, std::span<const int32_t> rows,
                const TensorView& out);

  const DeviceAllocator allocator_;
  DeviceProps props_;
  std::string tier_, gemm_name_, graphs_text_;
  DType dtype_ = DType::kBF16;
  bool batch_invariant_ = false;
  std::vector<Lane> lanes_;
  size_t current_ = 0;
  Storage bounce_;  // pinned, for copies from and to pageable memory
  ScratchLimits reserved_;
  std::array<Draw, kMostDraws> draws_;  // in turn
  uint64_t draws_begun_ = 0, draws_ended_ = 0;
  int64_t draw_room_ = 0;  // rows
  Storage drawn_storage_;
  int32_t* drawn_ = nullptr;                  // device: the ids of the last draw ...
  int64_t drawn_rows_ = 0, drawn_below_ = 0;  // ... their number, and the vocabulary they are of
  std::optional<LaunchStatus> error_;
  std::unique_ptr<GraphCache> graphs_;
  std::optional<int64_t> capturing_;
};

// Scratch that the op families need for calls of this size; each file defines its own.
size_t AttentionScratchBytes(const ScratchLimits& limits, const DeviceProps& props);
size_t RowsScratchBytes(const ScratchLimits& limits, const DeviceProps& props);
size_t MatMulScratchBytes(const ScratchLimits& limits, const DeviceProps& props);

}  // namespace tessera::cuda
