// The case list of the ops: every backend and tier runs all of it (ops_test.cc), against the
// float64 bodies of reference.h. Shapes are small, odd and ragged on purpose: one case a question,
// not one a model.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"

namespace tessera::ops_test {

struct MatMulCase {
  int64_t rows, k, n;
  WeightFormat format = WeightFormat::kF32;
  Activation activation = Activation::kNone;
  bool bias = false, residual = false, in_place = false;
  float gate = 1.0f;
  int64_t padded_k = 0;  // columns that only the packed matrix has
  int sources = 1;       // stacked on axis 0
  int64_t row_gap = 0;   // elements between rows of x, residual and out
};

inline std::vector<MatMulCase> MatMulCases() {
  using enum WeightFormat;
  using enum Activation;
  std::vector<MatMulCase> cases = {
      {0, 8, 8},                                            // no rows
      {1, 1, 1},                                            // the smallest
      {1, 64, 16},                                          // one panel, exactly
      {1, 65, 17, kBF16},                                   // one lane and one k over
      {2, 33, 100, kF16, kNone, true},                      //
      {3, 200, 47, kF32, kSilu, true, true},                // all of the epilogue
      {5, 96, 130, kBF16, kGelu, true, true, true, 0.37f},  // residual is out itself, gated
      {8, 128, 64, kF16, kGeluTanh},                        //
      {9, 31, 33, kBF16, kQuickGelu, true, false, false, -0.5f, 0, 1, 3},
      {13, 77, 50, kF32, kRelu, false, true, false, 1.0f, 0, 1, 5},
      {17, 70, 41, kBF16, kNone, false, false, false, 1.0f, 96},    // inner size that a layout pads
      {33, 600, 53, kBF16, kNone, true, false, false, 1.0f, 0, 3},  // K in blocks, fused sources
      {64, 1030, 96, kF16, kSilu, false, true, true, 1.0f, 0, 2},
      {140, 520, 35, kF32, kNone, true},  // more rows than a row block
      {130, 64, 300, kBF16, kNone},
  };
  return cases;
}

struct RowCase {  // norms, gated activation
  int64_t rows, columns;
  bool in_place = false, bias = true;
  int64_t row_gap = 0;
};
inline std::vector<RowCase> RowCases() {
  return {{0, 16},
          {1, 1},
          {1, 15},
          {2, 16, true},
          {3, 17, false, false},
          {5, 64, false, true, 4},
          {4, 67, true},
          {33, 100, false, true, 1},
          {2, 1029}};
}

struct HeadNormCase {
  int64_t rows;
  int heads;
  int64_t head_dim, row_gap;
};
inline std::vector<HeadNormCase> HeadNormCases() {
  return {{0, 2, 8, 0}, {1, 1, 5, 0}, {3, 4, 12, 20}, {7, 2, 80, 0}};
}

struct RopeCase {
  int64_t rows;
  int heads, kv_heads, head_dim, rotary_dim, page_tokens;
  DType kv_dtype;
};
inline std::vector<RopeCase> RopeCases() {
  return {{0, 2, 1, 8, 8, 16, DType::kF32},    {1, 1, 1, 2, 2, 16, DType::kF32},
          {5, 4, 2, 12, 12, 16, DType::kBF16}, {9, 6, 2, 20, 8, 16, DType::kF16},
          {33, 4, 4, 64, 64, 16, DType::kF32}, {20, 0, 2, 16, 0, 25, DType::kBF16}};
}

// Sequences of a step: `cached` keys stand in the cache before its `rows` rows.
struct SelfSequence {
  int cached, rows;
};
struct SelfCase {
  int heads, kv_heads, head_dim;
  DType kv_dtype;
  std::vector<SelfSequence> sequences;
};
inline std::vector<SelfCase> SelfCases() {
  return {{1, 1, 1, DType::kF32, {{0, 1}}},
          {2, 2, 12, DType::kF32, {{0, 5}}},
          {4, 2, 20, DType::kBF16, {{0, 17}, {63, 1}, {64, 1}, {65, 2}}},
          {8, 2, 64, DType::kF32, {{15, 1}, {16, 1}, {0, 70}, {130, 9}}},
          {6, 2, 80, DType::kF16, {{200, 3}, {0, 1}}},
          {3, 1, 88, DType::kBF16, {{31, 33}}},
          {16, 2, 128, DType::kBF16, {{100, 1}, {0, 0}, {5, 1}}},
          {8, 2, 64, DType::kI8, {{15, 1}, {0, 70}, {130, 9}}},
          {6, 2, 20, DType::kI8, {{63, 1}, {64, 3}}},
          {2, 1, 256, DType::kF32, {{0, 20}}}};
}

struct CrossCase {
  int heads, kv_heads, head_dim, page_tokens;
  DType kv_dtype;
  std::vector<int> tiles_of_row;  // rows of the same count share their tiles; -1: other tiles, same
                                  // count as before
};
inline std::vector<CrossCase> CrossCases() {
  return {{2, 1, 12, 5, DType::kF32, {1}},
          {4, 2, 64, 17, DType::kF32, {0, 1, 1, 1, 2, 2, 0}},
          {8, 2, 20, 16, DType::kBF16, {4, 4, 4, 4, 4, 4, 4, 4, 4, 3}},
          {6, 2, 80, 70, DType::kF16, {2, -1, -1, 1}},
          {4, 4, 88, 130, DType::kBF16, {1, 1, 3}},
          {4, 2, 88, 70, DType::kI8, {2, 2, -1, 1}}};
}

struct DenseCase {
  int heads, kv_heads, head_dim;
  int64_t keys, row_begin, rows, padding, row_gap;  // the last `padding` tokens are padding
};
inline std::vector<DenseCase> DenseCases() {
  return {{1, 1, 2, 1, 0, 1, 0, 0},       {2, 2, 12, 7, 0, 7, 0, 3},
          {2, 1, 20, 65, 3, 40, 9, 0},    {3, 3, 80, 130, 0, 130, 70, 0},
          {4, 4, 88, 200, 190, 10, 8, 5}, {2, 2, 64, 64, 0, 0, 0, 0}};
}

struct PatchifyCase {
  int used, height, width, patch_size;
  int64_t row_begin, rows;
};
inline std::vector<PatchifyCase> PatchifyCases() {
  return {{1, 4, 4, 4, 0, 1},
          {2, 9, 14, 4, 0, 12},
          {1, 28, 28, 14, 1, 7},
          {0, 4, 8, 2, 0, 8},
          {3, 5, 5, 1, 20, 0}};
}

}  // namespace tessera::ops_test
