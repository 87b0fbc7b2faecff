// Settings and layouts; that pixels equal Hugging Face's is golden_test.cc's to show.
#include "media/image_processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/media/test_files.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

std::unique_ptr<ImageProcessor> Make(const std::string& settings) {
  auto processor = MakeImageProcessor(Json::parse(settings));
  if (!processor) {
    ADD_FAILURE() << processor.error().Describe();
    return nullptr;
  }
  return *std::move(processor);
}

TEST(ImageProcessor, BadSettingsAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({})", "image_processor_type"},
      {R"({"image_processor_type": 3})", "image_processor_type"},
      {R"({"image_processor_type": "NoSuchProcessor"})", "image_processor_type"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": {"height": 20, "width": 21}})",
       "size"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": {"shortest_edge": 20}})",
       "size"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": {"height": 20}})", "size"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": "large"})", "size"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": -5})", "size"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": {"height": 1e9, "width": 1e9}})",
       "size.height"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": {"height": 18446744073709551615, "width": 5}})",
       "size.height"},
      {R"({"image_processor_type": "MllamaImageProcessor", "size": 100000})", "size"},
      {R"({"image_processor_type": "MllamaImageProcessor", "max_image_tiles": 0})",
       "max_image_tiles"},
      {R"({"image_processor_type": "MllamaImageProcessor", "max_image_tiles": 1000000})",
       "max_image_tiles"},
      {R"({"image_processor_type": "MllamaImageProcessor", "max_image_tiles": 2.5})",
       "max_image_tiles"},
      {R"({"image_processor_type": "MllamaImageProcessor", "max_image_tiles": true})",
       "max_image_tiles"},
      {R"({"image_processor_type": "MllamaImageProcessor", "resample": 6})", "resample"},
      {R"({"image_processor_type": "MllamaImageProcessor", "resample": -1})", "resample"},
      {R"({"image_processor_type": "MllamaImageProcessor", "resample": "bilinear"})", "resample"},
      {R"({"image_processor_type": "MllamaImageProcessor", "do_resize": false})", "do_resize"},
      {R"({"image_processor_type": "MllamaImageProcessor", "do_pad": false})", "do_pad"},
      {R"({"image_processor_type": "MllamaImageProcessor", "do_rescale": 1})", "do_rescale"},
      {R"({"image_processor_type": "MllamaImageProcessor", "rescale_factor": "1/255"})",
       "rescale_factor"},
      {R"({"image_processor_type": "MllamaImageProcessor", "rescale_factor": 1e300})",
       "rescale_factor"},
      {R"({"image_processor_type": "MllamaImageProcessor", "image_mean": [0.5, 0.5]})",
       "image_mean"},
      {R"({"image_processor_type": "MllamaImageProcessor", "image_mean": [0.5, 0.5, "x"]})",
       "image_mean"},
      {R"({"image_processor_type": "MllamaImageProcessor", "image_std": [0.5, 0, 0.5]})",
       "image_std"},
      {R"({"image_processor_type": "MllamaImageProcessor", "image_std": 1e300})", "image_std"},
      {R"({"image_processor_type": "CLIPImageProcessor", "do_center_crop": false})", "size"},
      {R"({"image_processor_type": "CLIPImageProcessor", "crop_size": {"shortest_edge": 4}})",
       "crop_size"},
      {R"({"image_processor_type": "ViTImageProcessor", "do_resize": false})", "size"},
  };
  for (const auto& [settings, field] : cases) {
    const auto processor = MakeImageProcessor(Json::parse(settings));
    ASSERT_FALSE(processor) << settings;
    EXPECT_EQ(processor.error().field, field) << settings << ": " << processor.error().Describe();
    EXPECT_FALSE(processor.error().limit.empty()) << settings;
  }
  const auto unknown =
      MakeImageProcessor(Json::parse(R"({"image_processor_type": "NoSuchProcessor"})"));
  EXPECT_EQ(unknown.error().code, ErrorCode::kUnimplemented);
  EXPECT_THAT(unknown.error().limit, HasSubstr("MllamaImageProcessor"));
  EXPECT_EQ(unknown.error().value, "NoSuchProcessor");
}

TEST(ImageProcessor, NamesOfAType) {
  for (const char* type :
       {"MllamaImageProcessor", "MllamaImageProcessorFast", "MllamaImageProcessorPil"}) {
    EXPECT_EQ(Make(Json{{"image_processor_type", type}}.dump())->type(), "MllamaImageProcessor");
  }
  EXPECT_EQ(Make(R"({"feature_extractor_type": "CLIPFeatureExtractor"})")->type(),
            "CLIPImageProcessor");
  const auto by_model = MakeImageProcessor(Json::object(), "llava");
  ASSERT_TRUE(by_model);
  EXPECT_EQ((*by_model)->type(), "CLIPImageProcessor");
}

TEST(ImageProcessor, FingerprintTellsSettingsApart) {
  const std::string base = R"({"image_processor_type": "MllamaImageProcessor")";
  std::vector<Digest> all;
  for (const char* more :
       {"", R"(, "size": 32)", R"(, "max_image_tiles": 5)", R"(, "resample": 3)",
        R"(, "rescale_factor": 0.5)", R"(, "do_rescale": false)", R"(, "do_normalize": false)",
        R"(, "image_mean": [0.5, 0.5, 0.51])", R"(, "image_std": 0.25)"}) {
    all.push_back(Make(base + more + "}")->fingerprint());
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
  EXPECT_EQ(Make(base + "}")->fingerprint(),
            Make(base + R"(, "size": [224, 224], "image_mean": 0.5, "resample": 2, "other": 1})")
                ->fingerprint());
}

TEST(ImageProcessor, LutIsExact) {
  const auto processor = Make(
      R"({"image_processor_type": "MllamaImageProcessor", "size": 4, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 0.7]})");
  std::vector<uint8_t> pixels(3);
  const auto image = processor->Process({1, 1, pixels});
  ASSERT_TRUE(image);
  for (int level : {0, 1, 100, 255}) {
    const float scaled = static_cast<float>(level * (1.0 / 255));
    EXPECT_EQ(image->lut[2][level], (scaled - 0.3f) / 0.7f);
  }
  EXPECT_EQ(image->PixelValues().size(), size_t{4} * 3 * 4 * 4);
  EXPECT_EQ(image->AspectRatioMask(), (std::vector<int64_t>{1, 0, 0, 0}));
  EXPECT_EQ(image->PixelValues()[3 * 16], 0.0f);  // a padding tile
}

TEST(ImageProcessor, MllamaLayoutsOfOddSizes) {
  const auto processor = Make(
      R"({"image_processor_type": "MllamaImageProcessor", "size": 560, "max_image_tiles": 4})");
  // (width, height) -> (tiles high, tiles wide, resized height, resized width, id)
  struct Case {
    int width, height, high, wide, to_height, to_width, id;
  };
  for (const Case& c : {Case{560, 560, 1, 1, 560, 560, 1}, Case{1, 1, 1, 1, 560, 560, 1},
                        Case{1120, 560, 1, 2, 560, 1120, 2}, Case{1, 5000, 4, 1, 2240, 1, 8},
                        Case{5000, 1, 1, 4, 1, 2240, 4}, Case{4000, 3000, 2, 2, 840, 1120, 6}}) {
    const auto layout = processor->LayoutOf(c.width, c.height);
    ASSERT_TRUE(layout);
    EXPECT_EQ(layout->tiles_high, c.high);
    EXPECT_EQ(layout->tiles_wide, c.wide);
    EXPECT_EQ(layout->resized_height, c.to_height);
    EXPECT_EQ(layout->resized_width, c.to_width);
    EXPECT_EQ(layout->aspect_ratio_id, c.id);
  }
}

// RELIABILITY row 3: whatever the geometry, a layout that fits its tiles.
TEST(ImageProcessor, EveryGeometryHasALayoutThatFits) {
  for (const int tiles : {1, 2, 3, 4, 7, 8}) {
    for (const int tile : {1, 13, 28, 560}) {
      const auto processor = Make(Json{
          {"image_processor_type", "MllamaImageProcessor"},
          {"size", tile},
          {"max_image_tiles", tiles}}.dump());
      for (const int width :
           {1, 2, 13, 27, 28, 29, 559, 560, 561, 1120, 4099, 20000, 65535, 1000000}) {
        for (const int height :
             {1, 2, 13, 27, 28, 29, 559, 560, 561, 1120, 4099, 20000, 65535, 1000000}) {
          const auto layout = processor->LayoutOf(width, height);
          ASSERT_TRUE(layout);
          ASSERT_GE(layout->resized_height, 1);
          ASSERT_GE(layout->resized_width, 1);
          ASSERT_LE(layout->resized_height, layout->tiles_high * tile);
          ASSERT_LE(layout->resized_width, layout->tiles_wide * tile);
          ASSERT_LE(layout->tiles_high * layout->tiles_wide, tiles);
        }
      }
    }
  }
}

TEST(ImageProcessor, EveryTierGivesTheSamePixels) {
  std::vector<uint8_t> pixels(size_t{3} * 301 * 187);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * i / 7);
  for (const char* type : {"MllamaImageProcessor", "CLIPImageProcessor", "ViTImageProcessor"}) {
    const auto processor = Make(Json{{"image_processor_type", type}}.dump());
    ASSERT_NE(processor, nullptr);
    EXPECT_EQ(processor->tier(), BestMediaTier());
    const auto best = processor->Process({301, 187, pixels});
    ASSERT_TRUE(best);
    for (const MediaTier tier : MediaTiers()) {
      processor->use_tier(tier);
      const auto image = processor->Process({301, 187, pixels});
      ASSERT_TRUE(image);
      EXPECT_EQ(image->tier, tier);
      EXPECT_EQ(image->PixelValues(), best->PixelValues()) << type;
    }
  }
}

TEST(ImageProcessor, TierOfAFlag) {
  EXPECT_EQ(MediaTierOf("auto"), BestMediaTier());
  EXPECT_EQ(MediaTierOf("reference"), MediaTier::kPlain);
  EXPECT_EQ(MediaTierOf("avx2"), std::min(MediaTier::kAvx2, BestMediaTier()));
  EXPECT_EQ(MediaTierOf("avx512"), BestMediaTier());
}

TEST(ImageProcessor, ClipRefusesWhatWouldExplode) {
  const auto processor = Make(R"({"image_processor_type": "CLIPImageProcessor"})");
  const auto layout = processor->LayoutOf(1, 1000000);
  ASSERT_FALSE(layout);
  EXPECT_EQ(layout.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(layout.error().field, "image");
  EXPECT_TRUE(processor->LayoutOf(1, 1000));
}

class ModelDir : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::path(::testing::TempDir()) / "image_processor_model";
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  void Write(const char* file, const std::string& text) { std::ofstream(dir_ / file) << text; }
  std::filesystem::path dir_;
};

TEST_F(ModelDir, NothingThere) {
  const auto processor = LoadImageProcessor(dir_);
  ASSERT_FALSE(processor);
  EXPECT_EQ(processor.error().code, ErrorCode::kNotFound);
}

TEST_F(ModelDir, ProcessorConfigComesFirst) {
  Write("preprocessor_config.json",
        R"({"image_processor_type": "MllamaImageProcessor", "size": 32})");
  Write("processor_config.json", R"({"processor_class": "X"})");
  EXPECT_EQ((*LoadImageProcessor(dir_))->tile_height(), 32);
  Write("processor_config.json",
        R"({"image_processor": {"image_processor_type": "MllamaImageProcessor", "size": 48}})");
  EXPECT_EQ((*LoadImageProcessor(dir_))->tile_height(), 48);
}

TEST_F(ModelDir, BrokenFiles) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"),
        std::string(100000, '['),
        std::string("{\"size\": ") + std::string(1000, '[') + std::string(1000, ']') + "}"}) {
    Write("preprocessor_config.json", text);
    const auto processor = LoadImageProcessor(dir_);
    ASSERT_FALSE(processor);
    EXPECT_EQ(processor.error().field, "preprocessor_config.json") << text.substr(0, 50);
  }
}

}  // namespace
}  // namespace tessera
