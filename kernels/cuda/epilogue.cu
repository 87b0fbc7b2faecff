// What follows a matmul where the library that ran it cannot do it: bias, activation, gate and
// residual in one pass.
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

namespace tessera::cuda {

struct EpilogueLaunch {
  EpilogueParams op;
  int64_t blocks_per_row = 0;
  int32_t vectors = 0;
};

inline constexpr unsigned kEpilogueThreads = 128;

template <typename In, typename Out>
TESSERA_KERNEL TESSERA_BOUNDS(kEpilogueThreads, 8) void EpilogueKernel(EpilogueLaunch p) {
  const int64_t row = block_x() / p.blocks_per_row;
  const int64_t column = (block_x() % p.blocks_per_row * kEpilogueThreads + thread_x()) * kRun;
  const int64_t columns = p.op.columns;
  if (column >= columns) return;
  const bool vectors = p.vectors != 0;
  const In* y = static_cast<const In*>(p.op.y) + row * p.op.y_stride;
  Run run = LoadRun(y, column, columns, vectors);
  if (p.op.bias != nullptr) {
    const Run bias = LoadRun(p.op.bias, column, columns, vectors);
#pragma unroll
    for (int i = 0; i < kRun; ++i) run.v[i] += bias.v[i];
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) run.v[i] = Activate(p.op.activation, run.v[i]) * p.op.gate;
  if (p.op.residual != nullptr) {
    const Out* residual = static_cast<const Out*>(p.op.residual) + row * p.op.residual_stride;
    const Run add = LoadRun(residual, column, columns, vectors);
#pragma unroll
    for (int i = 0; i < kRun; ++i) run.v[i] = fadd_rn(run.v[i], add.v[i]);
  }
  StoreRun(static_cast<Out*>(p.op.out) + row * p.op.out_stride, column, columns, vectors, run);
}

LaunchStatus LaunchEpilogue(RowType y_type, RowType out_type, const EpilogueParams& params,
                            Stream stream) {
  if (params.rows == 0 || params.columns == 0) return {};
  constexpr int64_t kColumnsPerBlock = kEpilogueThreads * kRun;
  EpilogueLaunch p{.op = params,
                   .blocks_per_row = (params.columns + kColumnsPerBlock - 1) / kColumnsPerBlock};
  p.vectors = params.columns % kRun == 0 &&
              RunsAligned(params.y, params.y_stride, BytesOf(y_type)) &&
              RunsAligned(params.out, params.out_stride, BytesOf(out_type)) &&
              RunsAligned(params.residual, params.residual_stride, BytesOf(out_type)) &&
              RunsAligned(params.bias, 0, 4);
  const Grid grid{static_cast<unsigned>(params.rows * p.blocks_per_row)};
  return WithType(y_type, [&](auto in) {
    return WithType(out_type, [&](auto out) {
      return launch(&EpilogueKernel<decltype(in), decltype(out)>, grid, kEpilogueThreads, 0, stream,
                    p);
    });
  });
}

}  // namespace tessera::cuda
