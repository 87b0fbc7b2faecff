// MatMul: items of a few panels are handed to the threads; each streams its panels through all row
// tiles. fp32 operand rows are read where they stand, others are rounded once into scratch. An
// output element is one chain of multiply-adds in ascending k, whoever computes it and however K is
// blocked: blocking stores and reloads the fp32 accumulators.
#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/backend.h"

namespace tessera {
namespace cpu {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int MostPanels(const Kernels& kernels) {
  int most = 2;  // an AMX item
  for (int rows = 1; rows <= kernels.matmul_rows; ++rows)
    most = std::max(most, kernels.matmul_panels(rows));
  return most;
}

// Rows of [R, K] as bf16 [row][stored_k], absent rows and columns zero.
void PackOperandBF16(const float* row, int64_t k, int64_t stored_k, uint16_t* to) {
  int64_t i = 0;
  if (row != nullptr)
    for (; i < k; ++i) to[i] = FloatToBF16(row[i]);
  for (; i < stored_k; ++i) to[i] = 0;
}

// The finished sums of a few rows and one item, as the epilogue takes them.
EpilogueRows Finished(const MatMulArgs& args, int64_t row, int64_t rows, int64_t column, int64_t n,
                      const float* acc, int64_t acc_stride) {
  const auto* residual = static_cast<const float*>(args.residual.data);
  const int64_t residual_stride = residual == nullptr ? 0 : args.residual.stride[0];
  return {.rows = rows,
          .n = n,
          .acc = acc,
          .acc_stride = acc_stride,
          .bias = args.bias == nullptr ? nullptr : args.bias + column,
          .residual = residual == nullptr ? nullptr : residual + row * residual_stride + column,
          .residual_stride = residual_stride,
          .out = static_cast<float*>(args.out.data) + row * args.out.stride[0] + column,
          .out_stride = args.out.stride[0],
          .gate = args.gate,
          .activation = args.activation};
}

}  // namespace

int64_t MatMulRowBlock(int64_t k) {
  return std::clamp(kOperandBlock / std::max<int64_t>(k, 1), kRowBlock, kMostRowBlock);
}

size_t MatMulThreadScratchBytes(const Kernels& kernels) {
  const int64_t columns = MostPanels(kernels) * kLanes;
  return static_cast<size_t>(columns * (kMostRowBlock + kLanes * 2 + kWholeInner)) * sizeof(float);
}

size_t MatMulSharedScratchBytes(const Kernels& kernels, int64_t k) {
  const int64_t rows = MatMulRowBlock(k) + std::max(32, kernels.matmul_rows);
  return static_cast<size_t>(rows * RoundUp(k, 32)) * sizeof(float);
}

}  // namespace cpu

using cpu::kLanes;

void CpuBackend::MatMul(const MatMulArgs& args) {
  ShapeCheck check("MatMul");
  check.NotNull("w", args.w);
  const auto& w = static_cast<const cpu::CpuPackedMatrix&>(*args.w);
  check.Extent("w", 'N', w.n());
  check.Extent("w", 'K', w.k());
  check.View("x", args.x, "RK", DType::kF32);
  check.View("out", args.out, "RN", DType::kF32);
  if (args.residual.data != nullptr) check.View("residual", args.residual, "RN", DType::kF32);
  check.True(w.layout() != cpu::Layout::kRows, "w", "a matrix packed for matmul", 0);
  const bool quant = w.layout() == cpu::Layout::kQuant;
  const int64_t block = quant ? cpu::kQuantRowBlock : cpu::MatMulRowBlock(w.k());
  for (int64_t row = 0; row < check['R']; row += block) {
    const int64_t rows = std::min(block, check['R'] - row);
    if (quant) {
      MatMulQuant(args, w, row, rows);
      continue;
    }
    w.layout() == cpu::Layout::kVnniPanels ? MatMulAmx(args, w, row, rows)
                                           : MatMulPanels(args, w, row, rows);
  }
}

void CpuBackend::Finish(const MatMulArgs& args, int64_t row, int64_t rows, int64_t column,
                        int64_t n, const float* acc, int64_t acc_stride) {
  kernels_.epilogue(cpu::Finished(args, row, rows, column, n, acc, acc_stride));
}

void CpuBackend::MatMulPanels(const MatMulArgs& args, const cpu::CpuPackedMatrix& w,
                              int64_t row_begin, int64_t rows) {
  const int64_t k = w.k();
  const int format = cpu::FormatIndex(w.format());
  const auto element = static_cast<int64_t>(SizeOf(format == 0 ? DType::kF32 : DType::kBF16));
  // Tiles of equal height: 9 rows are 5 + 4, not 8 + 1.
  const int64_t tiles = (rows + kernels_.matmul_rows - 1) / kernels_.matmul_rows;
  const int tile_rows = static_cast<int>((rows + tiles - 1) / tiles);
  const int group = kernels_.matmul_panels(tile_rows);
  const int64_t groups = (w.panels() + group - 1) / group;

  const auto* a = static_cast<const float*>(args.x.data) + row_begin * args.x.stride[0];
  int64_t a_stride = args.x.stride[0];
  if (operand_dtype_ == DType::kBF16) {
    auto* rounded = shared_.Get<float>("MatMul", static_cast<size_t>(rows * k));
    ForRows(rows, k, [&, from = a, stride = a_stride](int64_t row) {
      for (int64_t i = 0; i < k; ++i)
        rounded[row * k + i] = BF16ToFloat(FloatToBF16(from[row * stride + i]));
    });
    a = rounded;
    a_stride = k;
  }
  // The last tile is as tall as the others and ends with the rows: it computes some of the rows
  // before it again and writes only its own.
  const auto tile_row = [&](int64_t tile) { return std::min(tile * tile_rows, rows - tile_rows); };

  // Narrow matrices are cut by rows too, so that every thread has work.
  const int64_t cuts =
      std::clamp<int64_t>((3 * threads() + groups - 1) / groups, 1, threads() == 1 ? 1 : tiles);
  const int64_t cut_tiles = (tiles + cuts - 1) / cuts;
  pool_.Run(groups * cuts, [&](int64_t item, int worker) {
    const int64_t first_panel = item % groups * group;
    const int panels = static_cast<int>(std::min<int64_t>(group, w.panels() - first_panel));
    const int64_t tile_begin = item / groups * cut_tiles,
                  tile_end = std::min(tiles, tile_begin + cut_tiles);
    if (tile_begin >= tile_end) return;
    const int64_t acc_stride = int64_t{group} * kLanes, acc_tile = tile_rows * acc_stride;
    const int64_t acc_elements = acc_stride * (cpu::kMostRowBlock + kLanes * 2);
    auto* acc = ThreadScratch<float>(
        "MatMul", worker, static_cast<size_t>(acc_elements + acc_stride * cpu::kWholeInner));
    float* wide = acc + acc_elements;

    const bool widen = format != 0 && tile_end - tile_begin >= 3;
    const auto* panel =
        static_cast<const char*>(w.data()) + first_panel * w.panel_elements() * element;
    const int64_t column = first_panel * kLanes;
    const int64_t columns = std::min<int64_t>(panels * kLanes, w.n() - column);
    const auto start = [&](float* to, int64_t count) {
      std::memset(to, 0, static_cast<size_t>(count * acc_tile) * sizeof(float));
    };
    const auto load = [&](int64_t k_begin, int64_t k_count) {
      if (!widen) return;
      for (int p = 0; p < panels; ++p)
        kernels_.widen[format](panel + (k_begin * kLanes + p * w.panel_elements()) * element,
                               wide + p * k_count * kLanes, k_count * kLanes);
    };
    const auto multiply = [&](int64_t tile, int64_t k_begin, int64_t k_count, float* sums) {
      kernels_.matmul_tile[widen ? 0 : format](
          {.rows = tile_rows,
           .panels = panels,
           .k_count = k_count,
           .a = a + tile_row(tile) * a_stride + k_begin,
           .a_stride = a_stride,
           .w = widen ? static_cast<const void*>(wide) : panel + k_begin * kLanes * element,
           .panel_stride = widen ? k_count * kLanes : w.panel_elements(),
           .acc = sums,
           .acc_stride = acc_stride});
    };
    const auto finish = [&](int64_t tile, const float* sums) {
      const int64_t row = tile * tile_rows, count = std::min<int64_t>(tile_rows, rows - row);
      kernels_.epilogue(cpu::Finished(args, row_begin + row, count, column, columns,
                                      sums + (row - tile_row(tile)) * acc_stride, acc_stride));
    };

    if (tile_end - tile_begin == 1 || k <= cpu::kWholeInner) {
      load(0, k);
      for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
        start(acc, 1);
        multiply(tile, 0, k, acc);
        finish(tile, acc);
      }
      return;
    }
    start(acc, tile_end - tile_begin);
    for (int64_t k_begin = 0; k_begin < k; k_begin += cpu::kInnerBlock) {
      const int64_t k_count = std::min(cpu::kInnerBlock, k - k_begin);
      load(k_begin, k_count);
      for (int64_t tile = tile_begin; tile < tile_end; ++tile)
        multiply(tile, k_begin, k_count, acc + (tile - tile_begin) * acc_tile);
    }
    for (int64_t tile = tile_begin; tile < tile_end; ++tile)
      finish(tile, acc + (tile - tile_begin) * acc_tile);
  });
}

void CpuBackend::MatMulAmx(const MatMulArgs& args, const cpu::CpuPackedMatrix& w, int64_t row_begin,
                           int64_t rows) {
  constexpr int kTileRows = 16, kPanels = 2;
  const int64_t stored_k = w.stored_k();
  const int64_t padded_rows = cpu::RoundUp(rows, kTileRows);
  auto* a = shared_.Get<uint16_t>("MatMul", static_cast<size_t>(padded_rows * stored_k));
  ForRows(padded_rows, stored_k, [&](int64_t row) {
    const float* x =
        row < rows ? static_cast<const float*>(args.x.data) + (row_begin + row) * args.x.stride[0]
                   : nullptr;
    cpu::PackOperandBF16(x, w.k(), stored_k, a + row * stored_k);
  });
  const int64_t groups = (w.panels() + kPanels - 1) / kPanels;
  pool_.Run(groups, [&](int64_t group, int worker) {
    const int64_t first_panel = group * kPanels;
    const int panels = static_cast<int>(std::min<int64_t>(kPanels, w.panels() - first_panel));
    constexpr int64_t kAccStride = kPanels * kLanes;
    auto* acc =
        ThreadScratch<float>("MatMul", worker, static_cast<size_t>(padded_rows * kAccStride));
    std::memset(acc, 0, static_cast<size_t>(padded_rows * kAccStride) * sizeof(float));
    const auto* panel = static_cast<const uint16_t*>(w.data()) + first_panel * w.panel_elements();
    const int64_t inner = padded_rows <= 2 * kTileRows ? stored_k : 2 * cpu::kInnerBlock;
    for (int64_t k_begin = 0; k_begin < stored_k; k_begin += inner)
      for (int64_t row = 0; row < padded_rows; row += 2 * kTileRows)
        kernels_.amx_tile({.row_tiles = row + kTileRows < padded_rows ? 2 : 1,
                           .panels = panels,
                           .k_count = std::min(inner, stored_k - k_begin),
                           .a = a + row * stored_k + k_begin,
                           .a_stride = stored_k,
                           .w = panel + k_begin * kLanes,
                           .panel_stride = w.panel_elements(),
                           .acc = acc + row * kAccStride,
                           .acc_stride = kAccStride});
    const int64_t column = first_panel * kLanes;
    const int64_t columns = std::min<int64_t>(panels * kLanes, w.n() - column);
    kernels_.epilogue(cpu::Finished(args, row_begin, rows, column, columns, acc, kAccStride));
  });
}

}  // namespace tessera
