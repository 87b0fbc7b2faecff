// RmsNorm, LayerNorm and HeadRmsNorm. A row is read once and kept in registers; the mean and the
// variance of LayerNorm are two passes over those (no E[x^2] - E[x]^2, which cancels).
//
// Rows of up to 256 elements take a warp each, longer ones a block. Threads and the order of
// additions depend on the row's length alone.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

namespace tessera::cuda {

// The most threads of a row's block.
inline constexpr int kMostNormThreads = 512;

struct NormLaunch {
  NormParams op;
  int32_t threads_per_row = 0;
  int32_t vectors = 0;
};

// The sum over the threads of a row, the same bits in each of them.
TESSERA_DEVICE float RowSum(float value, bool by_warp, uint32_t partials) {
#pragma unroll
  for (uint32_t mask = kWarpSize / 2; mask > 0; mask /= 2) value += shfl_xor(value, mask);
  if (by_warp) return value;
  if (lane_id() == 0) sts(partials + warp_id() * 4, value);
  sync_threads();
  float sum = 0.0f;
  for (uint32_t warp = 0; warp < block_dim_x() / kWarpSize; ++warp)
    sum += lds<float>(partials + warp * 4);
  return sum;
}

// kRuns: runs of four elements a thread keeps; 0: rows too long for that are read again instead.
template <typename T, NormKind kKind, int kRuns>
TESSERA_KERNEL TESSERA_BOUNDS(kMostNormThreads, 1) void NormKernel(NormLaunch p) {
  // One for the mean, one for the variance: no barrier between the readers of one and the writers
  // of the other.
  SHARED_ARRAY(float, means, kMostNormThreads / 32);
  SHARED_ARRAY(float, squares, kMostNormThreads / 32);
  const bool by_warp = p.threads_per_row == static_cast<int32_t>(kWarpSize);
  const int64_t item =
      by_warp ? int64_t{block_x()} * (block_dim_x() / kWarpSize) + warp_id() : block_x();
  if (item >= p.op.rows * p.op.heads) return;
  const int64_t columns = p.op.columns;
  const int64_t row = item / p.op.heads, offset = item % p.op.heads * columns;
  const T* x = static_cast<const T*>(p.op.x) + row * p.op.x_stride + offset;
  T* out = static_cast<T*>(p.op.out) + row * p.op.out_stride + offset;
  const bool vectors = p.vectors != 0;
  const int64_t step = int64_t{kRun} * p.threads_per_row;
  const int64_t first = int64_t{kRun} * (by_warp ? lane_id() : thread_x());

  Run kept[kRuns > 0 ? kRuns : 1] = {};
  // body(run, column) over this thread's runs, in order.
  const auto for_runs = [&](auto&& body) {
    if constexpr (kRuns > 0) {
#pragma unroll
      for (int i = 0; i < kRuns; ++i)
        if (first + i * step < columns) body(kept[i], first + i * step);
    } else {
      for (int64_t column = first; column < columns; column += step)
        body(LoadRun(x, column, columns, vectors), column);
    }
  };
  if constexpr (kRuns > 0) {
#pragma unroll
    for (int i = 0; i < kRuns; ++i)
      if (first + i * step < columns) kept[i] = LoadRun(x, first + i * step, columns, vectors);
  }

  const auto count = static_cast<float>(columns);
  float mean = 0.0f;
  if constexpr (kKind == NormKind::kLayer) {
    float sum = 0.0f;
    for_runs(
        [&](const Run& run, int64_t) { sum += (run.v[0] + run.v[1]) + (run.v[2] + run.v[3]); });
    mean = RowSum(sum, by_warp, smem_u32(means)) / count;
  }
  float sum = 0.0f;
  for_runs([&](const Run& run, int64_t column) {
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      const float difference = column + i < columns ? run.v[i] - mean : 0.0f;
      sum = fma_rn(difference, difference, sum);
    }
  });
  const float scale = rsqrt_rn(RowSum(sum, by_warp, smem_u32(squares)) / count + p.op.eps);
  for_runs([&](const Run& run, int64_t column) {
    const Run weight = LoadRun(p.op.weight, column, columns, vectors);
    Run y;
#pragma unroll
    for (int i = 0; i < kRun; ++i) y.v[i] = (run.v[i] - mean) * scale * weight.v[i];
    if (kKind == NormKind::kLayer && p.op.bias != nullptr) {
      const Run bias = LoadRun(p.op.bias, column, columns, vectors);
#pragma unroll
      for (int i = 0; i < kRun; ++i) y.v[i] += bias.v[i];
    }
    StoreRun(out, column, columns, vectors, y);
  });
}

template <typename T, NormKind kKind>
LaunchStatus LaunchNormOf(const NormLaunch& p, Stream stream) {
  const int64_t items = p.op.rows * p.op.heads;
  const int64_t step = int64_t{kRun} * p.threads_per_row;
  const int64_t runs = (p.op.columns + step - 1) / step;
  if (p.threads_per_row == static_cast<int32_t>(kWarpSize)) {
    constexpr unsigned kThreads = 128;
    const Grid grid{static_cast<unsigned>((items + 3) / 4)};
    return runs <= 1 ? launch(&NormKernel<T, kKind, 1>, grid, kThreads, 0, stream, p)
                     : launch(&NormKernel<T, kKind, 2>, grid, kThreads, 0, stream, p);
  }
  const Grid grid{static_cast<unsigned>(items)};
  const auto threads = static_cast<unsigned>(p.threads_per_row);
  if (runs <= 1) return launch(&NormKernel<T, kKind, 1>, grid, threads, 0, stream, p);
  if (runs <= 2) return launch(&NormKernel<T, kKind, 2>, grid, threads, 0, stream, p);
  if (runs <= 4) return launch(&NormKernel<T, kKind, 4>, grid, threads, 0, stream, p);
  if (runs <= 8) return launch(&NormKernel<T, kKind, 8>, grid, threads, 0, stream, p);
  return launch(&NormKernel<T, kKind, 0>, grid, threads, 0, stream, p);
}

LaunchStatus LaunchNorm(NormKind kind, RowType type, const NormParams& params, Stream stream) {
  if (params.rows == 0 || params.columns == 0) return {};
  NormLaunch p{.op = params};
  // 256 threads to 8,192 columns (8 runs a thread), 512 beyond.
  const int64_t runs = (params.columns + kRun - 1) / kRun;
  const int64_t most = params.columns <= 8192 ? 256 : kMostNormThreads;
  p.threads_per_row = params.columns <= 256
                          ? static_cast<int32_t>(kWarpSize)
                          : static_cast<int32_t>(runs < most ? (runs + 31) / 32 * 32 : most);
  const int64_t bytes = BytesOf(type);
  p.vectors = params.columns % kRun == 0 && RunsAligned(params.x, params.x_stride, bytes) &&
              RunsAligned(params.out, params.out_stride, bytes) &&
              RunsAligned(params.weight, 0, 4) && RunsAligned(params.bias, 0, 4);
  return WithType(type, [&](auto element) {
    using T = decltype(element);
    return kind == NormKind::kRms ? LaunchNormOf<T, NormKind::kRms>(p, stream)
                                  : LaunchNormOf<T, NormKind::kLayer>(p, stream);
  });
}

}  // namespace tessera::cuda
