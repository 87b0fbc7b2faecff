// CudaBackend's row ops, Pack and the plugin's symbol, from the outside.
#include <fmt/format.h>

#include <array>
#include <numeric>

#include "kernels/cuda/plugin.h"
#include "kernels/sampling.h"
#include "tests/cuda/host_ops.h"

extern "C" int TesseraCreateBackend(int, const tessera::BackendOptions*, tessera::Backend**,
                                    tessera::Error*);

namespace tessera::cuda_test {
namespace {

class RowOps : public HostOps {};
INSTANTIATE_TEST_SUITE_P(Types, RowOps, ::testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(Name(info.param)); });
using RowOpsDeathTest = RowOps;
INSTANTIATE_TEST_SUITE_P(Types, RowOpsDeathTest, ::testing::Values(DType::kBF16),
                         [](const auto& info) { return std::string(Name(info.param)); });

const float* Data(const TensorView& view) { return static_cast<const float*>(view.data); }

TEST_P(RowOps, Norms) {
  for (int64_t gap : {0, 3}) {
    Compare("RmsNorm", 1.01, 0, [&](Side& s) {
      const TensorView x = s.Upload(3, 40, 1, gap), out = s.Upload(3, 40, 2, gap + 1);
      s.backend().RmsNorm({.x = x, .weight = Data(s.Fp32(1, 40, 3)), .eps = 0.1f, .out = out});
      return s.Get(out);
    });
    for (bool bias : {false, true})
      Compare("LayerNorm", 1.01, 0.01, [&](Side& s) {
        const TensorView x = s.Upload(3, 40, 4, gap), out = s.Upload(3, 40, 5, gap + 1);
        s.backend().LayerNorm({.x = x,
                               .weight = Data(s.Fp32(1, 40, 6)),
                               .bias = bias ? Data(s.Fp32(1, 40, 7)) : nullptr,
                               .eps = 0.1f,
                               .out = out});
        return s.Get(out);
      });
    Compare("HeadRmsNorm", 1.01, 0, [&](Side& s) {
      const TensorView x = s.Upload(3, 48, 8, gap);
      s.backend().HeadRmsNorm(x, 4, Data(s.Fp32(1, 12, 9)), 0.1f);
      return s.Get(x);
    });
  }
}

TEST_P(RowOps, GatedActivation) {
  for (Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kRelu})
    Compare("GatedActivation", 1.01, 1e-3, [&](Side& s) {
      const TensorView x = s.Upload(4, 44, 1, 2), out = s.Upload(4, 22, 2, 5);
      s.backend().GatedActivation({.gate_up = x, .activation = activation, .out = out});
      return s.Get(out);
    });
}

TEST_P(RowOps, TablesAndMoves) {
  for (WeightFormat format : {WeightFormat::kAuto, WeightFormat::kF32})
    Compare("Embedding", 1.01, 0, [&](Side& s) {
      HostFloats table(9 * 13);
      std::iota(table.begin(), table.end(), 1.0f);
      const SourceMatrix source{
          .data = table.data(), .dtype = DType::kF32, .rows = 9, .columns = 13};
      const auto packed =
          s.backend().Pack({&source, 1}, {.format = format, .role = PackSpec::Role::kTable});
      EXPECT_TRUE(packed);
      const TensorView out = s.Upload(4, 13, 2, 3);
      const std::vector<int32_t> ids = {8, 0, 0, 5};
      s.backend().Embedding({.ids = ids, .table = packed->get(), .out = out});
      s.backend().Embedding({.ids = {}, .table = packed->get(), .out = out.Rows(0, 0)});
      return s.Get(out);
    });
  Compare("moves", 0, 0, [&](Side& s) {
    const TensorView x = s.Upload(9, 12, 1, 2), few = s.Upload(3, 12, 2, 1),
                     back = s.Upload(9, 12, 3, 4);
    const std::vector<int32_t> rows = {8, 0, 5}, targets = {0, 7, 8};
    s.backend().GatherRows({.x = x, .rows = rows, .out = few});
    s.backend().ScatterRows({.x = few, .rows = targets, .out = back});
    s.backend().GatherRows({.x = x, .rows = {}, .out = few.Rows(0, 0)});
    return s.Get(back);
  });
  for (bool rows : {false, true})
    Compare("AddRows", 2.02, 4.0, [&](Side& s) {
      const TensorView x = s.Upload(5, 12, 1, 2);
      const std::vector<int32_t> picks = {2, 2, 0, 1, 0};
      if (rows) {
        s.backend().AddRows({.table = s.Fp32(3, 12, 2), .rows = picks, .scale = 0.5f, .x = x});
      } else {
        s.backend().AddRows({.table = s.Fp32(3, 12, 2), .scale = 0.5f, .x = x});
        s.backend().AddRows({.table = s.Fp32(1, 12, 3), .x = x.Rows(1, 2)});
        s.backend().AddRows({.table = s.Fp32(1, 12, 3), .x = x.Rows(0, 0)});
      }
      return s.Get(x);
    });
}

TEST_P(RowOps, PatchesOfAnyRows) {
  std::array<std::array<float, 256>, 3> lut;
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v)
      lut[c][v] = static_cast<float>(v) / 64.0f - static_cast<float>(c);
  std::vector<uint8_t> tiles(2 * 3 * 9 * 14);  // exact: a third tile would be read past the end
  for (size_t i = 0; i < tiles.size(); ++i) tiles[i] = static_cast<uint8_t>(i * 37);
  for (const auto& [begin, rows, used] : {std::array{0, 12, 2},
                                          {0, 6, 1},
                                          {5, 2, 2},
                                          {7, 11, 2},
                                          {11, 1, 2},
                                          {6, 6, 2},
                                          {0, 7, 0},
                                          {3, 0, 2},
                                          {2, 9, 1}})
    Compare(fmt::format("Patchify {}+{} of {}", begin, rows, used), 1.01, 0, [&](Side& s) {
      const TensorView out = s.Upload(rows, 3 * 4 * 4, 1, 2);
      s.backend().Patchify({.tiles = used == 0 ? nullptr : tiles.data(),
                            .used = used,
                            .height = 9,
                            .width = 14,
                            .patch_size = 4,
                            .lut = &lut,
                            .row_begin = begin,
                            .out = out});
      return s.Get(out);
    });
}

TEST_P(RowOps, Samples) {
  constexpr int kVocab = 100;
  Side s(backend(), GetParam());
  HostFloats logits(3 * kVocab);
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0, 2);
  for (float& value : logits) value = normal(random);
  const std::vector<TokenCount> counts = {{.id = 7, .in_prompt = 1, .in_output = 2}};
  const std::vector<LogitBias> bias = {{.id = 9, .bias = 3}};
  const std::vector<int32_t> banned = {11, 12};
  std::vector<SampleRow> rows = {
      {.logits_row = 2, .logprobs = 3},
      {.logits_row = 0, .temperature = 0.7f, .top_k = 20, .top_p = 0.9f, .seed = 5, .position = 3},
      {.logits_row = 2,
       .temperature = 1.0f,
       .repetition_penalty = 1.5f,
       .seed = 6,
       .logprobs = 0,
       .counts = counts,
       .bias = bias,
       .banned = banned}};
  std::vector<SampleResult> results(rows.size());
  backend().Sample({.logits = s.Fp32(logits, 3), .rows = rows, .results = results});
  std::vector<SampleCandidate> scratch(kVocab);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row =
        std::span(logits).subspan(static_cast<size_t>(rows[i].logits_row) * kVocab, kVocab);
    const SampleResult want = SampleOne(row, rows[i], scratch);
    EXPECT_EQ(results[i].id, want.id) << i;
    EXPECT_EQ(results[i].alternatives, want.alternatives) << i;
    if (rows[i].logprobs >= 0) {
      EXPECT_NEAR(results[i].logprob, want.logprob, 1e-5) << i;
    }
  }
  backend().Sample({.logits = s.Fp32(logits, 3), .rows = {}, .results = {}});
}

// Programmer errors end the process with the op's and the argument's name.
TEST_P(RowOpsDeathTest, RefusesShapesThatDoNotFit) {
  Side s(backend(), GetParam());
  const TensorView x = s.Upload(2, 12, 1), out = s.Upload(2, 12, 2);
  const float* weight = Data(s.Fp32(1, 12, 3));
  EXPECT_DEATH(backend().HeadRmsNorm(x, 5, weight, 1e-5f), "HeadRmsNorm.*heads");
  EXPECT_DEATH(backend().HeadRmsNorm(x, 0, weight, 1e-5f), "HeadRmsNorm.*heads");
  EXPECT_DEATH(backend().GatedActivation({.gate_up = x, .out = out}), "GatedActivation.*gate_up");
  const std::vector<int32_t> beyond = {2}, below = {-1};
  EXPECT_DEATH(backend().GatherRows({.x = x, .rows = beyond, .out = out.Rows(0, 1)}),
               "GatherRows.*rows");
  EXPECT_DEATH(backend().ScatterRows({.x = x.Rows(0, 1), .rows = below, .out = out}),
               "ScatterRows.*rows");
  std::array<std::array<float, 256>, 3> lut{};
  const std::vector<uint8_t> tile(3 * 4 * 4);
  PatchifyArgs args{.tiles = tile.data(),
                    .used = 1,
                    .height = 4,
                    .width = 4,
                    .patch_size = 2,
                    .lut = &lut,
                    .out = out};
  const auto patchify = [&](auto change) {
    PatchifyArgs bad = args;
    change(bad);
    backend().Patchify(bad);
  };
  EXPECT_DEATH(patchify([](PatchifyArgs& a) { a.row_begin = -1; }), "Patchify.*row_begin");
  EXPECT_DEATH(patchify([](PatchifyArgs& a) { a.used = -1; }), "Patchify.*row_begin");
  EXPECT_DEATH(patchify([](PatchifyArgs& a) { a.tiles = nullptr; }), "Patchify.*tiles");
  EXPECT_DEATH(patchify([](PatchifyArgs& a) { a.height = 1; }), "Patchify.*height");
  EXPECT_DEATH(patchify([](PatchifyArgs& a) { a.width = 1; }), "Patchify.*height");
  EXPECT_DEATH(patchify([](PatchifyArgs& a) { a.patch_size = 0; }), "Patchify.*patch_size");
  std::vector<SampleResult> results(1);
  const TensorView logits = s.Fp32(2, 8, 4);
  // The largest vocabulary gets as far as the scratch memory that was not reserved for it
  for (const auto& [vocab, argument] :
       {std::pair{int64_t{4194304}, "scratch"}, {4194305, "logits"}}) {
    const std::vector<SampleRow> rows = {{.logits_row = 0}};
    const TensorView wide = TensorView::Of(logits.data, DType::kF32, {1, vocab});
    EXPECT_DEATH(backend().Sample({.logits = wide, .rows = rows, .results = results}),
                 fmt::format("Sample.*{}", argument));
  }
  for (int32_t row : {-1, 2}) {
    const std::vector<SampleRow> rows = {{.logits_row = row}};
    EXPECT_DEATH(backend().Sample({.logits = logits, .rows = rows, .results = results}),
                 "Sample.*rows");
  }
}

// Every piece of scratch memory begins at a multiple of 256 bytes, and the end is the end.
TEST_P(RowOpsDeathTest, ScratchEnds) {
  auto& cuda = static_cast<cuda::CudaBackend&>(backend());
  cuda.ResetScratch();
  (void)cuda.Scratch<char>("op", 1);
  constexpr size_t kMost = size_t{1} << 16;  // of pieces of 256 bytes; less was reserved
  EXPECT_DEATH(for (size_t i = 0; i < kMost; ++i)(void) cuda.Scratch<char>("op", 1), "op: scratch");
  cuda.ResetScratch();
}

TEST_P(RowOpsDeathTest, PackRefusesSourcesThatDoNotFit) {
  const HostFloats values(12);
  const auto pack = [&](std::vector<SourceMatrix> sources, PackSpec spec = {}) {
    (void)backend().Pack(sources, spec);
  };
  const SourceMatrix good{.data = values.data(), .dtype = DType::kF32, .rows = 3, .columns = 4};
  SourceMatrix wide = good, negative = good, null = good;
  wide.columns = 5, negative.rows = -1, null.data = nullptr;
  EXPECT_DEATH(pack({}), "Pack: sources");
  EXPECT_DEATH(pack({good, wide}), "Pack: sources");
  EXPECT_DEATH(pack({good, negative}), "Pack: sources");
  EXPECT_DEATH(pack({null}), "Pack: source");
  EXPECT_DEATH(pack({good}, {.padded_columns = 3}), "padded_columns");
  SourceMatrix empty = null;
  empty.rows = 0;
  pack({good, empty});  // fused sources of which one has no rows
  EXPECT_DEATH(pack({empty}), "N > 0");
}

TEST(Plugin, RefusesAnotherVersionAndGivesABackend) {
  BeginDevice();
  const BackendOptions options{.device = DeviceName()};
  Backend* backend = nullptr;
  Error error;
  EXPECT_EQ(TesseraCreateBackend(cuda::kPluginVersion + 1, &options, &backend, &error),
            cuda::kPluginVersion);
  EXPECT_EQ(backend, nullptr);
  ASSERT_EQ(TesseraCreateBackend(cuda::kPluginVersion, &options, &backend, &error), 0);
  ASSERT_NE(backend, nullptr);
  EXPECT_EQ(backend->name(), DeviceName());
  delete backend;
  ExpectDeviceAsAtBegin();
}

}  // namespace
}  // namespace tessera::cuda_test
