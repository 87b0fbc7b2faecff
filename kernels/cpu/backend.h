// CpuBackend: the embedded default. Ops are complete on return. One .cc of this folder defines each
// op family: matmul, norm, activation, embedding, rope_kv, self_attention, cross_attention,
// dense_attention, patchify, sample, pack.
//
// Activations are fp32 in memory whatever operand_dtype() is. What a tier does differently lives in
// isa/TIER/. Thread safety: as Backend says.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/threads.h"

namespace tessera {

namespace cpu {
class TileAttention;

enum class Layout : uint8_t {
  kPanels,      // [N / 16][K][16]
  kVnniPanels,  // bf16 for AMX: [N / 16][K / 2][16][2], K rounded up to 32
  kRows,        // [N][K], tables that no matmul reads
  kQuant,       // int8 and int4: quant.h
};

class CpuPackedMatrix final : public PackedMatrix {
 public:
  CpuPackedMatrix(int64_t n, int64_t k, WeightFormat format, Layout layout, int64_t stored_k,
                  size_t bytes, Storage storage)
      : PackedMatrix(n, k, format, bytes),
        layout_(layout),
        stored_k_(stored_k),
        storage_(std::move(storage)) {}

  CpuPackedMatrix(int64_t n, int64_t k, WeightFormat format, const QuantLayout& quant, size_t bytes,
                  Storage storage)
      : PackedMatrix(n, k, format, bytes),
        layout_(Layout::kQuant),
        stored_k_(quant.stored_k),
        quant_(quant),
        storage_(std::move(storage)) {}

  Layout layout() const { return layout_; }
  int64_t stored_k() const { return stored_k_; }  // K with the layout's own padding
  int64_t panels() const { return (n() + kLanes - 1) / kLanes; }
  int64_t panel_elements() const { return stored_k_ * kLanes; }
  const void* data() const { return storage_.get(); }
  void* data() { return storage_.get(); }
  // Of kQuant alone.
  const QuantLayout& quant() const { return quant_; }
  const uint8_t* panel(int64_t index) const {
    return static_cast<const uint8_t*>(data()) + index * quant_.panel_bytes();
  }
  const float* channel_scales(int64_t panel_index) const {
    return reinterpret_cast<const float*>(panel(panel_index) + quant_.scales_at());
  }
  // Where element (row, column) stands, in elements; not of kQuant.
  int64_t IndexOf(int64_t row, int64_t column) const;

 private:
  const Layout layout_;
  const int64_t stored_k_;
  const QuantLayout quant_ = {};
  Storage storage_;
};

// A run of query vectors of one K/V head that are worked on together.
struct AttentionItem {
  int32_t source = 0;  // sequence or first row of a group
  int32_t row_begin = 0;
  int32_t row_count = 0;     // rows of the group
  int32_t vector_begin = 0;  // of the group's row_count * (H / G) vectors
};
}  // namespace cpu

class CpuBackend final : public Backend {
 public:
  // `kernels` outlives the backend. threads >= 1.
  CpuBackend(const cpu::Kernels& kernels, int threads, DType operand_dtype);

  std::string_view name() const override { return "cpu"; }
  std::string_view tier() const override { return kernels_.tier; }
  DType activation_dtype() const override { return DType::kF32; }
  DType operand_dtype() const override { return operand_dtype_; }
  int threads() const override { return pool_.threads(); }
  int PinThreads() { return pool_.Pin(); }  // see ThreadPool::Pin

  Result<Storage> Allocate(size_t bytes, MemoryUse) override {
    return AllocateAligned(bytes, true);
  }
  Result<void> Reserve(const ScratchLimits& limits) override;
  void CopyToHost(void* to, const TensorView& from) override;
  void CopyToDevice(const TensorView& to, const void* from) override;
  void Synchronize() override {}
  Result<std::unique_ptr<PackedMatrix>> Pack(std::span<const SourceMatrix> sources,
                                             const PackSpec& spec) override;
  bool takes_codes() const override { return true; }
  std::string packing() const override;
  std::optional<PackedImage> Image(const PackedMatrix& matrix) const override;
  Result<std::unique_ptr<PackedMatrix>> Restore(const PackedImage& image) override;

  void MatMul(const MatMulArgs& args) override;
  void RmsNorm(const RmsNormArgs& args) override;
  void LayerNorm(const LayerNormArgs& args) override;
  void GatedActivation(const GatedActivationArgs& args) override;
  void Embedding(const EmbeddingArgs& args) override;
  void GatherRows(const GatherRowsArgs& args) override;
  void ScatterRows(const ScatterRowsArgs& args) override;
  void AddRows(const AddRowsArgs& args) override;
  void RopeWriteKv(const RopeWriteKvArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void DenseAttention(const DenseAttentionArgs& args) override;
  void Patchify(const PatchifyArgs& args) override;
  void CopyKvPages(const CopyKvPagesArgs& args) override;
  void Sample(const SampleArgs& args) override;
  void BeginSample(const SampleArgs& args) override;
  void EndSample(std::span<SampleResult> results) override;
  void HeadRmsNorm(const TensorView& x, int heads, const float* weight, float eps) override;

 private:
  // rows of `cost` elements each, in a few items a thread; small work stays on the calling thread.
  template <typename Body>
  void ForRows(int64_t rows, int64_t cost, Body&& body);
  template <typename T>
  T* ThreadScratch(const char* op, int worker, size_t count) {
    return scratch_[static_cast<size_t>(worker)].Get<T>(op, count);
  }
  void MatMulPanels(const MatMulArgs& args, const cpu::CpuPackedMatrix& w, int64_t row_begin,
                    int64_t rows);
  void MatMulAmx(const MatMulArgs& args, const cpu::CpuPackedMatrix& w, int64_t row_begin,
                 int64_t rows);
  void MatMulQuant(const MatMulArgs& args, const cpu::CpuPackedMatrix& w, int64_t row_begin,
                   int64_t rows);
  // The finished sums of a few rows and one item, through the epilogue.
  void Finish(const MatMulArgs& args, int64_t row, int64_t rows, int64_t column, int64_t n,
              const float* acc, int64_t acc_stride);
  Result<std::unique_ptr<PackedMatrix>> PackQuant(std::span<const SourceMatrix> sources,
                                                  const PackSpec& spec, int64_t n, int64_t k);
  Result<std::unique_ptr<PackedMatrix>> PackCodes(std::span<const SourceMatrix> sources,
                                                  const QuantFormat& format, int64_t n, int64_t k);

  const cpu::Kernels& kernels_;
  const DType operand_dtype_;
  ThreadPool pool_;
  Scratch shared_;                // packed operand rows of a matmul; grown by Pack
  std::vector<Scratch> scratch_;  // one a thread
  std::vector<cpu::AttentionItem> items_;
  std::deque<std::vector<SampleResult>> draws_;  // begun
  std::vector<int32_t> drawn_;                   // ids of the last draw
};

// Rows per item so that an item is worth the claim (about 16k elements) and every thread gets some.
template <typename Body>
void CpuBackend::ForRows(int64_t rows, int64_t cost, Body&& body) {
  const int64_t least = (int64_t{16384} + cost - 1) / (cost > 0 ? cost : 1);
  const int64_t share = (rows + 4 * threads() - 1) / (4 * threads());
  const int64_t step = least > share ? least : share;
  pool_.Run((rows + step - 1) / step, [&](int64_t item, int) {
    const int64_t end = (item + 1) * step < rows ? (item + 1) * step : rows;
    for (int64_t row = item * step; row < end; ++row) body(row);
  });
}

}  // namespace tessera
