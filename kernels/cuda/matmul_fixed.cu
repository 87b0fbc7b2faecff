// Our own matmul: x[M, K] w[N, K]^T by mma.sync, for results that do not depend on the batch.
//
// A block of 8 warps makes 128 rows x kN columns of the output. K goes by in steps of 64 elements
// through a ring of kStages stages in shared memory (matmul_tile.cuh), filled by cp.async while
// earlier stages are multiplied. Each output element is one chain of mma over ascending k.
// Fragments of the next 16 k are loaded before those at hand are multiplied.
//
// The epilogue goes through shared memory, from where whole rows of the tile are finished and
// stored: fragments alone would store 16 bytes of a 32-byte sector at a time.
#include "kernels/cuda/matmul_tile.cuh"

namespace tessera::cuda {

struct MatMulLaunch {
  MatMulParams op;
  int32_t vectors = 0;  // the epilogue's runs are aligned
};

// Step `step` of K into the stage at `base`: x, and behind it w.
template <typename T, uint32_t kN, bool kAligned>
TESSERA_DEVICE void LoadStage(const MatMulParams& p, uint32_t base, int32_t step,
                              const TilePlace& place) {
  constexpr uint32_t kChunks = kTileK / 8;
  LoadX<T, kAligned>(p, base, step, place);
#pragma unroll
  for (uint32_t i = 0; i < kN * kChunks / kMatMulThreads; ++i) {
    const uint32_t item = i * kMatMulThreads + thread_x();
    const uint32_t row = item / kChunks, chunk = item % kChunks;
    const int32_t column = step * static_cast<int32_t>(kTileK) + static_cast<int32_t>(chunk * 8);
    const int32_t n = place.first_column + static_cast<int32_t>(row);
    const bool inside = n < p.n && column < p.k_stored;
    cp_async16(ChunkAt(base + kTileM * kRowBytes, row, chunk),
               static_cast<const T*>(p.w) + int64_t{n} * p.k_stored + column, inside);
  }
}

template <typename T, typename Out, uint32_t kN, bool kAligned>
TESSERA_KERNEL TESSERA_BOUNDS(kMatMulThreads, kN == 64 ? 2 : 1) void MatMulKernel(MatMulLaunch p) {
  using Shape = Tile<kN>;
  DYN_SMEM(memory);
  const uint32_t base = smem_u32(memory);
  const TilePlace place = Shape::PlaceOf(p.op.rows);
  const int32_t steps = (p.op.k + static_cast<int32_t>(kTileK) - 1) / static_cast<int32_t>(kTileK);

#pragma unroll
  for (int32_t stage = 0; stage < static_cast<int32_t>(kStages) - 1; ++stage) {
    if (stage < steps)
      LoadStage<T, kN, kAligned>(p.op, base + stage * Shape::kStageBytes, stage, place);
    cp_async_commit();
  }
  float sums[Shape::kFragmentsM][Shape::kFragmentsN][4] = {};
  for (int32_t step = 0; step < steps; ++step) {
    cp_async_wait<kStages - 2>();
    // This step's bytes are there for every thread, and the stage to be filled has been read.
    sync_threads();
    const int32_t next = step + static_cast<int32_t>(kStages) - 1;
    if (next < steps)
      LoadStage<T, kN, kAligned>(p.op, base + next % kStages * Shape::kStageBytes, next, place);
    cp_async_commit();
    if (place.fragments == 0) continue;
    const uint32_t stage = base + step % kStages * Shape::kStageBytes;
    Fragments<kN> at[2];
    at[0].Load(stage, stage + kTileM * kRowBytes, 0, place);
#pragma unroll
    for (uint32_t slice = 0; slice < kTileK / 16; ++slice) {
      if (slice + 1 < kTileK / 16)
        at[(slice + 1) % 2].Load(stage, stage + kTileM * kRowBytes, slice + 1, place);
      at[slice % 2].template Multiply<T>(sums, place);
    }
  }
  // No copy is on its way: the last kStages - 1 groups are empty.
  sync_threads();  // the ring becomes the tile
  StoreTile<kN>(base, sums, place);
  sync_threads();
  FinishTile<Out, kN>(p.op, p.vectors != 0, nullptr, base, place);
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
  const MatMulLaunch p{.op = params, .vectors = RunsAligned(params, out_type)};
  const bool aligned = ChunksAligned(params);
  return type == RowType::kF16 ? LaunchMatMulFor<half_t>(out_type, p, aligned, stream)
                               : LaunchMatMulFor<bf16_t>(out_type, p, aligned, stream);
}

}  // namespace tessera::cuda
