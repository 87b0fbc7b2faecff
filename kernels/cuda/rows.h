// The row kernels: norms, activations, moves of rows, patches, the epilogue of a matmul, our own
// matmul, sampling. Parameters as plain structs and the launchers that choose an instance.
//
// Pointers are device memory, strides in elements of the tensor's type. Launchers queue on `stream`
// and return; they keep no state and are thread safe. No rows is a success that starts nothing.
// Shapes are the caller's business (rows.cc checks them); alignment is looked at here: 16-byte
// paths where pointers and strides allow, one element at a time else, with the same bits, because
// the order in which a row's numbers are added depends on its length alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera::cuda {

// Element types of rows in memory. Arithmetic is fp32.
enum class RowType : uint8_t { kF32, kBf16, kF16 };

// The values of tessera::Activation (kernels/ops.h), which kernels do not include: host headers
// take seconds to compile. rows.cc holds the two together.
enum class RowActivation : uint8_t { kNone, kSilu, kGelu, kGeluTanh, kQuickGelu, kRelu };

// ---- norm.cu
// A row of the op is one of `heads` runs of `columns` elements in a row of memory; heads = 1 but
// for HeadRmsNorm. out may be x.
struct NormParams {
  const void* x = nullptr;
  void* out = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;  // LayerNorm only, or null
  int64_t x_stride = 0;
  int64_t out_stride = 0;
  int64_t rows = 0;  // of memory
  int32_t heads = 1;
  int32_t columns = 0;
  float eps = 0;
};
enum class NormKind : uint8_t { kRms, kLayer };
LaunchStatus LaunchNorm(NormKind kind, RowType type, const NormParams& params, Stream stream);

// ---- activation.cu
// out[r, c] = act(gate_up[r, c]) * gate_up[r, columns + c]
struct GatedParams {
  const void* gate_up = nullptr;
  void* out = nullptr;
  int64_t gate_up_stride = 0;
  int64_t out_stride = 0;
  int64_t rows = 0;
  int64_t columns = 0;
};
LaunchStatus LaunchGatedActivation(RowActivation activation, RowType type,
                                   const GatedParams& params, Stream stream);

// ---- epilogue.cu
// out[r, c] = residual[r, c] + gate * act(y[r, c] + bias[c]), absent parts left out. out may be
// residual, and y where their types agree.
struct EpilogueParams {
  const void* y = nullptr;
  const float* bias = nullptr;
  const void* residual = nullptr;  // of the type of out
  void* out = nullptr;
  int64_t y_stride = 0;
  int64_t residual_stride = 0;
  int64_t out_stride = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  float gate = 1.0f;
  RowActivation activation = RowActivation::kNone;
};
LaunchStatus LaunchEpilogue(RowType y_type, RowType out_type, const EpilogueParams& params,
                            Stream stream);

// ---- embedding.cu
// Row i of `out` becomes row rows[i] of x (gather), or row rows[i] of out row i of x (scatter).
struct MoveParams {
  const void* x = nullptr;
  void* out = nullptr;
  const int32_t* rows = nullptr;   // [count]
  const int32_t* drawn = nullptr;  // what rows below 0 stand for (IdOfDraw of kernels/ops.h)
  int64_t x_stride = 0;            // bytes, as row_bytes
  int64_t out_stride = 0;
  int64_t row_bytes = 0;
  int64_t count = 0;
};
enum class MoveKind : uint8_t { kGather, kScatter };
LaunchStatus LaunchMoveRows(MoveKind kind, const MoveParams& params, Stream stream);

// out[i, c] = table[ids[i], c]. Where the types agree, it is a move.
struct EmbeddingParams {
  const void* table = nullptr;
  void* out = nullptr;
  const int32_t* ids = nullptr;
  const int32_t* drawn = nullptr;  // what the ids below 0 stand for (IdOfDraw)
  int64_t table_stride = 0;
  int64_t out_stride = 0;
  int64_t columns = 0;
  int64_t count = 0;
};
LaunchStatus LaunchEmbedding(RowType table_type, RowType out_type, const EmbeddingParams& params,
                             Stream stream);

// x[r, c] += table[row_of(r), c] * scale; row_of(r) = rows[r], or r % table_rows where rows is
// null.
struct AddRowsParams {
  const float* table = nullptr;
  const int32_t* rows = nullptr;
  void* x = nullptr;
  int64_t table_stride = 0;
  int64_t x_stride = 0;
  int64_t table_rows = 0;
  int64_t count = 0;  // rows of x
  int64_t columns = 0;
  float scale = 1.0f;
};
LaunchStatus LaunchAddRows(RowType type, const AddRowsParams& params, Stream stream);

// ---- patchify.cu
// PatchifyArgs of kernels/ops.h. `tiles` begins with tile `first_tile`; `row_end` - `row_begin`
// rows are made.
struct PatchifyParams {
  const uint8_t* tiles = nullptr;  // [used - first_tile, 3, height, width]
  const float* lut = nullptr;      // [3, 256]
  void* out = nullptr;
  int64_t out_stride = 0;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int32_t first_tile = 0;
  int32_t used = 0;
  int32_t height = 0;
  int32_t width = 0;
  int32_t patch_size = 0;
};
LaunchStatus LaunchPatchify(RowType type, const PatchifyParams& params, Stream stream);

// ---- matmul_fixed.cu
// out[M, N] = epilogue(x[M, K] w[N, K]^T), the epilogue that of EpilogueParams. A tile's shape and
// the order of K depend on N, K and the types alone, so a row's bits depend on nothing but the row.
// w: rows of k_stored elements, a multiple of 8, 16-byte aligned, zeros beyond K.
struct MatMulParams {
  const void* x = nullptr;
  const void* w = nullptr;
  const float* bias = nullptr;
  const void* residual = nullptr;
  void* out = nullptr;
  int64_t x_stride = 0;
  int64_t residual_stride = 0;
  int64_t out_stride = 0;
  int64_t rows = 0;
  int32_t n = 0;
  int32_t k = 0;
  int32_t k_stored = 0;
  float gate = 1.0f;
  RowActivation activation = RowActivation::kNone;
};
// Columns of an output tile: a function of N alone.
int MatMulTileColumns(int64_t n);
// type: of x and w, kBf16 or kF16; out_type: the same, or kF32.
LaunchStatus LaunchMatMulFixed(RowType type, RowType out_type, const MatMulParams& params,
                               Stream stream);

// ---- sample.cu
// One row to draw, as the device reads it. Everything that is not the vocabulary's size is worked
// out by the host: the random bits, products with a temperature.
struct SampleTask {
  double temperature = 0;  // 0: greedy
  double top_p = 1;        // used where use_top_p
  double least = 0;        // min_p * 2^40
  uint64_t bits = 0;       // SampleBits(seed, position, choice)
  float cut = 0;           // logits further below the best surely have weight 0
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  int32_t logits_row = 0;
  int32_t top_k = 0;
  int32_t alternatives = -1;  // -1: no log-probabilities
  int32_t use_top_p = 0;
  int32_t use_min_p = 0;
  int32_t counts_begin = 0, counts_end = 0;  // sorted by id; repeats keep their order
  int32_t bias_begin = 0, bias_end = 0;      // likewise
  int32_t banned_begin = 0, banned_end = 0;
};
struct SampleCount {
  int32_t id = 0;
  int32_t in_prompt = 0;
  int32_t in_output = 0;
};
struct SampleBias {
  int32_t id = 0;
  float bias = 0;
};
inline constexpr int kSampleAlternatives = 20;
struct SampleOutput {
  uint64_t sum_high = 0;  // of the raw distribution, in units of 2^-40 ...
  uint64_t sum_low =
      0;  // ... and 2^-80 of its largest term (SampleLogNormaliser of kernels/sampling.h)
  int32_t id = -1;
  int32_t invalid = 1;
  float raw_max = 0;
  float id_logit = 0;
  int32_t alternatives = 0;
  int32_t unused = 0;
  int32_t top_id[kSampleAlternatives] = {};
  float top_logit[kSampleAlternatives] = {};
};
struct SampleParams {
  const float* logits = nullptr;
  int64_t logits_stride = 0;
  const SampleTask* tasks = nullptr;
  const SampleCount* counts = nullptr;
  const SampleBias* bias = nullptr;
  const int32_t* banned = nullptr;
  uint32_t* keys = nullptr;  // [SampleBlocks(rows)][SampleKeysStride(vocab)]
  SampleOutput* outputs = nullptr;
  int32_t* ids =
      nullptr;  // [rows], or null: drawn ids once more, as the next step's embedding reads
  int32_t rows = 0;
  int32_t vocab = 0;
};
inline constexpr int kMaxSampleBlocks = 128;
inline int SampleBlocks(int64_t rows) {
  return static_cast<int>(rows < kMaxSampleBlocks ? rows : kMaxSampleBlocks);
}
inline int64_t SampleKeysStride(int64_t vocab) { return (vocab + 31) / 32 * 32; }
LaunchStatus LaunchSample(const SampleParams& params, Stream stream);

}  // namespace tessera::cuda
