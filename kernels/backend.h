// A Backend is one engine's view of a device: allocation, packing of weights, and the ops of ops.h.
//
// Thread safety: one thread (the engine's) calls ops; packing may run before that from the loading
// thread. Ops never allocate or resize: scratch memory is reserved by Reserve(). On devices that
// run behind the host, ops are queued in order and Synchronize() waits; on the CPU they are
// complete on return.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/memory_use.h"
#include "kernels/ops.h"

namespace tessera {

// A weight matrix as the backend keeps it: N x K in some format and order that only its ops
// understand.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  WeightFormat format() const { return format_; }
  size_t bytes() const { return bytes_; }

 protected:
  PackedMatrix(int64_t n, int64_t k, WeightFormat format, size_t bytes)
      : n_(n), k_(k), format_(format), bytes_(bytes) {}

 private:
  const int64_t n_, k_;
  const WeightFormat format_;
  const size_t bytes_;
};

class CodeSource;  // kernels/code_source.h

// A tensor in a file mapping: rows of `columns` contiguous elements, possibly unaligned.
struct SourceMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // fp32, fp16 or bf16
  int64_t rows = 0;
  int64_t columns = 0;
  // Weights that are stored as codes, only for backends that take them; `data` is null then, and
  // `dtype` what they become where codes cannot be kept.
  const CodeSource* codes = nullptr;
};

struct PackSpec {
  WeightFormat format = WeightFormat::kAuto;  // kAuto: the widest dtype among the sources
  // A matrix that is read both as a table (Embedding) and as a matmul operand (tied head): one copy
  // serves both.
  enum class Role : uint8_t { kMatMul, kTable, kTableAndMatMul } role = Role::kMatMul;
  // int8 and int4: columns that share a scale, 32, 64 or 128. 0: int8 has one scale an output, int4
  // has groups of 32 with a minimum.
  int group = 0;
  // int4: a minimum beside each scale.
  bool minimum = false;
  // int4: what an error in each column counts when scales are chosen, e.g. the mean square of the
  // activations that meet it; k numbers, or empty: all the same.
  std::span<const float> importance = {};
  // Columns beyond a source's own are zero: for inner sizes that a layout pads. 0: as the sources.
  int64_t padded_columns = 0;
};

// The bytes of a packed matrix, in memory or in a file, and what is needed to use them again.
struct PackedImage {
  int64_t n = 0, k = 0;
  WeightFormat format = WeightFormat::kAuto;
  std::string layout = {};  // the backend's name for the order of the bytes
  std::span<const std::byte> bytes = {};
};

struct ScratchLimits {
  int64_t max_rows = 0;        // R of any op
  int64_t widest = 0;          // largest K or N of any matmul
  int64_t max_heads = 0;       // H
  int64_t max_head_dim = 0;    // D
  int64_t max_dense_keys = 0;  // S of DenseAttention
  int64_t vocab = 0;           // V of Sample
};

// Memory of a device of its own; total == 0 where the host's memory is the device's.
struct DeviceMemory {
  size_t free = 0;
  size_t total = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  // "cpu", "cuda", "cuda-emulated"
  virtual std::string_view tier() const = 0;  // "reference", "avx2", "avx512", "amx", "sm_90"
  virtual DType activation_dtype()
      const = 0;                            // of activation tensors in memory (the CPU keeps fp32)
  virtual DType operand_dtype() const = 0;  // to which matmul rounds activations: --activations
  virtual int threads() const = 0;
  virtual std::string_view gemm() const { return "own kernels"; }  // whose matrix product it is
  virtual DeviceMemory device_memory() const { return {}; }
  // What its memory is used for; empty where it keeps no accounts. From any thread.
  virtual std::vector<MemoryAccount> memory() const { return {}; }
  virtual bool batch_invariant() const { return true; }   // a row's results do not depend on others
  virtual std::string_view graphs() const { return ""; }  // for the start table; empty: none
  // Set from the first failure of the device on: ops do nothing any more, and what was computed
  // since is of no use. Asked after Synchronize().
  virtual std::optional<Error> lost() const { return std::nullopt; }

  // Zeroed memory, 64-byte aligned. RESOURCE_EXHAUSTED with the sizes if there is none. `use`: what
  // it is accounted for as, where that is done.
  virtual Result<Storage> Allocate(size_t bytes, MemoryUse use) = 0;
  Result<Tensor> AllocateTensor(DType dtype, std::initializer_list<int64_t> shape,
                                MemoryUse use = MemoryUse::kWorkspace);
  // Grows the scratch memory of the ops to what calls of at most this size need. Ops beyond it are
  // programmer errors.
  virtual Result<void> Reserve(const ScratchLimits& limits) = 0;
  virtual void CopyToHost(void* to, const TensorView& from) = 0;  // contiguous, synchronous
  virtual void CopyToDevice(const TensorView& to, const void* from) = 0;
  virtual void Synchronize() = 0;

  // Lanes are queues that run beside each other; ops go to the selected one. Synchronize() waits
  // for all. A device with one lane computes in order.
  virtual int lanes() const { return 1; }
  virtual void SelectLane(int /*lane*/) {}
  // What is queued on `later` from here on runs after what is queued on `earlier` up to here.
  virtual void OrderLanes(int /*earlier*/, int /*later*/) {}
  // The ops between the two come again and again with other arguments (a decode step of so many
  // rows): a device may keep them as one graph under `key`. Neither copies nor allocations in
  // between. EndGraph() is false where it has no room for the graph: none of the ops has run, and
  // they are to be queued once more, without the two.
  virtual void BeginGraph(int64_t /*key*/) {}
  [[nodiscard]] virtual bool EndGraph() { return true; }

  // Sources are stacked on axis 0 (n rows in all, same number of columns): fused QKV and gate-up
  // are n = 3 and n = 2. Codes are kept as they are where the format of the spec, or kAuto, has
  // room for those of all sources (FormatOfCodes).
  virtual Result<std::unique_ptr<PackedMatrix>> Pack(std::span<const SourceMatrix> sources,
                                                     const PackSpec& spec) = 0;
  virtual bool takes_codes() const { return false; }  // SourceMatrix::codes
  // What the bytes of packed matrices depend on beside sources and spec: backends of the same text
  // restore each other's images. Empty: images are not to be had.
  virtual std::string packing() const { return ""; }
  virtual std::optional<PackedImage> Image(const PackedMatrix& /*matrix*/) const {
    return std::nullopt;
  }
  // A matrix of its own from a copy of an image. INVALID_ARGUMENT where sizes, format and layout do
  // not agree; the bytes themselves are trusted.
  virtual Result<std::unique_ptr<PackedMatrix>> Restore(const PackedImage& /*image*/) {
    return Fail(ErrorCode::kUnimplemented, "this backend restores no packed weights");
  }

  virtual void MatMul(const MatMulArgs&) = 0;
  virtual void RmsNorm(const RmsNormArgs&) = 0;
  virtual void LayerNorm(const LayerNormArgs&) = 0;
  virtual void GatedActivation(const GatedActivationArgs&) = 0;
  virtual void Embedding(const EmbeddingArgs&) = 0;
  virtual void GatherRows(const GatherRowsArgs&) = 0;
  virtual void ScatterRows(const ScatterRowsArgs&) = 0;
  virtual void AddRows(const AddRowsArgs&) = 0;
  virtual void RopeWriteKv(const RopeWriteKvArgs&) = 0;
  virtual void SelfAttention(const SelfAttentionArgs&) = 0;
  virtual void CrossAttention(const CrossAttentionArgs&) = 0;
  virtual void DenseAttention(const DenseAttentionArgs&) = 0;
  virtual void Patchify(const PatchifyArgs&) = 0;
  virtual void CopyKvPages(const CopyKvPagesArgs&) = 0;
  // Complete on return.
  virtual void Sample(const SampleArgs&) = 0;
  // Sample in two halves, so that ops which read its ids (IdOfDraw) are queued before the host has
  // seen them. Begin queues the draw, whose `results` are not looked at. End waits for the oldest
  // draw that was begun, for nothing that was queued after it, and gives its results. At most
  // kMostDraws are begun at a time.
  static constexpr size_t kMostDraws = 2;
  virtual void BeginSample(const SampleArgs&) = 0;
  virtual void EndSample(std::span<SampleResult> results) = 0;

  // Fused ops: the default body (kernels/fused.cc) is made of the ops above and is the fused body's
  // test. RMSNorm per head over the D features of each head of q or k, in place (q_norm, k_norm).
  virtual void HeadRmsNorm(const TensorView& x, int heads, const float* weight, float eps);
};

}  // namespace tessera
