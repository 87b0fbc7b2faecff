// GatedActivation: two halves of a row in, one out, 16 bytes a thread.
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

namespace tessera::cuda {

struct GatedLaunch {
  GatedParams op;
  int64_t blocks_per_row = 0;
  int32_t vectors = 0;
};

inline constexpr unsigned kGatedThreads = 128;

template <typename T, RowActivation kActivation>
TESSERA_KERNEL TESSERA_BOUNDS(kGatedThreads, 8) void GatedKernel(GatedLaunch p) {
  const int64_t row = block_x() / p.blocks_per_row;
  const int64_t thread = block_x() % p.blocks_per_row * kGatedThreads + thread_x();
  const T* gate = static_cast<const T*>(p.op.gate_up) + row * p.op.gate_up_stride;
  T* out = static_cast<T*>(p.op.out) + row * p.op.out_stride;
  // Two runs, so that 16 bytes of each half are on their way at once.
  constexpr int kRuns = 2;
  Run left[kRuns], right[kRuns];
  const int64_t columns = p.op.columns;
  const bool vectors = p.vectors != 0;
  const int64_t first = (thread / kWarpSize * kRuns * kWarpSize + thread % kWarpSize) * kRun;
  constexpr int64_t kStep = int64_t{kWarpSize} * kRun;
#pragma unroll
  for (int i = 0; i < kRuns; ++i)
    if (first + i * kStep < columns) {
      left[i] = LoadRun(gate, first + i * kStep, columns, vectors);
      right[i] = LoadRun(gate + columns, first + i * kStep, columns, vectors);
    }
#pragma unroll
  for (int i = 0; i < kRuns; ++i)
    if (first + i * kStep < columns) {
      Run y;
#pragma unroll
      for (int j = 0; j < kRun; ++j) y.v[j] = Activate<kActivation>(left[i].v[j]) * right[i].v[j];
      StoreRun(out, first + i * kStep, columns, vectors, y);
    }
}

template <typename T>
LaunchStatus LaunchGatedOf(RowActivation activation, const GatedLaunch& p, Stream stream) {
  const Grid grid{static_cast<unsigned>(p.op.rows * p.blocks_per_row)};
  const auto run = [&](auto* kernel) { return launch(kernel, grid, kGatedThreads, 0, stream, p); };
  switch (activation) {
    case RowActivation::kSilu: return run(&GatedKernel<T, RowActivation::kSilu>);
    case RowActivation::kGelu: return run(&GatedKernel<T, RowActivation::kGelu>);
    case RowActivation::kGeluTanh: return run(&GatedKernel<T, RowActivation::kGeluTanh>);
    case RowActivation::kQuickGelu: return run(&GatedKernel<T, RowActivation::kQuickGelu>);
    case RowActivation::kRelu: return run(&GatedKernel<T, RowActivation::kRelu>);
    default: return run(&GatedKernel<T, RowActivation::kNone>);
  }
}

LaunchStatus LaunchGatedActivation(RowActivation activation, RowType type,
                                   const GatedParams& params, Stream stream) {
  if (params.rows == 0 || params.columns == 0) return {};
  constexpr int64_t kColumnsPerBlock = kGatedThreads * kRun * 2;
  GatedLaunch p{.op = params,
                .blocks_per_row = (params.columns + kColumnsPerBlock - 1) / kColumnsPerBlock};
  const int64_t bytes = BytesOf(type);
  p.vectors = params.columns % kRun == 0 &&
              RunsAligned(params.gate_up, params.gate_up_stride, bytes) &&
              RunsAligned(params.out, params.out_stride, bytes);
  return WithType(
      type, [&](auto element) { return LaunchGatedOf<decltype(element)>(activation, p, stream); });
}

}  // namespace tessera::cuda
