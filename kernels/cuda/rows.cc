// The row ops of CudaBackend: checks, metadata to the device, one launch each.
#include "kernels/cuda/rows.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/int_matrix.h"

namespace tessera::cuda {
namespace {

static_assert(static_cast<int>(RowActivation::kSilu) == static_cast<int>(Activation::kSilu));
static_assert(static_cast<int>(RowActivation::kGelu) == static_cast<int>(Activation::kGelu));
static_assert(static_cast<int>(RowActivation::kGeluTanh) ==
              static_cast<int>(Activation::kGeluTanh));
static_assert(static_cast<int>(RowActivation::kQuickGelu) ==
              static_cast<int>(Activation::kQuickGelu));
static_assert(static_cast<int>(RowActivation::kRelu) == static_cast<int>(Activation::kRelu));

RowType TypeOf(DType dtype) {
  return dtype == DType::kF32   ? RowType::kF32
         : dtype == DType::kF16 ? RowType::kF16
                                : RowType::kBf16;
}

}  // namespace

size_t RowsScratchBytes(const ScratchLimits& limits, const DeviceProps&) {
  const auto rows = static_cast<size_t>(limits.max_rows);
  const auto blocks = static_cast<size_t>(SampleBlocks(limits.max_rows));
  // Two pieces, each rounded up to 256 bytes.
  return blocks * static_cast<size_t>(SampleKeysStride(limits.vocab)) * sizeof(uint32_t) +
         rows * sizeof(SampleOutput) + 512;
}

void CudaBackend::RmsNorm(const RmsNormArgs& args) {
  ShapeCheck check("RmsNorm");
  check.View("x", args.x, "RC", args.x.dtype);
  check.View("out", args.out, "RC", args.x.dtype);
  check.NotNull("weight", args.weight);
  if (failed()) return;
  Check(LaunchNorm(NormKind::kRms, TypeOf(args.x.dtype),
                   {.x = args.x.data,
                    .out = args.out.data,
                    .weight = args.weight,
                    .x_stride = args.x.stride[0],
                    .out_stride = args.out.stride[0],
                    .rows = check['R'],
                    .columns = static_cast<int32_t>(check['C']),
                    .eps = args.eps},
                   stream()));
}

void CudaBackend::LayerNorm(const LayerNormArgs& args) {
  ShapeCheck check("LayerNorm");
  check.View("x", args.x, "RC", args.x.dtype);
  check.View("out", args.out, "RC", args.x.dtype);
  check.NotNull("weight", args.weight);
  if (failed()) return;
  Check(LaunchNorm(NormKind::kLayer, TypeOf(args.x.dtype),
                   {.x = args.x.data,
                    .out = args.out.data,
                    .weight = args.weight,
                    .bias = args.bias,
                    .x_stride = args.x.stride[0],
                    .out_stride = args.out.stride[0],
                    .rows = check['R'],
                    .columns = static_cast<int32_t>(check['C']),
                    .eps = args.eps},
                   stream()));
}

void CudaBackend::HeadRmsNorm(const TensorView& x, int heads, const float* weight, float eps) {
  ShapeCheck check("HeadRmsNorm");
  check.View("x", x, "RQ", x.dtype);
  check.NotNull("weight", weight);
  check.True(heads > 0 && check['Q'] % heads == 0, "x", "heads * D columns", check['Q']);
  if (failed()) return;
  Check(LaunchNorm(NormKind::kRms, TypeOf(x.dtype),
                   {.x = x.data,
                    .out = x.data,
                    .weight = weight,
                    .x_stride = x.stride[0],
                    .out_stride = x.stride[0],
                    .rows = check['R'],
                    .heads = heads,
                    .columns = static_cast<int32_t>(check['Q'] / heads),
                    .eps = eps},
                   stream()));
}

void CudaBackend::GatedActivation(const GatedActivationArgs& args) {
  ShapeCheck check("GatedActivation");
  check.View("out", args.out, "RF", args.out.dtype);
  check.View("gate_up", args.gate_up, "RG", args.out.dtype);
  check.True(check['G'] == 2 * check['F'], "gate_up", "twice the columns of out", check['G']);
  if (failed()) return;
  Check(LaunchGatedActivation(static_cast<RowActivation>(args.activation), TypeOf(args.out.dtype),
                              {.gate_up = args.gate_up.data,
                               .out = args.out.data,
                               .gate_up_stride = args.gate_up.stride[0],
                               .out_stride = args.out.stride[0],
                               .rows = check['R'],
                               .columns = check['F']},
                              stream()));
}

void CudaBackend::Embedding(const EmbeddingArgs& args) {
  ShapeCheck check("Embedding");
  check.NotNull("table", args.table);
  check.Extent("table", 'C', args.table->k());
  check.Extent("ids", 'R', std::ssize(args.ids));
  check.View("out", args.out, "RC", args.out.dtype);
  check.Ids("ids", args.ids, args.table->n(), drawn_below_ <= args.table->n() ? drawn_rows_ : 0);
  if (check['R'] == 0) return;
  const int32_t* ids = Stage(args.ids);
  if (failed()) return;
  if (IsInt(args.table->format())) {
    const auto& ints = static_cast<const CudaIntMatrix&>(*args.table);
    Check(LaunchEmbeddingInt(TypeOf(args.out.dtype),
                             {.layout = ints.layout(),
                              .weights = ints.data(),
                              .ids = ids,
                              .drawn = drawn_,
                              .out = args.out.data,
                              .out_stride = args.out.stride[0],
                              .count = check['R']},
                             stream()));
    return;
  }
  const auto& table = static_cast<const CudaPackedMatrix&>(*args.table);
  Check(LaunchEmbedding(TypeOf(table.dtype()), TypeOf(args.out.dtype),
                        {.table = table.data(),
                         .out = args.out.data,
                         .ids = ids,
                         .drawn = drawn_,
                         .table_stride = table.stored_k(),
                         .out_stride = args.out.stride[0],
                         .columns = check['C'],
                         .count = check['R']},
                        stream()));
}

void CudaBackend::GatherRows(const GatherRowsArgs& args) {
  ShapeCheck check("GatherRows");
  check.View("x", args.x, "RC", args.x.dtype);
  check.Extent("rows", 'I', std::ssize(args.rows));
  check.View("out", args.out, "IC", args.x.dtype);
  check.Below("rows", args.rows, check['R']);
  MoveRows(MoveKind::kGather, args.x, args.rows, args.out);
}

void CudaBackend::ScatterRows(const ScatterRowsArgs& args) {
  ShapeCheck check("ScatterRows");
  check.View("x", args.x, "IC", args.x.dtype);
  check.Extent("rows", 'I', std::ssize(args.rows));
  check.View("out", args.out, "RC", args.x.dtype);
  check.Below("rows", args.rows, check['R']);
  MoveRows(MoveKind::kScatter, args.x, args.rows, args.out);
}

void CudaBackend::MoveRows(MoveKind kind, const TensorView& x, std::span<const int32_t> rows,
                           const TensorView& out) {
  if (rows.empty()) return;
  const int32_t* indices = Stage(rows);
  if (failed()) return;
  const auto bytes = static_cast<int64_t>(SizeOf(x.dtype));
  Check(LaunchMoveRows(kind,
                       {.x = x.data,
                        .out = out.data,
                        .rows = indices,
                        .x_stride = x.stride[0] * bytes,
                        .out_stride = out.stride[0] * bytes,
                        .row_bytes = x.dim(1) * bytes,
                        .count = std::ssize(rows)},
                       stream()));
}

void CudaBackend::AddRows(const AddRowsArgs& args) {
  ShapeCheck check("AddRows");
  check.View("table", args.table, "MC", DType::kF32);
  check.View("x", args.x, "RC", args.x.dtype);
  if (check['R'] == 0) return;
  if (!args.rows.empty()) check.Extent("rows", 'R', std::ssize(args.rows));
  check.Below("rows", args.rows, check['M']);
  check.True(check['M'] > 0, "table", "at least one row", check['M']);
  const int32_t* rows = args.rows.empty() ? nullptr : Stage(args.rows);
  if (failed()) return;
  Check(LaunchAddRows(TypeOf(args.x.dtype),
                      {.table = static_cast<const float*>(args.table.data),
                       .rows = rows,
                       .x = args.x.data,
                       .table_stride = args.table.stride[0],
                       .x_stride = args.x.stride[0],
                       .table_rows = check['M'],
                       .count = check['R'],
                       .columns = check['C'],
                       .scale = args.scale},
                      stream()));
}

void CudaBackend::Patchify(const PatchifyArgs& args) {
  ShapeCheck check("Patchify");
  const int64_t size = args.patch_size;
  check.True(size > 0, "patch_size", "at least 1", size);
  check.Extent("patch_size", 'K', 3 * size * size);
  check.View("out", args.out, "RK", args.out.dtype);
  if (check['R'] == 0) return;
  const int64_t grid_height = args.height / size, grid_width = args.width / size;
  check.True(grid_height > 0 && grid_width > 0, "height and width", "at least one patch",
             args.height);
  check.True(args.used == 0 || args.tiles != nullptr, "tiles", "pixels", args.used);
  check.True(args.row_begin >= 0 && args.used >= 0, "row_begin", "at least 0", args.row_begin);
  check.NotNull("lut", args.lut);
  const float* lut = Stage(std::span<const float>(args.lut->front().data(), 3 * 256));
  // Tile by tile: pixels come from the host, and a tile fits the staging ring.
  const int64_t patches = grid_height * grid_width;
  const int64_t tile_bytes = int64_t{3} * args.height * args.width;
  const int64_t end = args.row_begin + check['R'];
  for (int64_t begin = args.row_begin; begin < end;) {
    const int64_t tile = begin / patches;
    const int64_t next = tile < args.used ? std::min(end, (tile + 1) * patches) : end;
    const uint8_t* pixels = nullptr;
    if (tile < args.used)
      pixels = Stage(std::span<const uint8_t>(args.tiles + tile * tile_bytes,
                                              static_cast<size_t>(tile_bytes)));
    if (failed()) return;
    const TensorView out = args.out.Rows(begin - args.row_begin, next - begin);
    Check(LaunchPatchify(TypeOf(args.out.dtype),
                         {.tiles = pixels,
                          .lut = lut,
                          .out = out.data,
                          .out_stride = out.stride[0],
                          .row_begin = begin,
                          .row_end = next,
                          .first_tile = static_cast<int32_t>(tile),
                          .used = args.used,
                          .height = args.height,
                          .width = args.width,
                          .patch_size = args.patch_size},
                         stream()));
    begin = next;
  }
}

}  // namespace tessera::cuda
