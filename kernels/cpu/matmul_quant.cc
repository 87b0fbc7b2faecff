// MatMul with int8 and int4 weights (arithmetic and layout: quant.h). As in matmul.cc, operand rows
// are packed once and items of a few panels are handed to the threads. All sums of integers are
// exact, so the kernel may be chosen by the number of rows.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matmul.h"

namespace tessera {
namespace cpu {
namespace {

constexpr int64_t kLine = 64;  // bytes of a cache line
constexpr int64_t kTileSumsBytes = 32 * 32 * 4;
// From here on a group is opened once for all row tiles of an item.
constexpr int64_t kOpenTiles = 3;

// Of one panel: kInnerBlock codes in groups of 32 with scales and minima.
constexpr int64_t kOpenPanelBytes = kInnerBlock * kLanes + kInnerBlock / kQuantAlign * 128;

// Lines [part, part + 1) / parts of `bytes` from `from` on, into L2.
void PrefetchPart(const void* from, int64_t bytes, int64_t part, int64_t parts) {
  const int64_t lines = (bytes + kLine - 1) / kLine;
  const auto* at = static_cast<const char*>(from);
  for (int64_t i = part * lines / parts; i < (part + 1) * lines / parts; ++i)
    __builtin_prefetch(at + i * kLine, 0, 2);
}

// Where the parts of a thread's scratch stand.
struct ThreadParts {
  float* acc;
  uint8_t* open;
  int32_t* sums;
};

}  // namespace

size_t QuantThreadScratchBytes(const Kernels& kernels) {
  int most = 2;
  for (int rows = 1; rows <= kernels.quant.rows; ++rows)
    most = std::max(most, kernels.quant.panels(rows));
  return static_cast<size_t>(most * kLanes * (kQuantRowBlock + 2 * kLanes) * 4 +  // accumulators
                             most * kOpenPanelBytes + kTileSumsBytes);
}

size_t QuantSharedScratchBytes(const QuantLayout& layout) {
  return static_cast<size_t>((kQuantRowBlock + 2 * kLanes) *
                             (layout.stored_k + layout.groups() * kQuantSteps * 4));
}

// The operand of one row block: blocks of K, in each the tiles of rows. For AMX: one block, tiles
// of one row, and the steps of a group of all rows stand together.
struct QuantOperand {
  int64_t tiles = 0;
  int tile_rows = 1;
  int64_t stored_k = 0, inner = 0;
  int group = 0;
  int8_t* q = nullptr;
  float* steps = nullptr;

  int64_t Count(int64_t k_begin) const { return std::min(inner, stored_k - k_begin); }
  int8_t* Codes(int64_t tile, int64_t k_begin) const {
    return q + (k_begin * tiles + tile * Count(k_begin)) * tile_rows;
  }
  float* Steps(int64_t tile, int64_t k_begin) const {
    const int64_t groups = (Count(k_begin) + group - 1) / group;
    return steps + (k_begin / group * tiles + tile * groups) * kQuantSteps * tile_rows;
  }
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
  int64_t next;  // bytes to the panels that this thread will meet after these, 0: none
  // What of the result will be written at the end.
  float* out;
  int64_t out_stride, out_rows, out_columns;

  QuantKind Kind(bool open) const {
    if (open) return layout.per_channel ? kOpen : layout.minimum ? kOpenMinimum : kOpenScaled;
    if (layout.bits == 8) return layout.per_channel ? kBytes : kBytesScaled;
    return layout.minimum ? kHalvesMinimum : kHalvesScaled;
  }
  void Open(int64_t k_begin, int64_t k_count) const {
    for (int p = 0; p < panels; ++p)
      for (int64_t k = 0; k < k_count; k += layout.group)
        kernels.open(
            layout,
            panel + p * layout.panel_bytes() + (k_begin + k) / layout.group * layout.block_bytes(),
            scratch.open + p * OpenPanel(k_count) + k / layout.group * layout.open_block_bytes(),
            std::min<int64_t>(layout.group, k_count - k));
  }
  int64_t OpenPanel(int64_t k_count) const {
    return (k_count + layout.group - 1) / layout.group * layout.open_meta_bytes() +
           k_count * kLanes;
  }
  void PrefetchNext(int64_t k_next, int64_t part) const;
  void PrefetchOut(int64_t tile) const;
  void RunTiles() const;
  void RunAmx() const;
};

// Panels' groups from k_next on, or of the next item: as much as is being worked on.
void QuantItem::PrefetchNext(int64_t k_next, int64_t part) const {
  const bool last = k_next >= layout.stored_k;
  if (last && next == 0) return;
  const int64_t k = last ? 0 : k_next;
  const uint8_t* from = panel + (last ? next : 0) + k / layout.group * layout.block_bytes();
  const int64_t groups = (operand.Count(k) + layout.group - 1) / layout.group;
  for (int p = 0; p < panels; ++p)
    PrefetchPart(from + p * layout.panel_bytes(), groups * layout.block_bytes(), part,
                 tile_end - tile_begin);
}

void QuantItem::PrefetchOut(int64_t tile) const {
  const int64_t begin = (tile - tile_begin) * operand.tile_rows,
                end = std::min(out_rows, begin + operand.tile_rows);
  for (int64_t row = begin; row < end; ++row)
    for (int64_t column = 0; column < out_columns; column += kLine / 4)
      __builtin_prefetch(out + row * out_stride + column, 1, 2);
}

void QuantItem::RunTiles() const {
  const bool open = tile_end - tile_begin >= kOpenTiles;
  const auto tile_kernel = kernels.tile[Kind(open)];
  for (int64_t k_begin = 0; k_begin < layout.stored_k; k_begin += operand.inner) {
    const int64_t k_count = operand.Count(k_begin), at = k_begin / layout.group;
    const uint8_t* block = panel + at * layout.block_bytes();
    if (open) Open(k_begin, k_count);
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      if (open) {
        PrefetchNext(k_begin + operand.inner, tile - tile_begin);
        if (k_begin + operand.inner >= layout.stored_k) PrefetchOut(tile);
      }
      const uint8_t* groups = open ? scratch.open : block;
      tile_kernel({.rows = operand.tile_rows,
                   .panels = panels,
                   .group = layout.group,
                   .k_count = k_count,
                   .q = operand.Codes(tile, k_begin),
                   .steps = operand.Steps(tile, k_begin),
                   .codes = groups + (open ? layout.open_meta_bytes() : layout.meta_bytes()),
                   .codes_panel = open ? OpenPanel(k_count) : layout.panel_bytes(),
                   .codes_block = open ? layout.open_block_bytes() : layout.block_bytes(),
                   .meta = groups,
                   .meta_panel = open ? OpenPanel(k_count) : layout.panel_bytes(),
                   .meta_block = open ? layout.open_block_bytes() : layout.block_bytes(),
                   .left = layout.panel_bytes() - at * layout.block_bytes(),
                   .jump = next == 0 ? 0 : next - layout.panel_bytes(),
                   .acc = scratch.acc + (tile - tile_begin) * operand.tile_rows * acc_stride,
                   .acc_stride = acc_stride});
    }
  }
}

// Rows are plain here: a "tile" of the operand is one row; 32 of them go through the tiles at once.
void QuantItem::RunAmx() const {
  const int64_t block_k = kInnerBlock / layout.group * layout.group;
  const int64_t inner = tile_end - tile_begin <= 32 ? layout.stored_k : block_k;
  const bool open = layout.bits == 4;
  for (int64_t k_begin = 0; k_begin < layout.stored_k; k_begin += inner) {
    const int64_t step = open ? std::min(inner, block_k) : inner;
    const int64_t inner_end = std::min(layout.stored_k, k_begin + inner);
    for (int64_t k = k_begin; k < inner_end; k += step) {
      const int64_t k_count = std::min(step, inner_end - k), group = k / layout.group;
      const uint8_t* block = panel + group * layout.block_bytes();
      if (open) Open(k, k_count);
      for (int64_t row = tile_begin; row < tile_end; row += 32) {
        kernels.amx_tile(
            {.row_tiles = row + 16 < tile_end ? 2 : 1,
             .panels = panels,
             .k_count = k_count,
             .group = layout.group,
             .q = operand.q + row * layout.stored_k + k,
             .q_stride = layout.stored_k,
             .codes = open ? scratch.open + layout.open_meta_bytes() : block + layout.meta_bytes(),
             .codes_panel = open ? OpenPanel(k_count) : layout.panel_bytes(),
             .codes_block = open ? layout.open_block_bytes() : layout.block_bytes(),
             .sums = scratch.sums,
             .scale = {.steps = operand.steps + group * kQuantSteps * operand.tiles + row,
                       .step_stride = operand.tiles,
                       .meta = block,
                       .meta_panel = layout.panel_bytes(),
                       .acc = scratch.acc + (row - tile_begin) * acc_stride,
                       .acc_stride = acc_stride},
             .meta_block = layout.block_bytes(),
             .apply = kernels.scale[layout.per_channel ? 0
                                    : layout.minimum   ? 2
                                                       : 1]});
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
  cpu::QuantOperand operand{.stored_k = layout.stored_k, .group = layout.group};
  if (amx) {
    operand.tiles = (rows + kLanes - 1) / kLanes * kLanes;
  } else {
    // Tiles of equal height: 9 rows are 5 + 4, not 8 + 1.
    operand.tiles = (rows + kernels_.quant.rows - 1) / kernels_.quant.rows;
    operand.tile_rows = static_cast<int>((rows + operand.tiles - 1) / operand.tiles);
  }
  operand.inner =
      amx || operand.tiles == 1 ? layout.stored_k : cpu::kInnerBlock / layout.group * layout.group;
  const int64_t padded_rows = operand.tiles * operand.tile_rows;
  const int group_panels = amx ? 2 : kernels_.quant.panels(operand.tile_rows);
  const int64_t item_groups = (w.panels() + group_panels - 1) / group_panels;

  const auto steps = static_cast<size_t>(padded_rows * layout.groups() * cpu::kQuantSteps);
  const size_t codes = static_cast<size_t>(padded_rows * layout.stored_k);
  operand.steps = shared_.Get<float>("MatMul", (codes + 4 * steps + 3) / 4);
  operand.q = reinterpret_cast<int8_t*>(operand.steps + steps);
  ForRows(padded_rows, w.k(), [&](int64_t row) {
    const int64_t tile = row / operand.tile_rows, in_tile = row % operand.tile_rows;
    const float* x = static_cast<const float*>(args.x.data) + (row_begin + row) * args.x.stride[0];
    for (int64_t k_begin = 0; k_begin < layout.stored_k; k_begin += operand.inner)
      kernels_.quant.row(
          {.x = x + k_begin,
           .k = row < rows ? std::clamp<int64_t>(w.k() - k_begin, 0, operand.inner) : 0,
           .stored_k = operand.Count(k_begin),
           .group = layout.group,
           .offset = layout.offset(),
           .q = operand.Codes(tile, k_begin) + in_tile * 4,
           .quad_stride = operand.tile_rows,
           .steps = (amx ? operand.steps + row : operand.Steps(tile, k_begin) + in_tile),
           .step_stride = amx ? operand.tiles : operand.tile_rows});
  });

  // Narrow matrices are cut by rows too, so that every thread has work.
  const int64_t unit = amx ? 32 : 1, units = (operand.tiles + unit - 1) / unit;
  const int64_t cuts = std::clamp<int64_t>((3 * threads() + item_groups - 1) / item_groups, 1,
                                           threads() == 1 ? 1 : units);
  const int64_t cut_tiles = (units + cuts - 1) / cuts * unit;
  pool_.Run(item_groups * cuts, [&](int64_t item, int worker) {
    const int64_t panel_group = item % item_groups, first_panel = panel_group * group_panels;
    const int panels = static_cast<int>(std::min<int64_t>(group_panels, w.panels() - first_panel));
    const int64_t tile_begin = item / item_groups * cut_tiles,
                  tile_end = std::min(operand.tiles, tile_begin + cut_tiles);
    if (tile_begin >= tile_end) return;
    const int64_t acc_stride = int64_t{group_panels} * kLanes;
    auto* memory = ThreadScratch<uint8_t>("MatMul", worker, cpu::QuantThreadScratchBytes(kernels_));
    cpu::ThreadParts parts{};
    parts.sums = reinterpret_cast<int32_t*>(memory);
    parts.open = memory + cpu::kTileSumsBytes;
    parts.acc = reinterpret_cast<float*>(parts.open + group_panels * cpu::kOpenPanelBytes);
    const int64_t acc_rows = (tile_end - tile_begin) * operand.tile_rows;
    std::memset(parts.acc, 0, static_cast<size_t>(acc_rows * acc_stride) * sizeof(float));

    const int64_t column = first_panel * kLanes;
    const int64_t columns = std::min<int64_t>(panels * kLanes, w.n() - column);
    const int64_t row = tile_begin * operand.tile_rows,
                  item_rows = std::min(rows, tile_end * operand.tile_rows) - row;
    // A thread's items stand side by side.
    const bool more = panel_group + 2 < item_groups;
    const cpu::QuantItem work{
        kernels_.quant,
        layout,
        operand,
        w.panel(first_panel),
        panels,
        tile_begin,
        tile_end,
        parts,
        acc_stride,
        more ? group_panels * layout.panel_bytes() : 0,
        static_cast<float*>(args.out.data) + (row_begin + row) * args.out.stride[0] + column,
        args.out.stride[0],
        item_rows,
        columns};
    amx ? work.RunAmx() : work.RunTiles();
    kernels_.quant.finish({.rows = item_rows,
                           .panels = panels,
                           .channel = layout.per_channel ? w.channel_scales(first_panel) : nullptr,
                           .channel_panel = layout.panel_bytes(),
                           .acc = parts.acc,
                           .acc_stride = acc_stride});
    Finish(args, row_begin + row, item_rows, column, columns, parts.acc, acc_stride);
  });
}

}  // namespace tessera
