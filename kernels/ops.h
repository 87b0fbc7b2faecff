// Arguments of every op, one POD struct an op: the contract between models and backends.
//
// Letters (kernels/README.md): R rows of a step, H query heads, G K/V heads, D head dim, C hidden
// size, F feed-forward width, V vocabulary, K and N inner and outer size of a matmul, T tiles, P
// tokens of a tile. Activations have the backend's activation_dtype(); weights of norms, biases,
// gates, tables are fp32. Inputs and outputs may not overlap unless an op says so. Shapes are
// checked at the launcher; a mismatch is a programmer error. R = 0 is legal everywhere and does
// nothing.
//
// Results of a row do not depend on other rows of the call, on R, or on the number of threads
// (ARCHITECTURE decision 5): the order in which an op adds numbers is a function of K, D and the
// key index alone.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "kernels/dtype.h"
#include "kernels/kv_view.h"
#include "kernels/tensor.h"

namespace tessera {

class PackedMatrix;  // kernels/backend.h

enum class Activation : uint8_t {
  kNone,
  kSilu,       // x * sigmoid(x)
  kGelu,       // exact, by erf
  kGeluTanh,   // "gelu_pytorch_tanh", "gelu_new"
  kQuickGelu,  // x * sigmoid(1.702 x)
  kRelu,
};

// out[R, N] = epilogue(x[R, K] * w[N, K]^T). Operand rounding: x is rounded to the activation dtype
// chosen for the backend (fp32 or bf16) before it is multiplied; sums are fp32 in ascending order
// of k. int8 and int4 weights: x is quantised to 8 bits instead (the CPU: kernels/cpu/quant.h).
// epilogue(y) = residual + gate * act(y + bias), absent parts left out. `residual` may be `out`.
struct MatMulArgs {
  TensorView x;                     // [R, K]
  const PackedMatrix* w = nullptr;  // N x K
  const float* bias = nullptr;      // [N] or null
  Activation activation = Activation::kNone;
  float gate = 1.0f;    // e.g. tanh(gate_attn) of a gated residual
  TensorView residual;  // [R, N] or data == null
  TensorView out;       // [R, N]; rows may be strided
};

// out[R, C] = x / sqrt(mean(x^2) + eps) * weight  (LlamaRMSNorm, MllamaTextRMSNorm). out may be x.
struct RmsNormArgs {
  TensorView x;  // [R, C]
  const float* weight = nullptr;
  float eps = 1e-5f;
  TensorView out;
};

// out[R, C] = (x - mean) / sqrt(var + eps) * weight + bias. bias may be null. out may be x.
struct LayerNormArgs {
  TensorView x;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 1e-5f;
  TensorView out;
};

// out[R, F] = act(gate_up[:, 0:F]) * gate_up[:, F:2F]. out may be gate_up[:, 0:F].
struct GatedActivationArgs {
  TensorView gate_up;  // [R, 2F]
  Activation activation = Activation::kSilu;
  TensorView out;  // [R, F]
};

// An id that the host need not know: that of row `row` of the draw (Sample, BeginSample) queued
// last before the op that reads it, or 0 where that was invalid. Below 0, as no real id is.
constexpr int32_t IdOfDraw(int32_t row) { return -1 - row; }

// out[R, C] = table[ids[r], :]
struct EmbeddingArgs {
  std::span<const int32_t> ids;  // [R], each in [0, table rows), or IdOfDraw
  const PackedMatrix* table = nullptr;
  TensorView out;
};

// out[i, :] = x[rows[i], :]
struct GatherRowsArgs {
  TensorView x;                   // [R, C]
  std::span<const int32_t> rows;  // [I], each in [0, R)
  TensorView out;                 // [I, C]
};

// out[rows[i], :] = x[i, :]. Row indices are distinct.
struct ScatterRowsArgs {
  TensorView x;                   // [I, C]
  std::span<const int32_t> rows;  // [I]
  TensorView out;                 // [R, C]
};

// x[r, :] += table[row_of(r), :] * scale, where row_of(r) = rows[r], or r % table rows where `rows`
// is empty. For class, position and tile embeddings.
struct AddRowsArgs {
  TensorView table;               // [M, C] fp32
  std::span<const int32_t> rows;  // [R] or empty
  float scale = 1.0f;
  TensorView x;  // [R, C], in place
};

// Rotary position embedding by halves (rotate_half) in place on q and k, then k and v are rounded
// to the cache's dtype and written to their slots. For cross-attention K/V: cos and q empty, no
// rotation. slot = page * page_tokens + token in page.
struct RopeWriteKvArgs {
  TensorView q;                      // [R, H * D] or data == null
  TensorView k;                      // [R, G * D]
  TensorView v;                      // [R, G * D]
  const float* cos_table = nullptr;  // [positions, rotary_dim / 2] or null: no rotation
  const float* sin_table = nullptr;
  int rotary_dim = 0;                  // even, at most D; the first rotary_dim features rotate
  std::span<const int32_t> positions;  // [R]
  std::span<const int64_t> slots;      // [R]
  KvLayerView kv;
};

// One sequence's rows in a step: rows [row_begin, row_begin + row_count) stand at positions
// first_position, ... of a sequence whose pages are pages[page_begin, page_begin +
// ceil((first_position + row_count) / page_tokens)).
struct SequenceRows {
  int32_t row_begin = 0;
  int32_t row_count = 0;
  int32_t first_position = 0;
  int32_t page_begin = 0;
};

// Causal attention over the paged cache, which already holds the rows' own K and V (RopeWriteKv ran
// before). Row at position p attends to keys 0..p, in blocks of kAttentionKeyBlock keys counted
// from position 0, online softmax.
inline constexpr int kAttentionKeyBlock = 64;
struct SelfAttentionArgs {
  TensorView q;  // [R, H * D]
  KvLayerView kv;
  std::span<const SequenceRows> sequences;  // every row of q belongs to at most one
  std::span<const int32_t> pages;           // block tables of all sequences, flat
  float scale = 0;                          // usually 1 / sqrt(D)
  TensorView out;                           // [R, H * D]
};

// One row of a cross-attention call: it attends to all keys of the tiles tile_pages[begin, end), in
// that order.
struct CrossRow {
  int32_t tiles_begin = 0;
  int32_t tiles_end = 0;
};

// Not causal, no rotation. Rows that share the same [begin, end) stand next to each other, which a
// backend may use to read the pages once. A row with begin == end gets zeros.
struct CrossAttentionArgs {
  TensorView q;                         // [R, H * D]
  KvLayerView kv;                       // page_tokens = P
  std::span<const CrossRow> rows;       // [R]
  std::span<const int32_t> tile_pages;  // flat
  float scale = 0;
  TensorView out;  // [R, H * D]
};

// Attention over one dense sequence (vision): rows [row_begin, row_begin + R) of a sequence of S
// tokens whose K and V are given whole. Key blocks of kAttentionKeyBlock from key 0. `padding`:
// [S], 1 for padding tokens or empty; a padding query does not see padding keys, all other pairs
// see each other (MllamaVisionModel). K and V are rounded to the backend's operand_dtype() first.
struct DenseAttentionArgs {
  TensorView q;  // [R, H * D], rows may be strided
  TensorView k;  // [S, G * D], rows may be strided
  TensorView v;  // [S, G * D]
  int head_dim = 0;
  std::span<const uint8_t> padding;  // [S] or empty
  int64_t row_begin = 0;
  float scale = 0;
  TensorView out;  // [R, H * D]
};

// Pixels to patch rows: out[t * gh * gw + i * gw + j, c * ps * ps + y * ps + x] =
//   lut[c][tiles[t, c, i * ps + y, j * ps + x]]   (order of a flattened Conv2d weight [C_out, 3,
//   ps, ps]).
// gh = height / ps and gw = width / ps, rounded down. Tiles t >= used give 0.0 (padding tiles are
// zero after normalisation).
struct PatchifyArgs {
  const uint8_t* tiles = nullptr;  // [used, 3, height, width]
  int used = 0;
  int height = 0, width = 0;
  int patch_size = 0;
  const std::array<std::array<float, 256>, 3>* lut = nullptr;
  int64_t row_begin = 0;  // first patch row to make, counted over all tiles
  TensorView out;         // [R, 3 * ps * ps], rows row_begin .. row_begin + R
};

// Copies whole pages of one layer, K and V. Sources and targets are distinct pages (the last,
// partly filled page of a prompt whose choices go separate ways).
struct PageCopy {
  int32_t from = 0;
  int32_t to = 0;
};
struct CopyKvPagesArgs {
  KvLayerView kv;
  std::span<const PageCopy> copies;
};

// ---- Sampling
// -------------------------------------------------------------------------------------------------------
// Defined exactly, so that every backend and every batch draws the same token from the same logits
// (fp32):
//  1. l = logit; l += bias; banned ids are removed; repetition penalty r for ids that occur (prompt
//  or output):
//     l > 0 ? l / r : l * r; then l -= frequency * count_in_output + presence * (count_in_output >
//     0).
//  2. temperature == 0: the largest l, lowest id first. Else z = l / temperature in fp64, ids
//  ordered by z descending, id ascending.
//  3. top_k > 0 keeps the first k. Weights w = floor(2^40 * Exp2((z - z_max) * log2(e))) as
//  integers (SampleExp2 in
//     kernels/sampling.h); top_p < 1 keeps the shortest prefix whose sum >= top_p * sum of all
//     kept; min_p > 0 ends the prefix before the first w < min_p * 2^40. Products and comparisons
//     in fp64.
//  4. u = Philox4x32-10(key = seed, counter = {position, choice, 0, 0}), 64 bits; target = floor(u
//  * sum / 2^64); the
//     first id whose running sum exceeds target.
// Log-probabilities are those of the model's own distribution: log softmax of the raw logits,
// before step 1.
struct TokenCount {
  int32_t id = 0;
  int32_t in_prompt = 0;
  int32_t in_output = 0;
};
struct LogitBias {
  int32_t id = 0;
  float bias = 0;
};
struct SampleRow {
  int32_t logits_row = 0;
  float temperature = 0;
  int32_t top_k = 0;  // 0: off
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  uint64_t seed = 0;
  uint32_t choice = 0;                 // index among n
  uint32_t position = 0;               // of the token to be drawn
  int32_t logprobs = -1;               // alternatives to report, -1: no log-probabilities
  std::span<const TokenCount> counts;  // empty where no penalty is set
  std::span<const LogitBias> bias;
  std::span<const int32_t> banned;  // e.g. end ids before min_tokens
};
inline constexpr int kMaxLogprobs = 20;
struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};
struct SampleResult {
  int32_t id = -1;
  bool invalid = false;  // a logit was NaN, or nothing was left to draw from
  float logprob = 0;     // of `id`; set where logprobs >= 0
  int32_t alternatives = 0;
  std::array<TokenLogprob, kMaxLogprobs> top;  // best first
};
struct SampleArgs {
  TensorView logits;                // [L, V] fp32, not modified
  std::span<const SampleRow> rows;  // [I]
  std::span<SampleResult> results;  // [I]
};

}  // namespace tessera
