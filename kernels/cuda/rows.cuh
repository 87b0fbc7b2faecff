// Four neighbours of a row at a time. 8 bytes of bf16 beside 16 bytes of fp32 (weights, tables,
// biases): both are whole sectors for a warp, which 8 elements a thread would not be for the fp32
// side.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rows.h"

namespace tessera::cuda {

inline constexpr int kRun = 4;

struct Run {
  float v[kRun];
};

// Elements [column, column + 4) of a row of `columns`; those beyond its end are 0. `vectors`: the
// row is aligned to 4 elements, and its length a multiple of 4.
template <typename T>
TESSERA_DEVICE Run LoadRun(const T* row, int64_t column, int64_t columns, bool vectors) {
  Run run;
  if (vectors) {
    if constexpr (sizeof(T) == 4) {
      const auto four = ldg(reinterpret_cast<const float4*>(row + column));
      run.v[0] = four.x, run.v[1] = four.y, run.v[2] = four.z, run.v[3] = four.w;
    } else {
      const auto four = ldg(reinterpret_cast<const uint2*>(row + column));
      const float2_t low = unpack2<T>(four.x), high = unpack2<T>(four.y);
      run.v[0] = low.x, run.v[1] = low.y, run.v[2] = high.x, run.v[3] = high.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kRun; ++i)
      run.v[i] = column + i < columns ? to_float(ldg(row + column + i)) : 0.0f;
  }
  return run;
}

template <typename T>
TESSERA_DEVICE void StoreRun(T* row, int64_t column, int64_t columns, bool vectors,
                             const Run& run) {
  if (vectors) {
    if constexpr (sizeof(T) == 4) {
      stg(reinterpret_cast<float4*>(row + column),
          make_float4(run.v[0], run.v[1], run.v[2], run.v[3]));
    } else {
      stg(reinterpret_cast<uint2*>(row + column),
          make_uint2(pack2<T>(run.v[0], run.v[1]), pack2<T>(run.v[2], run.v[3])));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kRun; ++i)
      if (column + i < columns) stg(row + column + i, from_float<T>(run.v[i]));
  }
}

// The row of a table that an id names; below 0 it is IdOfDraw of kernels/ops.h.
TESSERA_DEVICE int32_t TableRow(const int32_t* ids, const int32_t* drawn, int64_t item) {
  int32_t id = ldg(ids + item);
  if (id < 0) {
    id = ldg(drawn + (-1 - id));
    if (id < 0) id = 0;  // an invalid draw
  }
  return id;
}

// Whether runs of four elements of `bytes` bytes may be loaded whole.
inline bool RunsAligned(const void* pointer, int64_t stride, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(kRun * bytes) == 0 &&
         stride % kRun == 0;
}

inline int64_t BytesOf(RowType type) { return type == RowType::kF32 ? 4 : 2; }

// body(T{}) with the type's element.
template <typename Body>
auto WithType(RowType type, Body&& body) {
  switch (type) {
    case RowType::kBf16: return body(bf16_t{});
    case RowType::kF16: return body(half_t{});
    default: return body(float{});
  }
}

}  // namespace tessera::cuda
