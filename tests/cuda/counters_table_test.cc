// What every kernel moves and multiplies at the shapes of Llama-3.2-11B-Vision (and attention also
// at those of Llama-3.2-1B), against the least that the problem needs: held in counters.json. No
// figure may get worse; TESSERA_RECORD_COUNTERS=1 writes the file.
#include "tests/cuda/counters_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/sample_plan.h"
#include "tests/cuda/attention_support.h"

namespace tessera::cuda_test {

using cuda::RowActivation;

namespace {

constexpr HeadShape k11B{.heads = 4, .kv_heads = 1, .head_dim = 128};
constexpr HeadShape k1B{.heads = 4, .kv_heads = 1, .head_dim = 64};
constexpr HeadShape kVision{.heads = 1, .kv_heads = 1, .head_dim = 80};
constexpr int kTileKeys = 1601;

// ---- Attention

Least LeastSelf(const HeadShape& shape, int cached, int rows) {
  Least least;
  const int vectors = rows * shape.group();
  for (int begin = 0; begin < vectors; begin += 128) {
    const int end = std::min(begin + 128, vectors);
    const int keys = cached + (end - 1) / shape.group() + 1;
    least.bytes += 4.0 * shape.head_dim * (end - begin + keys);
  }
  for (int vector = 0; vector < vectors; ++vector) {
    const int keys = cached + vector / shape.group() + 1;
    least.flops += 4.0 * shape.head_dim * keys;
  }
  return least;
}

Least LeastDense(const HeadShape& shape, double rows, double keys) {
  const double vectors = rows * shape.group();
  return {.bytes = 4.0 * shape.head_dim * (vectors + keys * std::ceil(vectors / 128)),
          .flops = 4.0 * shape.head_dim * vectors * keys};
}

}  // namespace

void CountersTable::Attention() {
  const auto self = [](const HeadShape& shape, int cached, int rows) {
    return std::vector<Part>{
        {1, [=] {
           RunSelf({.shape = shape, .sequences = {{.cached = cached, .rows = rows}}}, "self");
         }}};
  };
  const auto cross = [](int rows) {
    return std::vector<Part>{{1, [=] {
                                RunCross({.shape = k11B,
                                          .tile_keys = kTileKeys,
                                          .rows = std::vector<std::vector<int>>(
                                              static_cast<size_t>(rows), {0, 1, 2, 3})},
                                         "cross");
                              }}};
  };
  Measure("self_prefill", "SelfPrefillKernel", LeastSelf(k11B, 0, 1024), {1.05, 1.15},
          self(k11B, 0, 1024));
  Measure("self_prefill_512", "SelfPrefillKernel", LeastSelf(k11B, 0, 512), {1.05, 1.30},
          self(k11B, 0, 512));
  Measure("self_prefill_512_1b", "SelfPrefillKernel", LeastSelf(k1B, 0, 512), {1.05, 1.30},
          self(k1B, 0, 512));
  // FLOPs of decode are only reported: four heads stand in a matrix tile of 16 rows.
  Measure("self_decode", "SelfDecodeKernel", LeastSelf(k11B, 4095, 1), {1.02}, self(k11B, 4095, 1));
  Measure("self_decode_1b", "SelfDecodeKernel", LeastSelf(k1B, 4095, 1), {1.02},
          self(k1B, 4095, 1));
  Measure("cross_prefill", "CrossPrefillKernel", LeastDense(k11B, 32, 4 * kTileKeys), {1.05, 1.15},
          cross(32));
  Measure("cross_decode", "CrossDecodeKernel", LeastDense(k11B, 1, 4 * kTileKeys), {1.02},
          cross(1));
  // 32 vectors over 104 key blocks: 7 splits. What is above 1 are their partial results, which live
  // in L2, and Q, which each of them reads; against a least that has those, decode's limit holds.
  Least shared = LeastDense(k11B, 8, 4 * kTileKeys);
  Measure("cross_decode_shared", "CrossDecodeKernel", shared, {1.10, 1.15}, cross(8));
  constexpr int kSplits = 7, kVectors = 32;
  shared.bytes += (kSplits - 1) * kVectors * 2.0 * k11B.head_dim;      // Q
  shared.bytes += kSplits * kVectors * (k11B.head_dim + 2) * 4.0 * 2;  // written and read
  Measure("cross_decode_shared_splits", "CrossDecodeKernel", shared, {1.02, 1.15}, cross(8));
  // 6,432 rows: 50 whole tiles and one of 32 rows, each over all keys.
  constexpr int kRows = 4 * 1608, kWhole = kRows / 128, kLast = kRows % 128;
  const auto vision = [](int begin, int rows) {
    return [=] {
      RunDense({.shape = kVision, .keys = kRows, .row_begin = begin, .rows = rows}, "vision");
    };
  };
  Measure("vision_attention", "VisionKernel", LeastDense(kVision, kRows, kRows), {1.05, 1.15},
          {{kWhole, vision(0, 128)}, {1, vision(kRows - kLast, kLast)}});
}

// ---- Row kernels, in bf16

void CountersTable::Rows() {
  constexpr RowType kType = kCountedType;
  constexpr int64_t kR = 4;
  const auto bytes = [](int64_t value) { return Least{.bytes = static_cast<double>(value)}; };
  for (const bool layer : {false, true}) {
    const int64_t columns = layer ? 1280 : 4096;
    const DeviceRows x = Ones(kR, columns), out(kType, kR, columns);
    const DeviceArray<float> weight(Floats(static_cast<size_t>(columns), 1));
    Measure(layer ? "layer_norm" : "rms_norm", "NormKernel",
            bytes(columns * (kR * 4 + (layer ? 8 : 4))), {},
            {{1, [&] {
                ExpectRan(
                    cuda::LaunchNorm(layer ? cuda::NormKind::kLayer : cuda::NormKind::kRms, kType,
                                     {.x = x.data(),
                                      .out = out.data(),
                                      .weight = weight.get(),
                                      .bias = layer ? weight.get() : nullptr,
                                      .x_stride = columns,
                                      .out_stride = columns,
                                      .rows = kR,
                                      .columns = static_cast<int32_t>(columns),
                                      .eps = 1e-5f},
                                     TestStream()),
                    "norm");
              }}});
  }
  {
    const int64_t columns = 14336;
    const DeviceRows x = Ones(kR, 2 * columns), out(kType, kR, columns);
    Measure("gated_silu", "GatedKernel", bytes(kR * columns * 6), {1.01},
            {{1, [&] {
                ExpectRan(cuda::LaunchGatedActivation(RowActivation::kSilu, kType,
                                                      {.gate_up = x.data(),
                                                       .out = out.data(),
                                                       .gate_up_stride = 2 * columns,
                                                       .out_stride = columns,
                                                       .rows = kR,
                                                       .columns = columns},
                                                      TestStream()),
                          "gated");
              }}});
  }
  {  // the vision tower's MLP: bias, GELU; fp32 products come in
    const int64_t columns = 5120;
    const DeviceRows y = Ones(kR, columns, RowType::kF32), out(kType, kR, columns);
    const DeviceArray<float> bias(Floats(static_cast<size_t>(columns), 1));
    Measure("epilogue_gelu", "EpilogueKernel", bytes(columns * (kR * 6 + 4)), {},
            {{1, [&] {
                ExpectRan(cuda::LaunchEpilogue(RowType::kF32, kType,
                                               {.y = y.data(),
                                                .bias = bias.get(),
                                                .out = out.data(),
                                                .y_stride = columns,
                                                .out_stride = columns,
                                                .rows = kR,
                                                .columns = columns,
                                                .activation = RowActivation::kGelu},
                                               TestStream()),
                          "epilogue");
              }}});
  }
  {
    const int64_t columns = 4096;
    const DeviceRows table = Ones(8, columns), out(kType, kR, columns);
    const DeviceArray<int32_t> ids({6, 0, 3, 5});
    Measure("embedding", "MoveRowsKernel", bytes(kR * columns * 4), {.bytes = 1.02},
            {{1, [&] {
                ExpectRan(cuda::LaunchEmbedding(kType, kType,
                                                {.table = table.data(),
                                                 .out = out.data(),
                                                 .ids = ids.get(),
                                                 .table_stride = columns,
                                                 .out_stride = columns,
                                                 .columns = columns,
                                                 .count = kR},
                                                TestStream()),
                          "embedding");
              }}});
  }
  {  // position embeddings
    const int64_t columns = 1280;
    const DeviceRows x = Ones(kR, columns);
    const DeviceArray<float> table(Floats(static_cast<size_t>(kR * columns), 1));
    Measure("add_rows", "AddRowsKernel", bytes(kR * columns * 8), {1.01},
            {{1, [&] {
                ExpectRan(cuda::LaunchAddRows(kType,
                                              {.table = table.get(),
                                               .x = x.data(),
                                               .table_stride = columns,
                                               .x_stride = columns,
                                               .table_rows = kR,
                                               .count = kR,
                                               .columns = columns},
                                              TestStream()),
                          "add rows");
              }}});
  }
  {  // two rows of 40 patches of a tile of 560 x 560; the table of 768 numbers a block not counted.
     // All pixels are alike: how lanes meet in the table is the picture's business
    const DeviceArray<uint8_t> tile(std::vector<uint8_t>(size_t{3} * 560 * 560, 9));
    const DeviceArray<float> lut(Floats(768, 1));
    const DeviceRows out(kType, 80, 588);
    Measure("patchify", "PatchifyKernel", bytes(80 * 588 * 3), {},
            {{1, [&] {
                ExpectRan(cuda::LaunchPatchify(kType,
                                               {.tiles = tile.get(),
                                                .lut = lut.get(),
                                                .out = out.data(),
                                                .out_stride = 588,
                                                .row_begin = 0,
                                                .row_end = 80,
                                                .used = 1,
                                                .height = 560,
                                                .width = 560,
                                                .patch_size = 14},
                                               TestStream()),
                          "patchify");
              }}});
  }
  {  // 32 heads rotate in place, 8 heads of K do and go into the cache with V
    const int64_t dim = 128, kv = 8 * dim, wide = 32 * dim, rows = 16;
    const DeviceRows q = Ones(rows, wide), k = Ones(rows, kv), v = Ones(rows, kv);
    const DeviceArray<uint16_t> k_pool(std::vector<uint16_t>(static_cast<size_t>(rows * kv), 0)),
        v_pool(std::vector<uint16_t>(static_cast<size_t>(rows * kv), 0));
    const DeviceArray<float> angles(Floats(static_cast<size_t>(rows * dim / 2), 1));
    std::vector<int32_t> positions;
    std::vector<int64_t> slots;
    for (int r = 0; r < rows; ++r) positions.push_back(r), slots.push_back(r);
    const DeviceArray<int32_t> positions_device(positions);
    const DeviceArray<int64_t> slots_device(slots);
    Measure("rope_write_kv", "RopeVectorKernel",
            bytes(rows * (2 * 2 * wide + 3 * 2 * kv + 2 * 2 * kv + 4 * dim)), {},
            {{1, [&] {
                ExpectRan(cuda::LaunchRopeWriteKv(cuda::AttentionType::kBf16,
                                                  {.q = q.data(),
                                                   .k = k.data(),
                                                   .v = v.data(),
                                                   .k_cache = k_pool.get(),
                                                   .v_cache = v_pool.get(),
                                                   .cos_table = angles.get(),
                                                   .sin_table = angles.get(),
                                                   .positions = positions_device.get(),
                                                   .slots = slots_device.get(),
                                                   .q_stride = wide,
                                                   .k_stride = kv,
                                                   .v_stride = kv,
                                                   .rows = rows,
                                                   .heads = 32,
                                                   .kv_heads = 8,
                                                   .head_dim = dim,
                                                   .half = dim / 2,
                                                   .page_tokens = 16,
                                                   .blocks_per_page = 1,
                                                   .vectors = true},
                                                  TestStream()),
                          "rope");
              }}});
  }
  {  // the whole vocabulary, greedy
    const int32_t vocab = 128256;
    const DeviceRows logits(RowType::kF32, 1, vocab, 0, 0, Random(vocab, 3));
    const cuda::SamplePlan plan = cuda::PlanSample(std::vector<SampleRow>{SampleRow{}});
    const DeviceArray<cuda::SampleTask> tasks(plan.tasks);
    const DeviceBytes keys(static_cast<size_t>(cuda::SampleKeysStride(vocab)) * sizeof(uint32_t));
    const DeviceArray<cuda::SampleOutput> outputs(std::vector<cuda::SampleOutput>(1));
    Measure("sample_greedy", "SampleKernel", bytes(4 * vocab), {},
            {{1, [&] {
                ExpectRan(cuda::LaunchSample({.logits = static_cast<const float*>(logits.data()),
                                              .logits_stride = vocab,
                                              .tasks = tasks.get(),
                                              .keys = static_cast<uint32_t*>(keys.data()),
                                              .outputs = outputs.get(),
                                              .rows = 1,
                                              .vocab = vocab},
                                             TestStream()),
                          "sample");
              }}});
  }
}

TEST_F(CountersTable, NothingIsWorseThanRecorded) {
  fmt::print("{:24} {:18} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}\n", "case", "kernel", "MB", "bytes/",
             "FLOPs/", "loads", "stores", "waves/");
  Attention();
  Rows();
  Products();
  IntProducts();
  if (!counted()) GTEST_SKIP() << "counters are the emulator's";
  Compare();
}

}  // namespace tessera::cuda_test
