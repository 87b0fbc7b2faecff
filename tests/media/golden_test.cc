// The committed goldens through the same checker that tessera-verify uses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/media/test_files.h"
#include "tools/verify/cases.h"

namespace tessera {
namespace {

TEST(Golden, DecodersAndProcessorsEqualTheReference) {
  verify::Report report;
  verify::CheckImageCases(DataDir(), DataDir() / "pictures", BestMediaTier(), report);
  EXPECT_EQ(report.failures(), 0u) << report.ToText(false);
  // All of them were there: every picture decoded, ten processors at work, one unknown and skipped.
  const auto rows = nlohmann::json::parse(report.ToJson())["rows"];
  size_t decoded = 0, processed = 0, skipped = 0;
  for (const auto& row : rows) {
    decoded += row["stage"] == "decoded";
    processed += row["stage"] == "pixel_values";
    skipped += row["outcome"] == "skip";
  }
  EXPECT_EQ(decoded, ReadJsonFile("decoded.json")["images"].size());
  EXPECT_GT(decoded, 300u);
  EXPECT_GT(processed, 300u);
  EXPECT_EQ(skipped, 1u);
}

// The checker itself must be able to fail.
class BentGolden : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::path(::testing::TempDir()) / "bent_golden";
    std::filesystem::create_directories(dir_);
    decoded_["images"]["orient_6.png"] = ReadJsonFile("decoded.json")["images"]["orient_6.png"];
    const auto all = ReadJsonFile("expected.json");
    expected_["mllama_tile20"] = all["mllama_tile20"];
    expected_["mllama_tile20"]["images"] = nlohmann::ordered_json::object();
    expected_["mllama_tile20"]["images"]["size_97x89.png"] =
        all["mllama_tile20"]["images"]["size_97x89.png"];
    for (const char* file : {"mllama_tile20.preprocessor_config.json", "expected_u8.safetensors"}) {
      std::filesystem::copy_file(DataDir() / file, dir_ / file,
                                 std::filesystem::copy_options::overwrite_existing);
    }
  }
  size_t Failures() {
    std::ofstream(dir_ / "decoded.json") << decoded_.dump();
    std::ofstream(dir_ / "expected.json") << expected_.dump();
    verify::Report report;
    verify::CheckImageCases(dir_, DataDir() / "pictures", BestMediaTier(), report);
    return report.failures();
  }
  nlohmann::ordered_json& Decoded() { return decoded_["images"]["orient_6.png"]; }
  nlohmann::ordered_json& Expected() {
    return expected_["mllama_tile20"]["images"]["size_97x89.png"];
  }

  std::filesystem::path dir_;
  nlohmann::ordered_json decoded_, expected_;
};

TEST_F(BentGolden, Straight) { EXPECT_EQ(Failures(), 0u); }
TEST_F(BentGolden, Checksum) {
  Decoded()["crc32_rgb"] = 1;
  EXPECT_EQ(Failures(), 1u);
}
TEST_F(BentGolden, Size) {
  Decoded()["wh"] = {23, 14};
  EXPECT_EQ(Failures(), 1u);
}
TEST_F(BentGolden, AspectRatio) {
  Expected()["aspect_ratio_ids"] = {{1}};
  EXPECT_EQ(Failures(), 1u);
}
TEST_F(BentGolden, Value) {
  Expected()["value"][5] = Expected()["value"][5].get<double>() + 2e-5;
  EXPECT_EQ(Failures(), 1u);
}
TEST_F(BentGolden, Mean) {
  Expected()["mean"] = Expected()["mean"].get<double>() + 2e-4;
  EXPECT_EQ(Failures(), 1u);
}
TEST_F(BentGolden, Uint8) {
  Expected()["u8"] = "mllama_tile20/size_89x97.png";
  EXPECT_EQ(Failures(), 1u);
}
TEST_F(BentGolden, MissingPicture) {
  decoded_["images"]["not_there.png"] = Decoded();
  EXPECT_EQ(Failures(), 1u);
}

TEST(Golden, NothingToCheckIsAFailure) {
  verify::Report report;
  verify::CheckImageCases("/nowhere", "/nowhere", BestMediaTier(), report);
  EXPECT_EQ(report.failures(), 1u);
}

}  // namespace
}  // namespace tessera
