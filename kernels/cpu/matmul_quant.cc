// MatMul with int8 and int4 weights (arithmetic and layout: quant.h). As in matmul.cc, operand rows
// are packed once and items of a few panels are handed to the threads. All sums of integers are
// exact, so the kernel may be chosen by the number of rows.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matmul.h"

namespace tessera {
namespace cpu {

size_t QuantThreadScratchBytes(const Kernels& kernels) {
  int most = 2;
  for (int rows = 1; rows <= kernels.quant.rows; ++rows)
    most = std::max(most, kernels.quant.panels(rows));
  const int64_t columns = int64_t{most} * kLanes;
  return static_cast<size_t>(columns * (kQuantRowBlock + 2 * kLanes) * 4 +  // accumulators
                             columns * kInnerBlock +                        // codes as bytes
                             32 * 32 * 4);                                  // sums of tiles
}

size_t QuantSharedScratchBytes(const QuantLayout& layout) {
  return static_cast<size_t>((kQuantRowBlock + 2 * kLanes) *
                             (layout.stored_k + layout.groups() * 12));
}

namespace {

// Where the parts of a thread's scratch stand.
struct ThreadParts {
  float* acc;
  uint8_t* bytes;
  int32_t* sums;
};

}  // namespace

// The operand of one row block: tiles of rows, or plain rows where tile_rows is 1.
struct QuantOperand {
  int64_t tiles = 0;
  int tile_rows = 1;
  int64_t stored_k = 0, groups = 0;
  int8_t* q = nullptr;
  float* scale = nullptr;
  float* scaled_sum = nullptr;
  int32_t* start = nullptr;

  // Place of a tile's group in the three arrays.
  int64_t At(int64_t tile, int64_t group) const { return (tile * groups + group) * tile_rows; }
};

// One item: rows of tiles [tile_begin, tile_end), panels from first_panel on.
struct QuantItem {
  const QuantKernels& kernels;
  const QuantLayout& layout;
  const QuantOperand& operand;
  const uint8_t* panel;  // the first one's bytes
  int panels;
  int64_t tile_begin, tile_end;
  ThreadParts scratch;
  int64_t acc_stride;

  QuantKind Kind(bool bytes) const {
    if (layout.per_channel) return kBytes;
    if (bytes) return layout.minimum ? kBytesMinimum : kBytesScaled;
    return layout.minimum ? kHalvesMinimum : kHalvesScaled;
  }
  // Halves that many row tiles read become bytes once.
  void Unpack(int64_t k_begin, int64_t k_count) const {
    for (int p = 0; p < panels; ++p)
      for (int64_t k = 0; k < k_count; k += layout.group)
        kernels.unpack(panel + p * layout.panel_bytes() +
                           (k_begin + k) / layout.group * layout.block_bytes() +
                           layout.meta_bytes(),
                       scratch.bytes + (p * k_count + k) * kLanes,
                       std::min<int64_t>(layout.group, k_count - k));
  }
  void RunTiles() const;
  void RunAmx() const;
  int64_t Inner(bool whole) const {
    return whole ? layout.stored_k : kInnerBlock / layout.group * layout.group;
  }
};

void QuantItem::RunTiles() const {
  const int64_t tiles = tile_end - tile_begin, inner = Inner(tiles == 1);
  const bool unpack = layout.bits == 4 && tiles >= 3;
  const auto tile_kernel = kernels.tile[Kind(layout.bits == 8 || unpack)];
  for (int64_t k_begin = 0; k_begin < layout.stored_k; k_begin += inner) {
    const int64_t k_count = std::min(inner, layout.stored_k - k_begin);
    const int64_t group = k_begin / layout.group;
    const uint8_t* block = panel + group * layout.block_bytes();
    if (unpack) Unpack(k_begin, k_count);
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const int64_t at = operand.At(tile, group);
      tile_kernel({.rows = operand.tile_rows,
                   .panels = panels,
                   .group = layout.group,
                   .k_count = k_count,
                   .q = operand.q + (tile * layout.stored_k + k_begin) * operand.tile_rows,
                   .scale = operand.scale + at,
                   .scaled_sum = operand.scaled_sum + at,
                   .start = operand.start + at,
                   .codes = unpack ? scratch.bytes : block + layout.meta_bytes(),
                   .codes_panel = unpack ? k_count * kLanes : layout.panel_bytes(),
                   .codes_block = unpack ? int64_t{layout.group} * kLanes : layout.block_bytes(),
                   .meta = block,
                   .meta_panel = layout.panel_bytes(),
                   .meta_block = layout.block_bytes(),
                   .acc = scratch.acc + (tile - tile_begin) * operand.tile_rows * acc_stride,
                   .acc_stride = acc_stride});
    }
  }
}

// Rows are plain here: a "tile" of the operand is one row; 32 of them go through the tiles at once.
void QuantItem::RunAmx() const {
  const int64_t inner = Inner(tile_end - tile_begin <= 32);
  const bool unpack = layout.bits == 4;
  for (int64_t k_begin = 0; k_begin < layout.stored_k; k_begin += inner) {
    const int64_t step =
        unpack ? std::min(inner, kInnerBlock / layout.group * layout.group) : inner;
    const int64_t inner_end = std::min(layout.stored_k, k_begin + inner);
    for (int64_t k = k_begin; k < inner_end; k += step) {
      const int64_t k_count = std::min(step, inner_end - k), group = k / layout.group;
      const uint8_t* block = panel + group * layout.block_bytes();
      if (unpack) Unpack(k, k_count);
      for (int64_t row = tile_begin; row < tile_end; row += 32) {
        const int64_t at = group * operand.tiles + row;
        kernels.amx_tile(
            {.row_tiles = row + 16 < tile_end ? 2 : 1,
             .panels = panels,
             .k_count = k_count,
             .group = layout.group,
             .q = operand.q + row * layout.stored_k + k,
             .q_stride = layout.stored_k,
             .codes = unpack ? scratch.bytes : block + layout.meta_bytes(),
             .codes_panel = unpack ? k_count * kLanes : layout.panel_bytes(),
             .codes_block = unpack ? int64_t{layout.group} * kLanes : layout.block_bytes(),
             .sums = scratch.sums,
             .scale = {.scale = operand.scale + at,
                       .scaled_sum = operand.scaled_sum + at,
                       .start = operand.start + at,
                       .meta = block,
                       .meta_panel = layout.panel_bytes(),
                       .acc = scratch.acc + (row - tile_begin) * acc_stride,
                       .acc_stride = acc_stride},
             .scale_group = operand.tiles,
             .meta_block = layout.block_bytes(),
             .apply = kernels.scale[Kind(true)]});
      }
    }
  }
}

}  // namespace cpu

void CpuBackend::MatMulQuant(const MatMulArgs& args, const cpu::CpuPackedMatrix& w,
                             int64_t row_begin, int64_t rows) {
  using cpu::kLanes;
  const cpu::QuantLayout& layout = w.quant();
  const bool amx = kernels_.quant.amx_tile != nullptr && rows >= kLanes;
  cpu::QuantOperand operand{.stored_k = layout.stored_k, .groups = layout.groups()};
  if (amx) {
    operand.tiles = (rows + kLanes - 1) / kLanes * kLanes;
  } else {
    // Tiles of equal height: 9 rows are 5 + 4, not 8 + 1.
    operand.tiles = (rows + kernels_.quant.rows - 1) / kernels_.quant.rows;
    operand.tile_rows = static_cast<int>((rows + operand.tiles - 1) / operand.tiles);
  }
  const int64_t padded_rows = operand.tiles * operand.tile_rows;
  const int group_panels = amx ? 2 : kernels_.quant.panels(operand.tile_rows);
  const int64_t item_groups = (w.panels() + group_panels - 1) / group_panels;

  const auto metas = static_cast<size_t>(padded_rows * operand.groups);
  const size_t codes = static_cast<size_t>(padded_rows * layout.stored_k);
  operand.scale = shared_.Get<float>("MatMul", (codes + 12 * metas + 3) / 4);
  operand.scaled_sum = operand.scale + metas;
  operand.start = reinterpret_cast<int32_t*>(operand.scaled_sum + metas);
  operand.q = reinterpret_cast<int8_t*>(operand.start + metas);
  ForRows(padded_rows, w.k(), [&](int64_t row) {
    const int64_t tile = row / operand.tile_rows, in_tile = row % operand.tile_rows;
    // AMX reads a group's scales of 32 rows at once: [groups][rows] over all rows.
    const int64_t at = amx ? row : operand.At(tile, 0) + in_tile;
    kernels_.quant.row(
        {.x = static_cast<const float*>(args.x.data) + (row_begin + row) * args.x.stride[0],
         .k = row < rows ? w.k() : 0,
         .stored_k = layout.stored_k,
         .group = layout.group,
         .offset = layout.offset(),
         .q = operand.q + tile * operand.tile_rows * layout.stored_k + in_tile * 4,
         .quad_stride = operand.tile_rows,
         .scale = operand.scale + at,
         .scaled_sum = operand.scaled_sum + at,
         .start = operand.start + at,
         .group_stride = amx ? operand.tiles : operand.tile_rows});
  });

  // Narrow matrices are cut by rows too, so that every thread has work.
  const int64_t unit = amx ? 32 : 1, units = (operand.tiles + unit - 1) / unit;
  const int64_t cuts = std::clamp<int64_t>((3 * threads() + item_groups - 1) / item_groups, 1,
                                           threads() == 1 ? 1 : units);
  const int64_t cut_tiles = (units + cuts - 1) / cuts * unit;
  pool_.Run(item_groups * cuts, [&](int64_t item, int worker) {
    const int64_t first_panel = item % item_groups * group_panels;
    const int panels = static_cast<int>(std::min<int64_t>(group_panels, w.panels() - first_panel));
    const int64_t tile_begin = item / item_groups * cut_tiles,
                  tile_end = std::min(operand.tiles, tile_begin + cut_tiles);
    if (tile_begin >= tile_end) return;
    const int64_t acc_stride = int64_t{group_panels} * kLanes;
    auto* memory = ThreadScratch<uint8_t>("MatMul", worker, cpu::QuantThreadScratchBytes(kernels_));
    cpu::ThreadParts parts{};
    parts.sums = reinterpret_cast<int32_t*>(memory);
    parts.bytes = memory + 32 * 32 * 4;
    parts.acc = reinterpret_cast<float*>(parts.bytes + acc_stride * cpu::kInnerBlock);
    const int64_t acc_rows = (tile_end - tile_begin) * operand.tile_rows;
    std::memset(parts.acc, 0, static_cast<size_t>(acc_rows * acc_stride) * sizeof(float));
    const cpu::QuantItem work{kernels_.quant, layout,     operand,  w.panel(first_panel),
                              panels,         tile_begin, tile_end, parts,
                              acc_stride};
    amx ? work.RunAmx() : work.RunTiles();

    const int64_t column = first_panel * kLanes;
    const int64_t columns = std::min<int64_t>(panels * kLanes, w.n() - column);
    const int64_t row_end = std::min(rows, tile_end * operand.tile_rows);
    for (int64_t row = tile_begin * operand.tile_rows; row < row_end; ++row) {
      float* acc = parts.acc + (row - tile_begin * operand.tile_rows) * acc_stride;
      if (layout.per_channel)
        for (int p = 0; p < panels; ++p) {
          const float* scales = w.channel_scales(first_panel + p);
          for (int lane = 0; lane < kLanes; ++lane) acc[p * kLanes + lane] *= scales[lane];
        }
      Finish(args, row_begin + row, column, columns, acc);
    }
  });
}

}  // namespace tessera
