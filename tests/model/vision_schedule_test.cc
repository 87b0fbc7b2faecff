// The cutting of a picture's work: every row of every phase once and in order, units of about equal
// work.
#include "model/vision_schedule.h"

#include <gtest/gtest.h>

#include <map>

#include "model/config.h"

namespace tessera::test {
namespace {

// Llama 3.2 Vision 11B: what the classes' defaults say, with the release's tile of 560 pixels.
ModelConfig Llama11B() {
  auto config = ModelConfig::FromHf(
      R"({"architectures":["MllamaForConditionalGeneration"],"text_config":{},"vision_config":{"image_size":560}})");
  EXPECT_TRUE(config) << config.error().Describe();
  return *std::move(config);
}

void CheckWhole(const VisionSchedule& schedule, const VisionConfig& v, int cross_layers) {
  std::map<std::pair<VisionStage, int>, int64_t> done;  // phase -> rows so far
  double flops = 0;
  for (int unit = 0; unit < schedule.units(); ++unit) {
    for (const VisionStep& step : schedule.Steps(unit, unit + 1)) {
      int64_t& rows = done[{step.stage, step.layer}];
      EXPECT_EQ(step.row_begin, rows);
      EXPECT_GT(step.row_end, step.row_begin);
      rows = step.row_end;
      flops += step.flops;
      // K and V of all rows are there before the first row attends
      if (step.stage == VisionStage::kAttention) {
        EXPECT_EQ((done[{VisionStage::kQkv, step.layer}]),
                  VisionRows(v, schedule.run_tiles(), step.layer >= v.layers));
      }
      EXPECT_EQ(unit >= schedule.cross_kv_begin(), step.stage == VisionStage::kCrossKv);
    }
  }
  EXPECT_DOUBLE_EQ(flops, schedule.flops());
  const int layers = v.layers + v.global_layers;
  for (int layer = 0; layer < layers; ++layer) {
    EXPECT_EQ((done[{VisionStage::kAttention, layer}]),
              layer == layers - 1 ? int64_t{schedule.kept_tiles()} * v.tokens()
                                  : VisionRows(v, schedule.run_tiles(), layer >= v.layers));
  }
  EXPECT_EQ((done[{VisionStage::kProject, 0}]), int64_t{schedule.kept_tiles()} * v.tokens());
  for (int layer = 0; layer < cross_layers; ++layer) {
    EXPECT_EQ((done[{VisionStage::kCrossKv, layer}]), int64_t{schedule.kept_tiles()} * v.tokens());
  }
}

TEST(VisionSchedule, CoversEveryRowOnce) {
  const ModelConfig config = Llama11B();
  for (int kept = 1; kept <= 4; ++kept) {
    const VisionSchedule schedule(*config.vision, config.text, kept, 4, 512, 4e9);
    CheckWhole(schedule, *config.vision, 8);
    // 18.6 TFLOP in units of at most 4 GFLOP (a block of 16 rows is not cut)
    EXPECT_GT(schedule.flops(), 8e12);
    EXPECT_LT(schedule.flops(), 2e13);
    EXPECT_LT(schedule.flops() / schedule.units(), 4e9);
    EXPECT_GT(schedule.flops() / schedule.units(), 2e9);
  }
}

TEST(VisionSchedule, PaddingTilesMayBeLeftOut) {
  const ModelConfig config = Llama11B();
  const VisionSchedule whole(*config.vision, config.text, 1, 4, 512, 4e9);
  for (int tiles = 1; tiles <= 4; ++tiles) {
    const VisionSchedule schedule(*config.vision, config.text, tiles, tiles, 512, 4e9);
    CheckWhole(schedule, *config.vision, 8);
    if (tiles == 1) {  // attention grows with the square
      EXPECT_LT(schedule.flops(), 0.25 * whole.flops());
    }
  }
}

TEST(VisionSchedule, SmallModelsHaveFewUnits) {
  ModelConfig config = Llama11B();
  config.vision->hidden = 192;
  config.vision->heads = 6;
  config.vision->head_dim = 32;
  config.vision->layers = 4;
  config.vision->global_layers = 2;
  config.vision->tile_size = 96;
  config.vision->patch_size = 12;
  config.vision->intermediate = 768;
  config.vision->intermediate_layers = {1, 3};
  config.text.hidden = 256;
  config.text.cross_layers = {1, 3, 5};
  for (const int global : {2, 0}) {
    config.vision->global_layers = global;
    const VisionSchedule schedule(*config.vision, config.text, 2, 4, 288, 4e9);
    CheckWhole(schedule, *config.vision, 3);
    EXPECT_LE(schedule.units(), 3);
    const VisionSchedule fine(*config.vision, config.text, 2, 4, 288, 1e6);
    CheckWhole(fine, *config.vision, 3);
    EXPECT_GT(fine.units(), 300);
  }
}

}  // namespace
}  // namespace tessera::test
