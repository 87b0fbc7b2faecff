// The micro-kernels of one CPU tier: a table of functions, filled by kernels/cpu/isa/TIER/. The
// drivers in kernels/cpu cut an op into tiles and call these; nothing else differs between tiers.
//
// Layouts (kernels/README.md): a panel is 16 outputs of a matmul side by side, [K][16]. A K block
// of a cache is [D][16 keys], a V block [16 keys][D].
//
// Every function gives a row the same bits whatever other rows, panels or queries the call has.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/cpu/quant.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"

namespace tessera::cpu {

inline constexpr int kLanes = 16;
static_assert(kLanes == kQuantLanes);

// acc[r][p * 16 + lane] += sum over k ascending of a[r][k] * w[p][k][lane]: one chain of fp32
// multiply-adds an element.
struct MatMulTile {
  int rows = 0;    // 1 .. matmul_rows
  int panels = 0;  // 1 .. matmul_panels(rows)
  int64_t k_count = 0;
  const float* a = nullptr;  // [rows][a_stride]
  int64_t a_stride = 0;
  const void* w = nullptr;   // of the table entry's format
  int64_t panel_stride = 0;  // elements from one panel to the next
  float* acc = nullptr;      // [rows][acc_stride]
  int64_t acc_stride = 0;
};

// out[r][i] = residual[r][i] + gate * act(acc[r][i] + bias[i]) for i in [0, n); null parts are left
// out.
struct EpilogueRows {
  int64_t rows = 1;
  int64_t n = 0;
  const float* acc = nullptr;  // [rows][acc_stride]
  int64_t acc_stride = 0;
  const float* bias = nullptr;
  const float* residual = nullptr;  // [rows][residual_stride]
  int64_t residual_stride = 0;
  float* out = nullptr;  // [rows][out_stride]
  int64_t out_stride = 0;
  float gate = 1.0f;
  Activation activation = Activation::kNone;
};

// One block of at most 64 keys, for up to attend_queries query vectors that share a K/V head: a
// step of online softmax.
//   s[j] = (q . k[j]) * scale over visible j;  m' = max(m, s);  c = exp(m - m');  p[j] = exp(s[j] -
//   m') sum = sum * c + p summed;  out = out * c, then += p[j] * v[j], j ascending.
// A query that sees no key of the block is left as it is. K and V of keys that nobody sees are
// never used, those that one query does not see are never used for it: they may be NaN.
struct AttendBlock {
  int queries = 0;
  int head_dim = 0;
  int padded_dim = 0;                 // head_dim rounded up to 16
  int key_blocks = 0;                 // 1..4 blocks of 16 keys
  const void* k[4] = {};              // [D][16]; int8: 16 scales, then the numbers
  const void* v[4] = {};              // [16][D]; likewise
  const uint64_t* visible = nullptr;  // [queries] bit j: key j of the 64 is seen
  float scale = 0;
  const float* q = nullptr;  // [attend_queries][padded_dim]
  float* max = nullptr;      // [attend_queries], starts at -inf
  float* sum = nullptr;      // [attend_queries], starts at 0
  float* out = nullptr;      // [attend_queries][padded_dim], starts at 0
};

// Storage of weights and K/V as an index: fp32, fp16, bf16.
inline constexpr int kFormats = 3;
constexpr int FormatIndex(DType dtype) {
  return dtype == DType::kF32 ? 0 : dtype == DType::kF16 ? 1 : 2;
}
constexpr int FormatIndex(WeightFormat format) {
  return format == WeightFormat::kF32 ? 0 : format == WeightFormat::kF16 ? 1 : 2;
}

// Storage of K/V: as above, and int8.
inline constexpr int kKvFormats = 4;
constexpr int KvFormatIndex(DType dtype) { return dtype == DType::kI8 ? 3 : FormatIndex(dtype); }

// C[rows 16][16 columns] of a bf16 tile product: see isa/amx/. Present in AMX tiers only.
struct AmxTile {
  int row_tiles = 0;            // 1..2 tiles of 16 rows
  int panels = 0;               // 1..2
  int64_t k_count = 0;          // multiple of 32
  const uint16_t* a = nullptr;  // bf16, [row_tiles * 16][a_stride]
  int64_t a_stride = 0;
  const uint16_t* w = nullptr;  // bf16 panels [K / 2][16][2]
  int64_t panel_stride = 0;
  float* acc = nullptr;  // [row_tiles * 16][acc_stride]
  int64_t acc_stride = 0;
};

struct Kernels {
  std::string_view tier;

  int matmul_rows = 1;  // most rows of a tile
  int (*matmul_panels)(int rows) = nullptr;
  void (*matmul_tile[kFormats])(const MatMulTile&) = {};
  // Panels of narrow weights as fp32, `count` elements (a multiple of 16): pays when several row
  // tiles read them.
  void (*widen[kFormats])(const void* from, float* to, int64_t count) = {};
  void (*amx_tile)(const AmxTile&) = nullptr;
  void (*epilogue)(const EpilogueRows&) = nullptr;
  QuantKernels quant;  // int8 and int4 weights

  void (*gated_activation)(Activation, const float* gate, const float* up, float* out,
                           int64_t n) = nullptr;
  void (*rms_norm)(const float* x, const float* weight, float eps, float* out, int64_t n) = nullptr;
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, float* out,
                     int64_t n) = nullptr;

  // Ceilings of this tier on one core, for the benches: `rounds` of independent FMAs (returns the
  // FLOPs done), and one pass of loads over memory. `sink` takes a value that keeps the compiler
  // honest.
  int64_t (*fma_loop)(int64_t rounds, float* sink) = nullptr;
  void (*read_loop)(const void* from, int64_t bytes, float* sink) = nullptr;

  // kernels/sampling_sum.h: the same bits on every tier.
  uint64_t (*sample_weight_sum)(const float* l, int64_t n, double temperature,
                                double z_max) = nullptr;

  // 16 rows of `columns` numbers, `stride` elements apart, to [columns][16]: a K block of fp32.
  void (*transpose)(const float* from, int64_t stride, int64_t columns, float* to) = nullptr;
  int attend_queries = 1;  // queries of a tile; at most kMaxAttendQueries
  void (*attend[kKvFormats])(const AttendBlock&) = {};
};
inline constexpr int kMaxAttendQueries = 8;

// Tables of the tiers that are part of this build; null where the build has none (other
// processors).
const Kernels* ReferenceKernels();
const Kernels* Avx2Kernels();
const Kernels* Avx512Kernels();
const Kernels* Avx2VnniKernels();    // the avx2 tier of processors with AVX-VNNI
const Kernels* Avx512VnniKernels();  // the avx512 tier of processors with VNNI
const Kernels* AmxKernels();

}  // namespace tessera::cpu
