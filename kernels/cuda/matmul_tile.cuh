// What our own matmuls share: matmul_fixed.cu (bf16 and fp16 weights) and matmul_int.cu (int8 and
// int4 weights, many rows). A block of 8 warps makes 128 rows x kN columns; operands lie in shared
// memory in steps of 64 k, x in a ring of stages.
//
// Rows of an operand are 128 bytes, 8 chunks of 16; chunk c of row r lies at chunk c ^ (r % 8), so
// that neither the copies nor ldmatrix (8 rows of one chunk) meet bank conflicts.
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

namespace tessera::cuda {

inline constexpr uint32_t kTileM = 128;
inline constexpr uint32_t kTileK = 64;
inline constexpr uint32_t kMatMulThreads = 256;
inline constexpr uint32_t kStages = 3;
inline constexpr uint32_t kRowBytes = kTileK * 2;

// Where a block's tile stands in the output, and a warp's part in the tile.
struct TilePlace {
  int64_t first_row = 0;
  int32_t first_column = 0;
  uint32_t rows = 0;  // of the tile, that the op has
  uint32_t warp_m = 0, warp_n = 0;
  // How many of the warp's fragments hold rows at all. Few rows are what decoding has.
  uint32_t fragments = 0;
};

template <uint32_t kN>
struct Tile {
  static constexpr uint32_t kWarpsM = kN == 64 ? 4 : 2;  // of 8
  static constexpr uint32_t kWarpM = kTileM / kWarpsM;   // rows of a warp: 32 or 64
  static constexpr uint32_t kWarpN = 32;
  static constexpr uint32_t kFragmentsM = kWarpM / 16;
  static constexpr uint32_t kFragmentsN = kWarpN / 8;
  static constexpr uint32_t kStageBytes = (kTileM + kN) * kRowBytes;
  // fp32 rows of the finished tile; the 8 more make a warp's 8-byte stores hit each bank once.
  static constexpr uint32_t kPitch = kN + 8;
  static constexpr uint32_t kSharedBytes = kStages * kStageBytes;
  static_assert(kTileM * kPitch * 4 <= kSharedBytes);

  // Of this warp, by a grid of [tiles of rows][tiles of columns].
  TESSERA_DEVICE static TilePlace PlaceOf(int64_t op_rows) {
    TilePlace place{.first_row = int64_t{block_x()} * kTileM,
                    .first_column = static_cast<int32_t>(block_y() * kN),
                    .warp_m = warp_id() % kWarpsM * kWarpM,
                    .warp_n = warp_id() / kWarpsM * kWarpN};
    const int64_t rows_left = op_rows - place.first_row;
    place.rows = rows_left < kTileM ? static_cast<uint32_t>(rows_left) : kTileM;
    const uint32_t warp_rows = place.rows > place.warp_m ? place.rows - place.warp_m : 0;
    const uint32_t needed = (warp_rows + 15) / 16;
    place.fragments = needed < kFragmentsM ? needed : kFragmentsM;
    return place;
  }
};

// Address of the 16 bytes of chunk `chunk` in row `row` of a stage's operand.
TESSERA_DEVICE uint32_t ChunkAt(uint32_t base, uint32_t row, uint32_t chunk) {
  return base + row * kRowBytes + (chunk ^ (row % 8)) * 16;
}

// 8 elements of a row of x that may be unaligned, or end before them.
template <typename T>
TESSERA_DEVICE uint4 GatherChunk(const T* row, int32_t column, int32_t columns) {
  uint32_t words[4];
#pragma unroll
  for (int32_t i = 0; i < 4; ++i) {
    const int32_t at = column + 2 * i;
    const uint32_t low = at < columns ? ldg(row + at).bits : 0;
    const uint32_t high = at + 1 < columns ? ldg(row + at + 1).bits : 0;
    words[i] = low | high << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// One chunk of x into shared memory: by cp.async where its rows are aligned. `inside` is false for
// what the op does not have, which is zero and not read.
template <typename T, bool kAligned>
TESSERA_DEVICE void LoadChunk(uint32_t to, const T* row, int32_t column, int32_t columns,
                              bool inside) {
  if constexpr (kAligned) {
    cp_async16(to, row + column, inside);
  } else {
    sts(to, inside ? GatherChunk(row, column, columns) : make_uint4(0, 0, 0, 0));
  }
}

// Step `step` of x into the stage at `base`. Rows beyond the last fragment that holds a row of the
// op are left as they are: nobody reads them.
template <typename T, bool kAligned>
TESSERA_DEVICE void LoadX(const MatMulParams& p, uint32_t base, int32_t step,
                          const TilePlace& place) {
  constexpr uint32_t kChunks = kTileK / 8;
#pragma unroll
  for (uint32_t i = 0; i < kTileM * kChunks / kMatMulThreads; ++i) {
    const uint32_t item = i * kMatMulThreads + thread_x();
    const uint32_t row = item / kChunks, chunk = item % kChunks;
    if (row >= (place.rows + 15) / 16 * 16) break;
    const int32_t column = step * static_cast<int32_t>(kTileK) + static_cast<int32_t>(chunk * 8);
    const T* x = static_cast<const T*>(p.x) + (place.first_row + row) * p.x_stride;
    LoadChunk<T, kAligned>(ChunkAt(base, row, chunk), x, column, p.k,
                           row < place.rows && column < p.k);
  }
}

// The fragments of 16 k, `slice` of a step's four: x at `base`, w at `weights`.
template <uint32_t kN>
struct Fragments {
  uint32_t a[Tile<kN>::kFragmentsM][4];
  uint32_t b[Tile<kN>::kFragmentsN][2];

  TESSERA_DEVICE void Load(uint32_t base, uint32_t weights, uint32_t slice,
                           const TilePlace& place) {
    // Lanes give the rows of four 8x8 matrices: of A, (rows 0-7, 8-15) x (k 0-7, 8-15), rows
    // first; of B, two fragments' columns x (k 0-7, 8-15), k first.
    const uint32_t lane = lane_id();
#pragma unroll
    for (uint32_t m = 0; m < Tile<kN>::kFragmentsM; ++m)
      if (m < place.fragments)
        ldmatrix_x4(a[m], ChunkAt(base, place.warp_m + m * 16 + lane % 16, slice * 2 + lane / 16));
#pragma unroll
    for (uint32_t n = 0; n < Tile<kN>::kFragmentsN; n += 2) {
      uint32_t four[4];
      ldmatrix_x4(four, ChunkAt(weights, place.warp_n + n * 8 + lane / 16 * 8 + lane % 8,
                                slice * 2 + lane / 8 % 2));
      b[n][0] = four[0], b[n][1] = four[1];
      b[n + 1][0] = four[2], b[n + 1][1] = four[3];
    }
  }

  // Added to the sums [kFragmentsM][kFragmentsN][4] of the warp's part.
  template <typename T, typename Sums>
  TESSERA_DEVICE void Multiply(Sums& sums, const TilePlace& place) const {
#pragma unroll
    for (uint32_t m = 0; m < Tile<kN>::kFragmentsM; ++m)
      if (m < place.fragments)
#pragma unroll
        for (uint32_t n = 0; n < Tile<kN>::kFragmentsN; ++n)
          mma_16x8x16<T>(sums[m][n], a[m], b[n]);
  }
};

// Columns from `column` on times their scales, of which there are whole runs of four; null: as it
// is.
TESSERA_DEVICE Run Scaled(Run run, const float* scales, int64_t column) {
  if (scales == nullptr) return run;
  const Run by = LoadRun(scales, column, 0, true);
#pragma unroll
  for (int i = 0; i < kRun; ++i) run.v[i] *= by.v[i];
  return run;
}

// The sums of a run of four columns, finished and stored.
template <typename Out>
TESSERA_DEVICE void FinishRun(const MatMulParams& op, bool vectors, int64_t row, int64_t column,
                              Run run) {
  if (op.bias != nullptr) {
    const Run bias = LoadRun(op.bias, column, op.n, vectors);
#pragma unroll
    for (int i = 0; i < kRun; ++i) run.v[i] += bias.v[i];
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) run.v[i] = Activate(op.activation, run.v[i]) * op.gate;
  if (op.residual != nullptr) {
    const Out* residual = static_cast<const Out*>(op.residual) + row * op.residual_stride;
    const Run add = LoadRun(residual, column, op.n, vectors);
#pragma unroll
    for (int i = 0; i < kRun; ++i) run.v[i] = fadd_rn(run.v[i], add.v[i]);
  }
  StoreRun(static_cast<Out*>(op.out) + row * op.out_stride, column, op.n, vectors, run);
}

// The tile in shared memory, finished and stored, runs of four columns a thread. `scales`: of each
// column, or null.
template <typename Out, uint32_t kN>
TESSERA_DEVICE void FinishTile(const MatMulParams& op, bool vectors, const float* scales,
                               uint32_t tile, const TilePlace& place) {
  constexpr uint32_t kRunsPerRow = kN / kRun;
  for (uint32_t item = thread_x(); item < place.rows * kRunsPerRow; item += kMatMulThreads) {
    const uint32_t row = item / kRunsPerRow, in_tile = item % kRunsPerRow * kRun;
    const int64_t column = place.first_column + static_cast<int32_t>(in_tile);
    if (column >= op.n) continue;
    const auto sums = lds<float4>(tile + (row * Tile<kN>::kPitch + in_tile) * 4);
    FinishRun<Out>(op, vectors, place.first_row + row, column,
                   Scaled(Run{{sums.x, sums.y, sums.z, sums.w}}, scales, column));
  }
}

// Whether FinishRun may take its runs whole, and LoadChunk its chunks.
inline bool RunsAligned(const MatMulParams& p, RowType out_type) {
  return p.n % kRun == 0 && RunsAligned(p.out, p.out_stride, BytesOf(out_type)) &&
         RunsAligned(p.residual, p.residual_stride, BytesOf(out_type)) && RunsAligned(p.bias, 0, 4);
}
inline bool ChunksAligned(const MatMulParams& p) {
  return p.k % 8 == 0 && p.x_stride % 8 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
}

// A warp's fragments into the tile at `base`, rows of Tile::kPitch fp32.
template <uint32_t kN, typename Sums>
TESSERA_DEVICE void StoreTile(uint32_t base, const Sums& sums, const TilePlace& place) {
  using Shape = Tile<kN>;
#pragma unroll
  for (uint32_t m = 0; m < Shape::kFragmentsM; ++m)
    if (m < place.fragments)
#pragma unroll
      for (uint32_t n = 0; n < Shape::kFragmentsN; ++n) {
        const uint32_t row = place.warp_m + m * 16 + lane_id() / 4;
        const uint32_t column = place.warp_n + n * 8 + lane_id() % 4 * 2;
        const uint32_t to = base + (row * Shape::kPitch + column) * 4;
        sts(to, make_float2(sums[m][n][0], sums[m][n][1]));
        sts(to + 8 * Shape::kPitch * 4, make_float2(sums[m][n][2], sums[m][n][3]));
      }
}

}  // namespace tessera::cuda
