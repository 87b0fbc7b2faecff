// A backend that hands everything on and adds up, column by column, the squares of what each packed
// matrix is multiplied with: how much an error in that column of the weights counts.
//
// Thread-compatible. Only over backends whose activations are fp32 in host memory (the CPU's).
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace tessera::quantize {

class RecordingBackend : public Backend {
 public:
  explicit RecordingBackend(std::unique_ptr<Backend> to) : to_(std::move(to)) {}

  // Of the index-th matrix that was packed: its size, and the sums, empty where it was never met.
  struct Record {
    int64_t n = 0, k = 0;
    std::vector<double> squares;  // [k]
    int64_t rows = 0;
  };
  const std::vector<Record>& records() const { return records_; }

  std::string_view name() const override { return to_->name(); }
  std::string_view tier() const override { return to_->tier(); }
  DType activation_dtype() const override { return to_->activation_dtype(); }
  DType operand_dtype() const override { return to_->operand_dtype(); }
  int threads() const override { return to_->threads(); }
  Result<Storage> Allocate(size_t bytes, MemoryUse use) override {
    return to_->Allocate(bytes, use);
  }
  Result<void> Reserve(const ScratchLimits& limits) override { return to_->Reserve(limits); }
  void CopyToHost(void* data, const TensorView& from) override { to_->CopyToHost(data, from); }
  void CopyToDevice(const TensorView& view, const void* from) override {
    to_->CopyToDevice(view, from);
  }
  void Synchronize() override { to_->Synchronize(); }
  Result<std::unique_ptr<PackedMatrix>> Pack(std::span<const SourceMatrix> sources,
                                             const PackSpec& spec) override;

  void MatMul(const MatMulArgs& args) override;
  void RmsNorm(const RmsNormArgs& args) override { to_->RmsNorm(args); }
  void LayerNorm(const LayerNormArgs& args) override { to_->LayerNorm(args); }
  void GatedActivation(const GatedActivationArgs& args) override { to_->GatedActivation(args); }
  void Embedding(const EmbeddingArgs& args) override { to_->Embedding(args); }
  void GatherRows(const GatherRowsArgs& args) override { to_->GatherRows(args); }
  void ScatterRows(const ScatterRowsArgs& args) override { to_->ScatterRows(args); }
  void AddRows(const AddRowsArgs& args) override { to_->AddRows(args); }
  void RopeWriteKv(const RopeWriteKvArgs& args) override { to_->RopeWriteKv(args); }
  void SelfAttention(const SelfAttentionArgs& args) override { to_->SelfAttention(args); }
  void CrossAttention(const CrossAttentionArgs& args) override { to_->CrossAttention(args); }
  void DenseAttention(const DenseAttentionArgs& args) override { to_->DenseAttention(args); }
  void Patchify(const PatchifyArgs& args) override { to_->Patchify(args); }
  void CopyKvPages(const CopyKvPagesArgs& args) override { to_->CopyKvPages(args); }
  void Sample(const SampleArgs& args) override { to_->Sample(args); }
  void BeginSample(const SampleArgs& args) override { to_->BeginSample(args); }
  void EndSample(std::span<SampleResult> results) override { to_->EndSample(results); }
  void HeadRmsNorm(const TensorView& x, int heads, const float* weight, float eps) override {
    to_->HeadRmsNorm(x, heads, weight, eps);
  }

 private:
  const std::unique_ptr<Backend> to_;
  std::vector<Record> records_;
  std::map<const PackedMatrix*, size_t> of_;  // index into records_
};

}  // namespace tessera::quantize
