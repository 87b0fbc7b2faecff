#include "tools/bench_gpu/cases.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sample_plan.h"

namespace tessera::bench {
namespace {

using cuda::RowActivation;
using cuda::RowType;
using cuda::Stream;

constexpr RowType kType = RowType::kBf16;
constexpr int64_t kElement = 2;

struct Product {
  const char* name;
  int64_t n, k;
  std::vector<int> rows;
};

void AddProducts(const Shapes& s, const cuda::DeviceProps& props, std::vector<Case>& cases) {
  const std::vector<int> vision = {s.tiles * s.tile_rows};
  const int qkv = (s.heads + 2 * s.kv_heads) * s.head_dim;
  const Product products[] = {
      {"qkv", qkv, s.hidden, s.product_rows},
      {"attention out", s.hidden, int64_t{s.heads} * s.head_dim, s.product_rows},
      {"gate and up", 2 * s.mlp, s.hidden, s.product_rows},
      {"down", s.hidden, s.mlp, s.product_rows},
      {"head", s.vocab, s.hidden, s.batches},
      {"vision qkv", 3 * s.vision_hidden, s.vision_hidden, vision},
      {"vision fc1", s.vision_mlp, s.vision_hidden, vision},
      {"vision fc2", s.vision_hidden, s.vision_mlp, vision}};
  for (const Product& product : products) {
    for (const int64_t rows : product.rows) {
      const int64_t n = product.n, k = product.k;
      const std::string name = fmt::format("{}, {} x {} x {}", product.name, rows, n, k);
      const auto bytes = static_cast<double>((rows * k + n * k + rows * n) * kElement);
      const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(n * k);
      cases.push_back({name, "cuBLASLt", [=](Memory& memory) -> Work {
                         auto made = cuda::MakeGemm(props, cuda::DeviceAllocator());
                         if (!made)
                           return {.run = [error = made.error().Describe()](Stream) {
                             return cuda::LaunchStatus{1, error};
                           }};
                         const cuda::GemmArgs args{.rows = rows,
                                                   .n = n,
                                                   .k = k,
                                                   .x = memory.Numbers(rows * k * kElement),
                                                   .x_stride = k,
                                                   .w = memory.Numbers(n * k * kElement),
                                                   .w_stride = k,
                                                   .out = memory.Zeros(rows * n * kElement),
                                                   .out_stride = n};
                         const std::shared_ptr<cuda::Gemm> gemm = std::move(*made);
                         return {.bytes = bytes, .flops = flops, .run = [=](Stream stream) {
                                   return gemm->Run(args, stream);
                                 }};
                       }});
      cases.push_back({name, "MatMulKernel", [=](Memory& memory) -> Work {
                         const cuda::MatMulParams p{.x = memory.Numbers(rows * k * kElement),
                                                    .w = memory.Numbers(n * k * kElement),
                                                    .out = memory.Zeros(rows * n * kElement),
                                                    .x_stride = k,
                                                    .out_stride = n,
                                                    .rows = rows,
                                                    .n = static_cast<int32_t>(n),
                                                    .k = static_cast<int32_t>(k),
                                                    .k_stored = static_cast<int32_t>(k)};
                         return {.bytes = bytes, .flops = flops, .run = [p](Stream stream) {
                                   return cuda::LaunchMatMulFixed(kType, kType, p, stream);
                                 }};
                       }});
    }
  }
}

Work NormWork(cuda::NormKind kind, int64_t rows, int64_t columns, Memory& memory) {
  const cuda::NormParams p{
      .x = memory.Numbers(rows * columns * kElement),
      .out = memory.Zeros(rows * columns * kElement),
      .weight = memory.Floats(columns),
      .bias = kind == cuda::NormKind::kLayer ? memory.Floats(columns) : nullptr,
      .x_stride = columns,
      .out_stride = columns,
      .rows = rows,
      .columns = static_cast<int32_t>(columns),
      .eps = 1e-5f};
  return {.bytes = static_cast<double>(2 * rows * columns * kElement),
          .run = [=](Stream stream) { return cuda::LaunchNorm(kind, kType, p, stream); }};
}

Work GatedWork(int64_t rows, int64_t columns, Memory& memory) {
  const cuda::GatedParams p{.gate_up = memory.Numbers(rows * 2 * columns * kElement),
                            .out = memory.Zeros(rows * columns * kElement),
                            .gate_up_stride = 2 * columns,
                            .out_stride = columns,
                            .rows = rows,
                            .columns = columns};
  return {.bytes = static_cast<double>(3 * rows * columns * kElement), .run = [p](Stream stream) {
            return cuda::LaunchGatedActivation(RowActivation::kSilu, kType, p, stream);
          }};
}

Work EpilogueWork(int64_t rows, int64_t columns, Memory& memory) {
  const cuda::EpilogueParams p{.y = memory.Numbers(rows * columns * 4),
                               .bias = memory.Floats(columns),
                               .out = memory.Zeros(rows * columns * kElement),
                               .y_stride = columns,
                               .out_stride = columns,
                               .rows = rows,
                               .columns = columns,
                               .activation = RowActivation::kGelu};
  return {.bytes = static_cast<double>(rows * columns * (4 + kElement)), .run = [p](Stream stream) {
            return cuda::LaunchEpilogue(RowType::kF32, kType, p, stream);
          }};
}

Work EmbeddingWork(int64_t rows, int64_t columns, int vocab, Memory& memory) {
  std::vector<int32_t> ids;
  for (int64_t row = 0; row < rows; ++row) ids.push_back(static_cast<int32_t>(row * 7919 % vocab));
  const cuda::EmbeddingParams p{.table = memory.Numbers(vocab * columns * kElement),
                                .out = memory.Zeros(rows * columns * kElement),
                                .ids = memory.Upload(ids),
                                .table_stride = columns,
                                .out_stride = columns,
                                .columns = columns,
                                .count = rows};
  return {.bytes = static_cast<double>(2 * rows * columns * kElement),
          .run = [p](Stream stream) { return cuda::LaunchEmbedding(kType, kType, p, stream); }};
}

Work AddRowsWork(int64_t rows, int64_t table_rows, int64_t columns, Memory& memory) {
  const cuda::AddRowsParams p{.table = memory.Floats(table_rows * columns),
                              .x = memory.Numbers(rows * columns * kElement),
                              .table_stride = columns,
                              .x_stride = columns,
                              .table_rows = table_rows,
                              .count = rows,
                              .columns = columns};
  return {.bytes = static_cast<double>((2 * rows * kElement + table_rows * 4) * columns),
          .run = [p](Stream stream) { return cuda::LaunchAddRows(kType, p, stream); }};
}

Work PatchifyWork(const Shapes& s, Memory& memory) {
  const int64_t side = s.image / s.patch, rows = s.tiles * side * side,
                columns = int64_t{3} * s.patch * s.patch, pixels = int64_t{3} * s.image * s.image;
  const cuda::PatchifyParams p{.tiles = memory.Numbers<uint8_t>(s.tiles * pixels),
                               .lut = memory.Floats(768),
                               .out = memory.Zeros(rows * columns * kElement),
                               .out_stride = columns,
                               .row_end = rows,
                               .used = s.tiles,
                               .height = s.image,
                               .width = s.image,
                               .patch_size = s.patch};
  return {.bytes = static_cast<double>(s.tiles * pixels + rows * columns * kElement),
          .run = [p](Stream stream) { return cuda::LaunchPatchify(kType, p, stream); }};
}

Work RopeWork(const Shapes& s, Memory& memory) {
  const int64_t rows = s.rows, wide = int64_t{s.heads} * s.head_dim,
                kv = int64_t{s.kv_heads} * s.head_dim, half = s.head_dim / 2;
  std::vector<int32_t> positions;
  std::vector<int64_t> slots;
  for (int64_t row = 0; row < rows; ++row)
    positions.push_back(static_cast<int32_t>(row)), slots.push_back(rows - 1 - row);
  const int64_t blocks = (rows + cuda::kPageBlock - 1) / cuda::kPageBlock;
  const cuda::RopeParams p{.q = memory.Numbers(rows * wide * kElement),
                           .k = memory.Numbers(rows * kv * kElement),
                           .v = memory.Numbers(rows * kv * kElement),
                           .k_cache = memory.Zeros(blocks * cuda::kPageBlock * kv * kElement),
                           .v_cache = memory.Zeros(blocks * cuda::kPageBlock * kv * kElement),
                           .cos_table = memory.Floats(rows * half),
                           .sin_table = memory.Floats(rows * half),
                           .positions = memory.Upload(positions),
                           .slots = memory.Upload(slots),
                           .q_stride = wide,
                           .k_stride = kv,
                           .v_stride = kv,
                           .rows = static_cast<int32_t>(rows),
                           .heads = s.heads,
                           .kv_heads = s.kv_heads,
                           .head_dim = s.head_dim,
                           .half = static_cast<int32_t>(half),
                           .page_tokens = cuda::kPageBlock,
                           .blocks_per_page = 1,
                           .vectors = true};
  // Q in and out, K in, out and into the cache, V in and into the cache, angles
  return {.bytes = static_cast<double>(rows * ((2 * wide + 5 * kv) * kElement + 8 * half)),
          .run = [p](Stream stream) {
            return cuda::LaunchRopeWriteKv(cuda::AttentionType::kBf16, p, stream);
          }};
}

Work SampleWork(int rows, int vocab, Memory& memory) {
  const cuda::SamplePlan plan =
      cuda::PlanSample(std::vector<SampleRow>(static_cast<size_t>(rows), SampleRow{}));
  std::vector<cuda::SampleTask> tasks = plan.tasks;
  for (int row = 0; row < rows; ++row) tasks[static_cast<size_t>(row)].logits_row = row;
  const cuda::SampleParams p{
      .logits = memory.Floats(int64_t{rows} * vocab),
      .logits_stride = vocab,
      .tasks = memory.Upload(tasks),
      .keys = memory.Zeros<uint32_t>(cuda::SampleBlocks(rows) * cuda::SampleKeysStride(vocab) * 4),
      .outputs =
          memory.Zeros<cuda::SampleOutput>(static_cast<int64_t>(sizeof(cuda::SampleOutput)) * rows),
      .rows = rows,
      .vocab = vocab};
  return {.bytes = 4.0 * rows * vocab,
          .run = [p](Stream stream) { return cuda::LaunchSample(p, stream); }};
}

}  // namespace

Shapes Shapes::Tiny() {
  return {.hidden = 64,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 32,
          .mlp = 96,
          .vocab = 160,
          .vision_hidden = 80,
          .vision_heads = 1,
          .vision_mlp = 96,
          .tiles = 2,
          .tile_keys = 33,
          .tile_rows = 40,
          .image = 28,
          .product_rows = {1, 9},
          .prefill_rows = {48},
          .batches = {1, 3},
          .context = 1100,
          .rows = 5};
}

std::vector<Case> Cases(const Shapes& s, const cuda::DeviceProps& props) {
  std::vector<Case> cases;
  AddAttentionCases(s, cases);
  AddProducts(s, props, cases);
  const int vision_rows = s.tiles * s.tile_rows;
  const auto add = [&](std::string name, const char* kernel, std::function<Work(Memory&)> make) {
    cases.push_back({std::move(name), kernel, std::move(make)});
  };
  add(fmt::format("RMSNorm, {} x {}", s.rows, s.hidden), "NormKernel",
      [=](Memory& m) { return NormWork(cuda::NormKind::kRms, s.rows, s.hidden, m); });
  add(fmt::format("LayerNorm, {} x {}", vision_rows, s.vision_hidden), "NormKernel",
      [=](Memory& m) { return NormWork(cuda::NormKind::kLayer, vision_rows, s.vision_hidden, m); });
  add(fmt::format("SwiGLU, {} x {}", s.rows, s.mlp), "GatedKernel",
      [=](Memory& m) { return GatedWork(s.rows, s.mlp, m); });
  add(fmt::format("bias and GELU, {} x {}", vision_rows, s.vision_mlp), "EpilogueKernel",
      [=](Memory& m) { return EpilogueWork(vision_rows, s.vision_mlp, m); });
  add(fmt::format("embedding, {} x {}", s.rows, s.hidden), "MoveRowsKernel",
      [=](Memory& m) { return EmbeddingWork(s.rows, s.hidden, s.vocab, m); });
  add(fmt::format("position embedding, {} x {}", vision_rows, s.vision_hidden), "AddRowsKernel",
      [=](Memory& m) { return AddRowsWork(vision_rows, s.tile_rows, s.vision_hidden, m); });
  add(fmt::format("patchify, {} tiles of {}", s.tiles, s.image), "PatchifyKernel",
      [=](Memory& m) { return PatchifyWork(s, m); });
  add(fmt::format("RoPE and cache write, {} rows", s.rows), "RopeVectorKernel",
      [=](Memory& m) { return RopeWork(s, m); });
  for (const int batch : s.batches)
    add(fmt::format("sample greedily, {} x {}", batch, s.vocab), "SampleKernel",
        [=](Memory& m) { return SampleWork(batch, s.vocab, m); });
  return cases;
}

}  // namespace tessera::bench
