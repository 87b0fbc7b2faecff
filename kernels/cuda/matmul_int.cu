// int8 and int4 weights times bf16 or fp16 activations (arithmetic and layout: matmul_int.h).
//
// Few rows (FewKernel, up to 16): what counts is bytes. A block makes 32 outputs of all rows; each
// of its 8 warps takes one part of K, for which it has a ring of three stages of its own, so that
// no barrier holds it up before the end. A stage is 64 k: the units of 4 strips and their words,
// each byte of which is copied once in the launch, and x, once a block. Codes become fragments in
// registers; the parts meet in shared memory, where they are added in order.
//
// More rows (ManyKernel): a block makes 128 rows x 64 outputs, as MatMulKernel does. Each warp
// decodes the unit of one strip into a tile in shared memory, two of which alternate, so that one
// barrier a step is enough. At the end of a part its sums are added to those of the earlier parts.
#include "kernels/cuda/matmul_int.cuh"
#include "kernels/cuda/matmul_tile.cuh"

namespace tessera::cuda {

inline constexpr uint32_t kWarps = kMatMulThreads / kWarpSize;
static_assert(kTileK == kIntStep && kWarps == kIntParts);

struct IntLaunch {
  MatMulIntParams op;
  int32_t log_group = 0;
  int32_t vectors = 0;   // the epilogue's runs are aligned
  int32_t aligned = 0;   // x's chunks are
  int32_t out_fp32 = 0;  // else the activations' type
};

TESSERA_DEVICE const float* RowScales(const MatMulIntParams& p) {
  return p.layout.group != 0 ? nullptr
                             : reinterpret_cast<const float*>(
                                   static_cast<const uint8_t*>(p.weights) + p.layout.scales_at());
}

// Rows of words that are in a warp's ring: those of kStages steps, each of which may be two.
template <IntKind kKind>
inline constexpr uint32_t kWordStages = IntTraits<kKind>::kMinimum ? 8 : 4;
static_assert(kStages <= 4);

// The words of the `outputs` outputs from `strip` on into the warp's ring at `to`, a lane its own,
// where they are new: those of `step` that no step from `first` on before it has.
template <IntKind kKind>
TESSERA_DEVICE void LoadWords(const IntLaunch& p, uint32_t to, int32_t step, int32_t first,
                              int32_t strip, uint32_t outputs) {
  const int32_t begin = step * kIntStep, last = WordRow<kKind>(begin + kIntStep - 1, p.log_group);
  const auto* words = static_cast<const uint8_t*>(p.op.weights) + p.op.layout.words_at();
  const int32_t output = strip * kIntStrip, quad = output / kIntQuad;
  if (lane_id() >= outputs) return;
  for (int32_t row = step == first ? WordRow<kKind>(begin, p.log_group)
                                   : WordRow<kKind>(begin - 1, p.log_group) + 1;
       row <= last; ++row) {
    const int64_t word = (int64_t{quad} * p.op.layout.word_rows() + row) * kIntQuad +
                         output % kIntQuad + static_cast<int32_t>(lane_id());
    cp_async4(to + (static_cast<uint32_t>(row) % kWordStages<kKind> * outputs + lane_id()) * 4,
              words + word * 4, strip < p.op.layout.strips());
  }
}

// What holds the scales of `step` for the lane's output, out of a ring of the words of `outputs`
// outputs; `at`: that of the first output of the lane's strip.
template <IntKind kKind>
TESSERA_DEVICE ScaleWords LanesWords(const IntLaunch& p, uint32_t at, int32_t step,
                                     uint32_t outputs) {
  if constexpr (IntTraits<kKind>::kGroups) {
    return ScaleWordsOf<kKind>(step, p.log_group, [&](int32_t row) {
      return lds<uint32_t>(
          at + (static_cast<uint32_t>(row) % kWordStages<kKind> * outputs + lane_id() / 4) * 4);
    });
  } else {
    return {};
  }
}

// ---- Few rows

inline constexpr uint32_t kFewStrips = 4;
inline constexpr uint32_t kFewColumns = kFewStrips * kIntStrip;
static_assert(kFewColumns == kIntQuad && kFewColumns == kWarpSize);
inline constexpr uint32_t kFewPitch = kFewColumns + 8;  // fp32; as Tile::kPitch

template <IntKind kKind, uint32_t kRows>
struct FewShape {
  static constexpr uint32_t kXBytes = kRows * kRowBytes;
  static constexpr uint32_t kCodeBytes = kFewStrips * IntTraits<kKind>::kUnitBytes;
  static constexpr uint32_t kCodesAt = kStages * kXBytes;
  static constexpr uint32_t kWordsAt = kCodesAt + kStages * kCodeBytes;
  static constexpr uint32_t kWarpBytes =
      kWordsAt + (IntTraits<kKind>::kGroups ? kWordStages<kKind> * kFewColumns * 4 : 0);
  static constexpr uint32_t kSharedBytes = kWarps * kWarpBytes;
  static_assert(kWarps * kRows * kFewPitch * 4 <= kSharedBytes);
};

// Step `step` into the warp's ring at `base`.
template <typename T, IntKind kKind, uint32_t kRows>
TESSERA_DEVICE void LoadFew(const IntLaunch& p, uint32_t base, int32_t step, int32_t first,
                            int32_t strip, uint32_t rows) {
  using Shape = FewShape<kKind, kRows>;
  const uint32_t stage = static_cast<uint32_t>(step) % kStages;
  const MatMulParams& op = p.op.op;
#pragma unroll
  for (uint32_t i = 0; i < kRows / 4; ++i) {
    const uint32_t row = i * 4 + lane_id() / 8, chunk = lane_id() % 8;
    const int32_t column = step * kIntStep + static_cast<int32_t>(chunk * 8);
    const T* x = static_cast<const T*>(op.x) + row * op.x_stride;
    const bool inside = row < rows && column < op.k;
    const uint32_t to = ChunkAt(base + stage * Shape::kXBytes, row, chunk);
    if (p.aligned != 0) {
      LoadChunk<T, true>(to, x, column, op.k, inside);
    } else {
      LoadChunk<T, false>(to, x, column, op.k, inside);
    }
  }
  constexpr uint32_t kUnit = IntTraits<kKind>::kUnitBytes;
  const uint32_t codes = base + Shape::kCodesAt + stage * Shape::kCodeBytes;
#pragma unroll
  for (uint32_t i = 0; i < Shape::kCodeBytes / 512; ++i) {
    const uint32_t at = i * 512 + lane_id() * 16;
    const int32_t s = strip + static_cast<int32_t>(at / kUnit);
    cp_async16(codes + at,
               static_cast<const uint8_t*>(p.op.weights) +
                   (int64_t{s} * p.op.layout.steps() + step) * kUnit + at % kUnit,
               s < p.op.layout.strips());
  }
  if constexpr (IntTraits<kKind>::kGroups)
    LoadWords<kKind>(p, base + Shape::kWordsAt, step, first, strip, kFewColumns);
}

// The fragments of x of all four slices of a stage. Of up to 8 rows, the lower halves are zero and
// one instruction fetches two slices.
template <uint32_t kRows>
TESSERA_DEVICE void LoadFewX(uint32_t x, uint32_t (&a)[4][4]) {
  const uint32_t lane = lane_id();
#pragma unroll
  for (uint32_t slice = 0; slice < 4; slice += kRows == 8 ? 2 : 1) {
    if constexpr (kRows == 8) {
      uint32_t four[4];
      ldmatrix_x4(four, ChunkAt(x, lane % 8, slice * 2 + lane / 8));
      a[slice][0] = four[0], a[slice][1] = 0, a[slice][2] = four[1], a[slice][3] = 0;
      a[slice + 1][0] = four[2], a[slice + 1][1] = 0, a[slice + 1][2] = four[3];
      a[slice + 1][3] = 0;
    } else {
      ldmatrix_x4(a[slice], ChunkAt(x, lane % 16, slice * 2 + lane / 16));
    }
  }
}

template <typename T, IntKind kKind, uint32_t kRows>
TESSERA_KERNEL TESSERA_BOUNDS(kMatMulThreads, 2) void FewKernel(IntLaunch p) {
  using Shape = FewShape<kKind, kRows>;
  using Words = typename IntWords<kKind>::Type;
  DYN_SMEM(memory);
  const MatMulParams& op = p.op.op;
  const uint32_t shared = smem_u32(memory), base = shared + warp_id() * Shape::kWarpBytes;
  const auto strip = static_cast<int32_t>(block_x() * kFewStrips);
  const auto rows = static_cast<uint32_t>(op.rows);
  const int32_t steps = p.op.layout.steps(), part = p.op.layout.part_steps();
  const int32_t first = static_cast<int32_t>(warp_id()) * part;
  const int32_t end = first + part < steps ? first + part : steps;

#pragma unroll
  for (int32_t i = 0; i < static_cast<int32_t>(kStages) - 1; ++i) {
    if (first + i < end) LoadFew<T, kKind, kRows>(p, base, first + i, first, strip, rows);
    cp_async_commit();
  }
  float sums[kFewStrips][4] = {};
  for (int32_t step = first; step < end; ++step) {
    cp_async_wait<kStages - 2>();
    // This step's bytes are there for every lane, and the stage to be filled has been read.
    sync_warp();
    const int32_t next = step + static_cast<int32_t>(kStages) - 1;
    if (next < end) LoadFew<T, kKind, kRows>(p, base, next, first, strip, rows);
    cp_async_commit();
    const uint32_t stage = static_cast<uint32_t>(step) % kStages;
    uint32_t a[4][4];
    LoadFewX<kRows>(base + stage * Shape::kXBytes, a);
#pragma unroll
    for (uint32_t s = 0; s < kFewStrips; ++s) {
      const auto words = lds<Words>(base + Shape::kCodesAt + stage * Shape::kCodeBytes +
                                    s * IntTraits<kKind>::kUnitBytes +
                                    lane_id() * static_cast<uint32_t>(sizeof(Words)));
      const ScaleWords scales =
          LanesWords<kKind>(p, base + Shape::kWordsAt + s * kIntStrip * 4, step, kFewColumns);
      uint32_t b[4][2];
      DecodeUnit<T, kKind>(words, scales, step, p.log_group, b);
#pragma unroll
      for (uint32_t slice = 0; slice < 4; ++slice) mma_16x8x16<T>(sums[s], a[slice], b[slice]);
    }
  }
  // No copy is on its way: the last kStages - 1 groups are empty.
  sync_threads();  // the rings become [part][row][column] of sums
#pragma unroll
  for (uint32_t s = 0; s < kFewStrips; ++s) {
    const uint32_t row = warp_id() * kRows + lane_id() / 4;
    const uint32_t to = shared + (row * kFewPitch + s * 8 + lane_id() % 4 * 2) * 4;
    sts(to, make_float2(sums[s][0], sums[s][1]));
    if constexpr (kRows == 16) sts(to + 8 * kFewPitch * 4, make_float2(sums[s][2], sums[s][3]));
  }
  sync_threads();
  constexpr uint32_t kRunsPerRow = kFewColumns / kRun;
  const uint32_t row = thread_x() / kRunsPerRow, in_tile = thread_x() % kRunsPerRow * kRun;
  const int64_t column = int64_t{block_x()} * kFewColumns + in_tile;
  if (row >= rows || column >= op.n) return;
  Run run{};
  for (int32_t i = 0; i * part < steps; ++i) {
    const auto add =
        lds<float4>(shared + ((static_cast<uint32_t>(i) * kRows + row) * kFewPitch + in_tile) * 4);
    run.v[0] = fadd_rn(run.v[0], add.x), run.v[1] = fadd_rn(run.v[1], add.y);
    run.v[2] = fadd_rn(run.v[2], add.z), run.v[3] = fadd_rn(run.v[3], add.w);
  }
  run = Scaled(run, RowScales(p.op), column);
  if (p.out_fp32 != 0) {
    FinishRun<float>(op, p.vectors != 0, row, column, run);
  } else {
    FinishRun<T>(op, p.vectors != 0, row, column, run);
  }
}

// ---- More rows

inline constexpr uint32_t kManyColumns = 64;

template <IntKind kKind>
struct ManyShape {
  static constexpr uint32_t kXBytes = kTileM * kRowBytes;
  static constexpr uint32_t kCodeBytes = kWarps * IntTraits<kKind>::kUnitBytes;
  static constexpr uint32_t kTileBytes = kManyColumns * kRowBytes;
  static constexpr uint32_t kCodesAt = kStages * kXBytes;
  static constexpr uint32_t kWordsAt = kCodesAt + kStages * kCodeBytes;
  static constexpr uint32_t kRingBytes = kWordStages<kKind> * kIntStrip * 4;  // of a warp's words
  static constexpr uint32_t kTilesAt =
      kWordsAt + (IntTraits<kKind>::kGroups ? kWarps * kRingBytes : 0);
  static constexpr uint32_t kSharedBytes = kTilesAt + 2 * kTileBytes;
  static_assert(kTileM * Tile<kManyColumns>::kPitch * 4 <= kSharedBytes);
};

template <typename T, IntKind kKind>
TESSERA_DEVICE void LoadMany(const IntLaunch& p, uint32_t base, int32_t step, int32_t strip,
                             const TilePlace& place) {
  using Shape = ManyShape<kKind>;
  constexpr uint32_t kUnit = IntTraits<kKind>::kUnitBytes;
  const uint32_t stage = static_cast<uint32_t>(step) % kStages;
  if (p.aligned != 0) {
    LoadX<T, true>(p.op.op, base + stage * Shape::kXBytes, step, place);
  } else {
    LoadX<T, false>(p.op.op, base + stage * Shape::kXBytes, step, place);
  }
  if (lane_id() * 16 < kUnit)
    cp_async16(
        base + Shape::kCodesAt + stage * Shape::kCodeBytes + warp_id() * kUnit + lane_id() * 16,
        static_cast<const uint8_t*>(p.op.weights) +
            (int64_t{strip} * p.op.layout.steps() + step) * kUnit + lane_id() * 16,
        strip < p.op.layout.strips());
  if constexpr (IntTraits<kKind>::kGroups)
    LoadWords<kKind>(p, base + Shape::kWordsAt + warp_id() * Shape::kRingBytes, step, 0, strip,
                     kIntStrip);
}

// The warp's unit of this step into its 8 rows of the tile.
template <typename T, IntKind kKind>
TESSERA_DEVICE void DecodeToTile(const IntLaunch& p, uint32_t base, int32_t step) {
  using Shape = ManyShape<kKind>;
  using Words = typename IntWords<kKind>::Type;
  const auto words = lds<Words>(
      base + Shape::kCodesAt + static_cast<uint32_t>(step) % kStages * Shape::kCodeBytes +
      warp_id() * IntTraits<kKind>::kUnitBytes + lane_id() * static_cast<uint32_t>(sizeof(Words)));
  const ScaleWords scales = LanesWords<kKind>(
      p, base + Shape::kWordsAt + warp_id() * Shape::kRingBytes, step, kIntStrip);
  uint32_t b[4][2];
  DecodeUnit<T, kKind>(words, scales, step, p.log_group, b);
  const uint32_t tile =
      base + Shape::kTilesAt + static_cast<uint32_t>(step) % 2 * Shape::kTileBytes;
  const uint32_t row = warp_id() * kIntStrip + lane_id() / 4, in_chunk = lane_id() % 4 * 4;
#pragma unroll
  for (uint32_t chunk = 0; chunk < 8; ++chunk)
    sts(ChunkAt(tile, row, chunk) + in_chunk, b[chunk / 2][chunk % 2]);
}

template <typename T, IntKind kKind>
TESSERA_KERNEL TESSERA_BOUNDS(kMatMulThreads, 1) void ManyKernel(IntLaunch p) {
  using Shape = ManyShape<kKind>;
  using Block = Tile<kManyColumns>;
  DYN_SMEM(memory);
  const MatMulParams& op = p.op.op;
  const uint32_t base = smem_u32(memory);
  const TilePlace place = Block::PlaceOf(op.rows);
  const int32_t strip = place.first_column / kIntStrip + static_cast<int32_t>(warp_id());
  const int32_t steps = p.op.layout.steps(), part = p.op.layout.part_steps();

#pragma unroll
  for (int32_t i = 0; i < static_cast<int32_t>(kStages) - 1; ++i) {
    if (i < steps) LoadMany<T, kKind>(p, base, i, strip, place);
    cp_async_commit();
  }
  float total[Block::kFragmentsM][Block::kFragmentsN][4] = {};
  float sums[Block::kFragmentsM][Block::kFragmentsN][4] = {};
  int32_t left = part;  // steps of this part
  for (int32_t step = 0; step < steps; ++step) {
    cp_async_wait<kStages - 2>();
    sync_warp();  // the warp's codes are there
    DecodeToTile<T, kKind>(p, base, step);
    // Tile and x are there for every thread, and the stage to be filled has been read.
    sync_threads();
    const int32_t next = step + static_cast<int32_t>(kStages) - 1;
    if (next < steps) LoadMany<T, kKind>(p, base, next, strip, place);
    cp_async_commit();
    const uint32_t x = base + static_cast<uint32_t>(step) % kStages * Shape::kXBytes;
    const uint32_t w = base + Shape::kTilesAt + static_cast<uint32_t>(step) % 2 * Shape::kTileBytes;
#pragma unroll
    for (uint32_t slice = 0; slice < kTileK / 16; ++slice) {
      if (place.fragments == 0) break;
      Fragments<kManyColumns> now;
      now.Load(x, w, slice, place);
      now.template Multiply<T>(sums, place);
    }
    if (--left > 0 && step + 1 < steps) continue;
    left = part;
#pragma unroll
    for (uint32_t m = 0; m < Block::kFragmentsM; ++m)
#pragma unroll
      for (uint32_t n = 0; n < Block::kFragmentsN; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[m][n][i] = fadd_rn(total[m][n][i], sums[m][n][i]);
          sums[m][n][i] = 0;
        }
  }
  // No copy is on its way: the last kStages - 1 groups are empty.
  sync_threads();  // the ring becomes the tile of sums
  StoreTile<kManyColumns>(base, total, place);
  sync_threads();
  const float* scales = RowScales(p.op);
  if (p.out_fp32 != 0) {
    FinishTile<float, kManyColumns>(op, p.vectors != 0, scales, base, place);
  } else {
    FinishTile<T, kManyColumns>(op, p.vectors != 0, scales, base, place);
  }
}

template <typename T, IntKind kKind>
LaunchStatus LaunchMatMulIntOf(const IntLaunch& p, Stream stream) {
  const MatMulParams& op = p.op.op;
  if (op.rows > kIntFew) {
    const Grid grid{static_cast<unsigned>((op.rows + kTileM - 1) / kTileM),
                    (static_cast<unsigned>(op.n) + kManyColumns - 1) / kManyColumns};
    return launch(&ManyKernel<T, kKind>, grid, kMatMulThreads, ManyShape<kKind>::kSharedBytes,
                  stream, p);
  }
  const Grid grid{(static_cast<unsigned>(op.n) + kFewColumns - 1) / kFewColumns};
  return op.rows <= 8 ? launch(&FewKernel<T, kKind, 8>, grid, kMatMulThreads,
                               FewShape<kKind, 8>::kSharedBytes, stream, p)
                      : launch(&FewKernel<T, kKind, 16>, grid, kMatMulThreads,
                               FewShape<kKind, 16>::kSharedBytes, stream, p);
}

template <typename T>
LaunchStatus LaunchMatMulIntFor(const IntLaunch& p, Stream stream) {
  const IntLayout& layout = p.op.layout;
  if (layout.bits == 8)
    return layout.group == 0 ? LaunchMatMulIntOf<T, IntKind::kInt8>(p, stream)
                             : LaunchMatMulIntOf<T, IntKind::kInt8Groups>(p, stream);
  return layout.minimum != 0 ? LaunchMatMulIntOf<T, IntKind::kInt4Minimum>(p, stream)
                             : LaunchMatMulIntOf<T, IntKind::kInt4>(p, stream);
}

int32_t LogOf(int32_t group) { return group == 128 ? 7 : group == 64 ? 6 : 5; }

LaunchStatus LaunchMatMulInt(RowType type, RowType out_type, const MatMulIntParams& params,
                             Stream stream) {
  if (params.op.rows == 0 || params.op.n == 0) return {};
  const IntLaunch p{.op = params,
                    .log_group = LogOf(params.layout.group),
                    .vectors = RunsAligned(params.op, out_type),
                    .aligned = ChunksAligned(params.op),
                    .out_fp32 = out_type == RowType::kF32};
  return type == RowType::kF16 ? LaunchMatMulIntFor<half_t>(p, stream)
                               : LaunchMatMulIntFor<bf16_t>(p, stream);
}

// ---- Tables

struct EmbeddingIntLaunch {
  EmbeddingIntParams op;
  int32_t blocks_per_row = 0;
  int32_t log_group = 0;
  int32_t vectors = 0;
};
inline constexpr unsigned kEmbeddingThreads = 128;
inline constexpr int32_t kEmbeddingSteps = kEmbeddingThreads / 4;  // of a block

// Four threads have a step of a row: the four lanes of its output. What they decode changes hands,
// so that each stores runs of four neighbours.
template <IntKind kKind, typename Out>
TESSERA_KERNEL TESSERA_BOUNDS(kEmbeddingThreads, 8) void EmbeddingIntKernel(EmbeddingIntLaunch p) {
  using Words = typename IntWords<kKind>::Type;
  constexpr uint32_t kUnit = IntTraits<kKind>::kUnitBytes;
  const IntLayout& layout = p.op.layout;
  const int64_t item = block_x() / static_cast<uint32_t>(p.blocks_per_row);
  const auto in_row = static_cast<int32_t>(block_x() % static_cast<uint32_t>(p.blocks_per_row));
  const int32_t step = in_row * kEmbeddingSteps + static_cast<int32_t>(thread_x() / 4);
  const uint32_t t = thread_x() % 4;
  const bool inside = step < layout.steps();
  const int32_t row = TableRow(p.op.ids, p.op.drawn, item);
  const int32_t strip = row / kIntStrip, g = row % kIntStrip;
  const auto* weights = static_cast<const uint8_t*>(p.op.weights);
  Words words{};
  if (inside)
    words = ldg(reinterpret_cast<const Words*>(weights +
                                               (int64_t{strip} * layout.steps() + step) * kUnit +
                                               (static_cast<uint32_t>(g) * 4 + t) * sizeof(Words)));
  float row_scale = 1.0f;
  ScaleWords scales;
  if constexpr (!IntTraits<kKind>::kGroups) {
    row_scale = ldg(reinterpret_cast<const float*>(weights + layout.scales_at()) + row);
  } else if (inside) {
    const auto* scale_words = reinterpret_cast<const uint32_t*>(weights + layout.words_at()) +
                              int64_t{row / kIntQuad} * layout.word_rows() * kIntQuad +
                              row % kIntQuad;
    scales = ScaleWordsOf<kKind>(step, p.log_group, [&](int32_t word_row) {
      return ldg(scale_words + int64_t{word_row} * kIntQuad);
    });
  }
  GroupScale group{1.0f, 0.0f};
#pragma unroll
  for (uint32_t slice = 0; slice < 4; ++slice) {
    if constexpr (IntTraits<kKind>::kGroups)
      if (slice % 2 == 0)
        group = ScaleOf<kKind>(scales.half[slice / 2],
                               (step * kIntStep + static_cast<int32_t>(slice * 16)) >> p.log_group);
    float w[4];
    DecodeFour<kKind>(SliceWord<kKind>(words, slice), group, w);
    const uint32_t from = lane_id() / 4 * 4 + t % 2 * 2;
    Run run;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const float low = shfl_idx(w[i % 2], from + i / 2);
      const float high = shfl_idx(w[2 + i % 2], from + i / 2);
      run.v[i] = fmul_rn(t < 2 ? low : high, row_scale);
    }
    const int64_t column = int64_t{step} * kIntStep + slice * 16 + t * 4;
    if (inside && column < layout.k)
      StoreRun(static_cast<Out*>(p.op.out) + item * p.op.out_stride, column, layout.k,
               p.vectors != 0, run);
  }
}

template <IntKind kKind>
LaunchStatus LaunchEmbeddingIntOf(RowType out_type, const EmbeddingIntLaunch& p, Stream stream) {
  const Grid grid{static_cast<unsigned>(p.op.count * p.blocks_per_row)};
  return WithType(out_type, [&](auto out) {
    return launch(&EmbeddingIntKernel<kKind, decltype(out)>, grid, kEmbeddingThreads, 0, stream, p);
  });
}

LaunchStatus LaunchEmbeddingInt(RowType out_type, const EmbeddingIntParams& params, Stream stream) {
  if (params.count == 0) return {};
  const IntLayout& layout = params.layout;
  const EmbeddingIntLaunch p{
      .op = params,
      .blocks_per_row = (layout.steps() + kEmbeddingSteps - 1) / kEmbeddingSteps,
      .log_group = LogOf(layout.group),
      .vectors =
          layout.k % kRun == 0 && RunsAligned(params.out, params.out_stride, BytesOf(out_type))};
  if (layout.bits == 8)
    return layout.group == 0 ? LaunchEmbeddingIntOf<IntKind::kInt8>(out_type, p, stream)
                             : LaunchEmbeddingIntOf<IntKind::kInt8Groups>(out_type, p, stream);
  return layout.minimum != 0 ? LaunchEmbeddingIntOf<IntKind::kInt4Minimum>(out_type, p, stream)
                             : LaunchEmbeddingIntOf<IntKind::kInt4>(out_type, p, stream);
}

}  // namespace tessera::cuda
