// Ops that move rows: Embedding, GatherRows and ScatterRows copy bytes, AddRows adds table rows.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

namespace tessera::cuda {

struct MoveLaunch {
  MoveParams op;
  int64_t blocks_per_row = 0;
  int32_t scatter = 0;
};

inline constexpr unsigned kMoveThreads = 128;
// Units of a thread: with one, a quarter of a row number's sector would be a twentieth of what a
// warp loads.
inline constexpr int kMoveUnits = 4;

// Unit: what a thread copies at a time, 16 bytes where everything is aligned to them.
template <typename Unit>
TESSERA_KERNEL TESSERA_BOUNDS(kMoveThreads, 8) void MoveRowsKernel(MoveLaunch p) {
  const int64_t item = block_x() / p.blocks_per_row;
  const int64_t first = block_x() % p.blocks_per_row * kMoveThreads * kMoveUnits + thread_x();
  const int64_t units = p.op.row_bytes / static_cast<int64_t>(sizeof(Unit));
  if (first >= units) return;
  const int64_t row = TableRow(p.op.rows, p.op.drawn, item);
  const int64_t from = p.scatter != 0 ? item : row, to = p.scatter != 0 ? row : item;
  const auto* x = static_cast<const uint8_t*>(p.op.x) + from * p.op.x_stride;
  auto* out = static_cast<uint8_t*>(p.op.out) + to * p.op.out_stride;
  Unit held[kMoveUnits];
#pragma unroll
  for (int i = 0; i < kMoveUnits; ++i) {
    const int64_t unit = first + i * kMoveThreads;
    if (unit < units) held[i] = ldg(reinterpret_cast<const Unit*>(x) + unit);
  }
#pragma unroll
  for (int i = 0; i < kMoveUnits; ++i) {
    const int64_t unit = first + i * kMoveThreads;
    if (unit < units) stg(reinterpret_cast<Unit*>(out) + unit, held[i]);
  }
}

template <typename Unit>
LaunchStatus LaunchMoveOf(MoveLaunch p, Stream stream) {
  constexpr auto kBytesPerBlock = static_cast<int64_t>(kMoveThreads * kMoveUnits * sizeof(Unit));
  p.blocks_per_row = (p.op.row_bytes + kBytesPerBlock - 1) / kBytesPerBlock;
  const Grid grid{static_cast<unsigned>(p.op.count * p.blocks_per_row)};
  return launch(&MoveRowsKernel<Unit>, grid, kMoveThreads, 0, stream, p);
}

LaunchStatus LaunchMoveRows(MoveKind kind, const MoveParams& params, Stream stream) {
  if (params.count == 0 || params.row_bytes == 0) return {};
  const MoveLaunch p{.op = params, .scatter = kind == MoveKind::kScatter};
  const uint64_t all =
      reinterpret_cast<uintptr_t>(params.x) | reinterpret_cast<uintptr_t>(params.out) |
      static_cast<uint64_t>(params.x_stride | params.out_stride | params.row_bytes);
  if (all % 16 == 0) return LaunchMoveOf<uint4>(p, stream);
  if (all % 4 == 0) return LaunchMoveOf<uint32_t>(p, stream);
  return LaunchMoveOf<uint16_t>(p, stream);
}

struct EmbeddingLaunch {
  EmbeddingParams op;
  int64_t blocks_per_row = 0;
  int32_t vectors = 0;
};

template <typename In, typename Out>
TESSERA_KERNEL TESSERA_BOUNDS(kMoveThreads, 8) void EmbeddingKernel(EmbeddingLaunch p) {
  const int64_t item = block_x() / p.blocks_per_row;
  const int64_t first =
      (block_x() % p.blocks_per_row * kMoveThreads * kMoveUnits + thread_x()) * kRun;
  const int64_t columns = p.op.columns;
  if (first >= columns) return;
  const bool vectors = p.vectors != 0;
  const In* row = static_cast<const In*>(p.op.table) +
                  TableRow(p.op.ids, p.op.drawn, item) * p.op.table_stride;
  Out* const out = static_cast<Out*>(p.op.out) + item * p.op.out_stride;
  Run held[kMoveUnits];
#pragma unroll
  for (int i = 0; i < kMoveUnits; ++i) {
    const int64_t column = first + int64_t{i} * kMoveThreads * kRun;
    if (column < columns) held[i] = LoadRun(row, column, columns, vectors);
  }
#pragma unroll
  for (int i = 0; i < kMoveUnits; ++i) {
    const int64_t column = first + int64_t{i} * kMoveThreads * kRun;
    if (column < columns) StoreRun(out, column, columns, vectors, held[i]);
  }
}

LaunchStatus LaunchEmbedding(RowType table_type, RowType out_type, const EmbeddingParams& params,
                             Stream stream) {
  const int64_t in_bytes = BytesOf(table_type), out_bytes = BytesOf(out_type);
  if (table_type == out_type) {
    return LaunchMoveRows(MoveKind::kGather,
                          {.x = params.table,
                           .out = params.out,
                           .rows = params.ids,
                           .drawn = params.drawn,
                           .x_stride = params.table_stride * in_bytes,
                           .out_stride = params.out_stride * out_bytes,
                           .row_bytes = params.columns * out_bytes,
                           .count = params.count},
                          stream);
  }
  if (params.count == 0 || params.columns == 0) return {};
  constexpr int64_t kColumnsPerBlock = kMoveThreads * kMoveUnits * kRun;
  EmbeddingLaunch p{.op = params,
                    .blocks_per_row = (params.columns + kColumnsPerBlock - 1) / kColumnsPerBlock};
  p.vectors = params.columns % kRun == 0 &&
              RunsAligned(params.table, params.table_stride, in_bytes) &&
              RunsAligned(params.out, params.out_stride, out_bytes);
  const Grid grid{static_cast<unsigned>(params.count * p.blocks_per_row)};
  return WithType(table_type, [&](auto in) {
    return WithType(out_type, [&](auto out) {
      return launch(&EmbeddingKernel<decltype(in), decltype(out)>, grid, kMoveThreads, 0, stream,
                    p);
    });
  });
}

struct AddRowsLaunch {
  AddRowsParams op;
  int64_t blocks_per_row = 0;
  int32_t vectors = 0;
};

template <typename T>
TESSERA_KERNEL TESSERA_BOUNDS(kMoveThreads, 8) void AddRowsKernel(AddRowsLaunch p) {
  const int64_t row = block_x() / p.blocks_per_row;
  const int64_t column = (block_x() % p.blocks_per_row * kMoveThreads + thread_x()) * kRun;
  const int64_t columns = p.op.columns;
  if (column >= columns) return;
  const int64_t from = p.op.rows != nullptr ? ldg(p.op.rows + row) : row % p.op.table_rows;
  const bool vectors = p.vectors != 0;
  T* x = static_cast<T*>(p.op.x) + row * p.op.x_stride;
  Run run = LoadRun(static_cast<const T*>(x), column, columns, vectors);
  const Run add = LoadRun(p.op.table + from * p.op.table_stride, column, columns, vectors);
#pragma unroll
  for (int i = 0; i < kRun; ++i) run.v[i] = fadd_rn(run.v[i], fmul_rn(add.v[i], p.op.scale));
  StoreRun(x, column, columns, vectors, run);
}

LaunchStatus LaunchAddRows(RowType type, const AddRowsParams& params, Stream stream) {
  if (params.count == 0 || params.columns == 0) return {};
  constexpr int64_t kColumnsPerBlock = kMoveThreads * kRun;
  AddRowsLaunch p{.op = params,
                  .blocks_per_row = (params.columns + kColumnsPerBlock - 1) / kColumnsPerBlock};
  p.vectors = params.columns % kRun == 0 && RunsAligned(params.x, params.x_stride, BytesOf(type)) &&
              RunsAligned(params.table, params.table_stride, 4);
  const Grid grid{static_cast<unsigned>(params.count * p.blocks_per_row)};
  return WithType(type, [&](auto element) {
    return launch(&AddRowsKernel<decltype(element)>, grid, kMoveThreads, 0, stream, p);
  });
}

}  // namespace tessera::cuda
