// Our own matmul: x[M, K] w[N, K]^T by mma.sync, for results that do not depend on the batch.
//
// A block of 8 warps makes 128 rows x kN columns of the output. K goes by in steps of 64 elements
// through a ring of kStages stages in shared memory, filled by cp.async while earlier stages are
// multiplied. Rows of a stage are 128 bytes, 8 chunks of 16; chunk c of row r lies at chunk
// c ^ (r % 8), so that neither the copies nor ldmatrix (8 rows of one chunk) meet bank conflicts.
// Each output element is one chain of mma over ascending k. Fragments of the next 16 k are loaded
// before those at hand are multiplied.
//
// The epilogue goes through shared memory, from where whole rows of the tile are finished and
// stored: fragments alone would store 16 bytes of a 32-byte sector at a time.
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

namespace tessera::cuda {

inline constexpr uint32_t kTileM = 128;
inline constexpr uint32_t kTileK = 64;
inline constexpr uint32_t kMatMulThreads = 256;
inline constexpr uint32_t kStages = 3;
inline constexpr uint32_t kRowBytes = kTileK * 2;

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
};

struct MatMulLaunch {
  MatMulParams op;
  int32_t vectors = 0;  // the epilogue's runs are aligned
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

// Step `step` of K into the stage at `base`. Rows of x beyond the last fragment that holds a row of
// the op are left as they are: nobody reads them.
template <typename T, uint32_t kN, bool kAligned>
TESSERA_DEVICE void LoadStage(const MatMulParams& p, uint32_t base, int32_t step, int64_t first_row,
                              int32_t first_column, uint32_t rows) {
  constexpr uint32_t kChunks = kTileK / 8;
  const int32_t k = step * static_cast<int32_t>(kTileK);
#pragma unroll
  for (uint32_t i = 0; i < kTileM * kChunks / kMatMulThreads; ++i) {
    const uint32_t item = i * kMatMulThreads + thread_x();
    const uint32_t row = item / kChunks, chunk = item % kChunks;
    if (row >= (rows + 15) / 16 * 16) break;
    const int32_t column = k + static_cast<int32_t>(chunk * 8);
    const T* x = static_cast<const T*>(p.x) + (first_row + row) * p.x_stride;
    const bool inside = row < rows && column < p.k;
    if constexpr (kAligned) {
      cp_async16(ChunkAt(base, row, chunk), x + column, inside);
    } else {
      sts(ChunkAt(base, row, chunk), inside ? GatherChunk(x, column, p.k) : make_uint4(0, 0, 0, 0));
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < kN * kChunks / kMatMulThreads; ++i) {
    const uint32_t item = i * kMatMulThreads + thread_x();
    const uint32_t row = item / kChunks, chunk = item % kChunks;
    const int32_t column = k + static_cast<int32_t>(chunk * 8);
    const int32_t n = first_column + static_cast<int32_t>(row);
    const bool inside = n < p.n && column < p.k_stored;
    cp_async16(ChunkAt(base + kTileM * kRowBytes, row, chunk),
               static_cast<const T*>(p.w) + int64_t{n} * p.k_stored + column, inside);
  }
}

// The fragments of 16 k, `slice` of the stage's four.
template <uint32_t kN>
struct Fragments {
  uint32_t a[Tile<kN>::kFragmentsM][4];
  uint32_t b[Tile<kN>::kFragmentsN][2];

  TESSERA_DEVICE void Load(uint32_t base, uint32_t slice, uint32_t warp_m, uint32_t warp_n,
                           uint32_t fragments) {
    // Lanes give the rows of four 8x8 matrices: of A, (rows 0-7, 8-15) x (k 0-7, 8-15), rows
    // first; of B, two fragments' columns x (k 0-7, 8-15), k first.
    const uint32_t lane = lane_id();
#pragma unroll
    for (uint32_t m = 0; m < Tile<kN>::kFragmentsM; ++m)
      if (m < fragments)
        ldmatrix_x4(a[m], ChunkAt(base, warp_m + m * 16 + lane % 16, slice * 2 + lane / 16));
#pragma unroll
    for (uint32_t n = 0; n < Tile<kN>::kFragmentsN; n += 2) {
      uint32_t four[4];
      ldmatrix_x4(four,
                  ChunkAt(base + kTileM * kRowBytes, warp_n + n * 8 + lane / 16 * 8 + lane % 8,
                          slice * 2 + lane / 8 % 2));
      b[n][0] = four[0], b[n][1] = four[1];
      b[n + 1][0] = four[2], b[n + 1][1] = four[3];
    }
  }
};

// The tile in shared memory, finished and stored, runs of four columns a thread.
template <typename Out, uint32_t kN>
TESSERA_DEVICE void Finish(const MatMulLaunch& p, uint32_t tile, int64_t first_row,
                           int32_t first_column, uint32_t rows) {
  constexpr uint32_t kRunsPerRow = kN / kRun;
  const bool vectors = p.vectors != 0;
  for (uint32_t item = thread_x(); item < rows * kRunsPerRow; item += kMatMulThreads) {
    const uint32_t row = item / kRunsPerRow, in_tile = item % kRunsPerRow * kRun;
    const int64_t column = first_column + static_cast<int32_t>(in_tile);
    if (column >= p.op.n) continue;
    const auto sums = lds<float4>(tile + (row * Tile<kN>::kPitch + in_tile) * 4);
    Run run{{sums.x, sums.y, sums.z, sums.w}};
    if (p.op.bias != nullptr) {
      const Run bias = LoadRun(p.op.bias, column, p.op.n, vectors);
#pragma unroll
      for (int i = 0; i < kRun; ++i) run.v[i] += bias.v[i];
    }
#pragma unroll
    for (int i = 0; i < kRun; ++i) run.v[i] = Activate(p.op.activation, run.v[i]) * p.op.gate;
    if (p.op.residual != nullptr) {
      const Out* residual =
          static_cast<const Out*>(p.op.residual) + (first_row + row) * p.op.residual_stride;
      const Run add = LoadRun(residual, column, p.op.n, vectors);
#pragma unroll
      for (int i = 0; i < kRun; ++i) run.v[i] = fadd_rn(run.v[i], add.v[i]);
    }
    StoreRun(static_cast<Out*>(p.op.out) + (first_row + row) * p.op.out_stride, column, p.op.n,
             vectors, run);
  }
}

template <typename T, typename Out, uint32_t kN, bool kAligned>
TESSERA_KERNEL TESSERA_BOUNDS(kMatMulThreads, kN == 64 ? 2 : 1) void MatMulKernel(MatMulLaunch p) {
  using Shape = Tile<kN>;
  DYN_SMEM(memory);
  const uint32_t base = smem_u32(memory);
  const int64_t first_row = int64_t{block_x()} * kTileM;
  const auto first_column = static_cast<int32_t>(block_y() * kN);
  const int64_t rows_left = p.op.rows - first_row;
  const uint32_t rows = rows_left < kTileM ? static_cast<uint32_t>(rows_left) : kTileM;
  const int32_t steps = (p.op.k + static_cast<int32_t>(kTileK) - 1) / static_cast<int32_t>(kTileK);
  const uint32_t warp_m = warp_id() % Shape::kWarpsM * Shape::kWarpM;
  const uint32_t warp_n = warp_id() / Shape::kWarpsM * Shape::kWarpN;
  // How many of this warp's fragments hold rows at all. Few rows are what decoding has.
  const uint32_t warp_rows = rows > warp_m ? rows - warp_m : 0;
  const uint32_t needed = (warp_rows + 15) / 16;
  const uint32_t fragments = needed < Shape::kFragmentsM ? needed : Shape::kFragmentsM;

#pragma unroll
  for (int32_t stage = 0; stage < static_cast<int32_t>(kStages) - 1; ++stage) {
    if (stage < steps)
      LoadStage<T, kN, kAligned>(p.op, base + stage * Shape::kStageBytes, stage, first_row,
                                 first_column, rows);
    cp_async_commit();
  }
  float sums[Shape::kFragmentsM][Shape::kFragmentsN][4] = {};
  for (int32_t step = 0; step < steps; ++step) {
    cp_async_wait<kStages - 2>();
    // This step's bytes are there for every thread, and the stage to be filled has been read.
    sync_threads();
    const int32_t next = step + static_cast<int32_t>(kStages) - 1;
    if (next < steps)
      LoadStage<T, kN, kAligned>(p.op, base + next % kStages * Shape::kStageBytes, next, first_row,
                                 first_column, rows);
    cp_async_commit();
    if (fragments == 0) continue;
    const uint32_t stage = base + step % kStages * Shape::kStageBytes;
    Fragments<kN> at[2];
    at[0].Load(stage, 0, warp_m, warp_n, fragments);
#pragma unroll
    for (uint32_t slice = 0; slice < kTileK / 16; ++slice) {
      if (slice + 1 < kTileK / 16)
        at[(slice + 1) % 2].Load(stage, slice + 1, warp_m, warp_n, fragments);
      const Fragments<kN>& now = at[slice % 2];
#pragma unroll
      for (uint32_t m = 0; m < Shape::kFragmentsM; ++m)
        if (m < fragments)
#pragma unroll
          for (uint32_t n = 0; n < Shape::kFragmentsN; ++n)
            mma_16x8x16<T>(sums[m][n], now.a[m], now.b[n]);
    }
  }
  cp_async_wait<0>();
  sync_threads();  // the ring becomes the tile
#pragma unroll
  for (uint32_t m = 0; m < Shape::kFragmentsM; ++m)
    if (m < fragments)
#pragma unroll
      for (uint32_t n = 0; n < Shape::kFragmentsN; ++n) {
        const uint32_t row = warp_m + m * 16 + lane_id() / 4;
        const uint32_t column = warp_n + n * 8 + lane_id() % 4 * 2;
        const uint32_t to = base + (row * Shape::kPitch + column) * 4;
        sts(to, make_float2(sums[m][n][0], sums[m][n][1]));
        sts(to + 8 * Shape::kPitch * 4, make_float2(sums[m][n][2], sums[m][n][3]));
      }
  sync_threads();
  Finish<Out, kN>(p, base, first_row, first_column, rows);
}

// Wide matrices take 128 columns a block. Narrow ones take 64, so that more blocks share the work
// of a decoding step.
int MatMulTileColumns(int64_t n) { return n >= 8192 ? 128 : 64; }

template <typename T, typename Out, uint32_t kN>
LaunchStatus LaunchMatMulOf(const MatMulLaunch& p, bool aligned, Stream stream) {
  const Grid grid{static_cast<unsigned>((p.op.rows + kTileM - 1) / kTileM),
                  (static_cast<unsigned>(p.op.n) + kN - 1) / kN};
  const size_t smem = Tile<kN>::kSharedBytes;
  return aligned ? launch(&MatMulKernel<T, Out, kN, true>, grid, kMatMulThreads, smem, stream, p)
                 : launch(&MatMulKernel<T, Out, kN, false>, grid, kMatMulThreads, smem, stream, p);
}

template <typename T>
LaunchStatus LaunchMatMulFor(RowType out_type, const MatMulLaunch& p, bool aligned, Stream stream) {
  const bool wide = MatMulTileColumns(p.op.n) == 128;
  if (out_type == RowType::kF32)
    return wide ? LaunchMatMulOf<T, float, 128>(p, aligned, stream)
                : LaunchMatMulOf<T, float, 64>(p, aligned, stream);
  return wide ? LaunchMatMulOf<T, T, 128>(p, aligned, stream)
              : LaunchMatMulOf<T, T, 64>(p, aligned, stream);
}

LaunchStatus LaunchMatMulFixed(RowType type, RowType out_type, const MatMulParams& params,
                               Stream stream) {
  if (params.rows == 0 || params.n == 0) return {};
  MatMulLaunch p{.op = params};
  p.vectors = params.n % kRun == 0 &&
              RunsAligned(params.out, params.out_stride, BytesOf(out_type)) &&
              RunsAligned(params.residual, params.residual_stride, BytesOf(out_type)) &&
              RunsAligned(params.bias, 0, 4);
  // cp.async takes 16 bytes: all of x's rows begin at a multiple of them and end at one.
  const bool aligned = params.k % 8 == 0 && params.x_stride % 8 == 0 &&
                       reinterpret_cast<uintptr_t>(params.x) % 16 == 0;
  return type == RowType::kF16 ? LaunchMatMulFor<half_t>(out_type, p, aligned, stream)
                               : LaunchMatMulFor<bf16_t>(out_type, p, aligned, stream);
}

}  // namespace tessera::cuda
