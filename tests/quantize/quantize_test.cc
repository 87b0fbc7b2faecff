// tessera-quantize: the search of scales and zero points, the writer, and the whole program over
// the demo model, read back as the server reads it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

#include "kernels/code_source.h"
#include "model/config.h"
#include "model/model.h"
#include "model/tensor_table.h"
#include "tools/quantize/checkpoint_writer.h"
#include "tools/quantize/group_search.h"

namespace tessera::quantize {
namespace {

std::vector<float> Normal(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 0.1f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

double ErrorOf(const std::vector<float>& w, const std::vector<float>& importance,
               const GroupCodes& found, const std::vector<uint8_t>& codes) {
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double off = double{found.scale} * (codes[i] - found.zero) - w[i];
    sum += (importance.empty() ? 1.0 : importance[i]) * off * off;
  }
  return sum;
}

TEST(SearchGroup, FindsWeightsThatAreOnAGrid) {
  for (const auto& [symmetric, zero] : {std::pair{true, 8}, {false, 3}, {false, 12}}) {
    std::vector<float> w;
    for (int i = 0; i < 32; ++i) w.push_back(0.25f * static_cast<float>(i % 16 - zero));
    std::vector<uint8_t> codes(w.size());
    const GroupCodes found = SearchGroup(w, {}, symmetric, DType::kBF16, codes);
    EXPECT_EQ(found.scale, 0.25f);
    EXPECT_EQ(found.zero, zero);
    EXPECT_EQ(found.error, 0);
    for (int i = 0; i < 32; ++i) EXPECT_EQ(codes[static_cast<size_t>(i)], i % 16);
  }
}

TEST(SearchGroup, BeatsTheRangeInFifteenStepsAndHeedsImportance) {
  for (bool symmetric : {true, false}) {
    double searched = 0, plain = 0, heeded = 0, unheeded = 0;
    for (unsigned seed = 0; seed < 50; ++seed) {
      const std::vector<float> w = Normal(32, seed);
      std::vector<float> importance(w.size(), 1.0f);
      importance[seed % 32] = 300.0f;
      std::vector<uint8_t> codes(w.size());
      const GroupCodes found = SearchGroup(w, {}, symmetric, DType::kF32, codes);
      EXPECT_NEAR(ErrorOf(w, {}, found, codes), found.error, 1e-6 * found.error);
      searched += found.error;
      unheeded += ErrorOf(w, importance, found, codes);
      const GroupCodes with = SearchGroup(w, importance, symmetric, DType::kF32, codes);
      heeded += ErrorOf(w, importance, with, codes);
      const auto [low, high] = std::minmax_element(w.begin(), w.end());
      const double scale = symmetric ? std::max(-*low, *high) / 7.0 : (*high - *low) / 15.0;
      const double zero = symmetric ? 8 : std::nearbyint(-*low / scale);
      for (const float value : w) {
        const double code = std::clamp(std::nearbyint(value / scale) + zero, 0.0, 15.0);
        plain += std::pow(scale * (code - zero) - value, 2);
      }
    }
    EXPECT_LT(searched, 0.95 * plain);
    EXPECT_LT(heeded, 0.8 * unheeded);
  }
}

TEST(SearchGroup, NothingAndOneSign) {
  std::vector<uint8_t> codes(32);
  for (bool symmetric : {true, false}) {
    GroupCodes found =
        SearchGroup(std::vector<float>(32, 0.0f), {}, symmetric, DType::kBF16, codes);
    EXPECT_EQ(found.scale, 0.0f);
    EXPECT_EQ(found.error, 0.0);
    std::vector<float> positive = Normal(32, 3);
    for (float& value : positive) value = std::fabs(value) + 0.5f;
    found = SearchGroup(positive, {}, symmetric, DType::kBF16, codes);
    double squares = 0;  // an end may be clipped for the others' sake
    for (size_t i = 0; i < codes.size(); ++i)
      squares += std::pow(found.scale * (codes[i] - found.zero) - positive[i], 2.0);
    EXPECT_NEAR(squares, found.error, 1e-6 + 1e-4 * squares);
    EXPECT_LT(std::sqrt(squares / static_cast<double>(codes.size())), 0.4 * found.scale);
  }
}

class Directory {
 public:
  explicit Directory(const std::string& name)
      : path_(std::filesystem::path(testing::TempDir()) / name) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  const std::filesystem::path path_;
};

TEST(CheckpointWriter, ShardsAreReadBack) {
  const Directory directory("tessera-quantize-shards");
  std::vector<PlannedTensor> planned;
  for (int i = 0; i < 5; ++i)
    planned.push_back({fmt::format("t{}", i), "I32", {i + 1, 2}, uint64_t(i + 1) * 8});
  CheckpointWriter writer(directory.path(), planned, 40);
  for (char i = 0; i < 5; ++i) {
    const std::string half(static_cast<size_t>(i + 1) * 4, static_cast<char>('a' + i));
    ASSERT_TRUE(writer.Write(half));
    ASSERT_TRUE(writer.Write(half));
  }
  ASSERT_TRUE(writer.Finish());
  const Checkpoint checkpoint = Checkpoint::Open(directory.path()).value();
  EXPECT_EQ(checkpoint.tensors().size(), 5u);
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "model-00004-of-00004.safetensors"));
  for (int i = 0; i < 5; ++i) {
    const TensorEntry* entry = checkpoint.Find(fmt::format("t{}", i));
    ASSERT_NE(entry, nullptr);
    EXPECT_THAT(entry->shape, testing::ElementsAre(i + 1, 2));
    const std::string bytes(reinterpret_cast<const char*>(entry->data), entry->bytes());
    EXPECT_EQ(bytes, std::string(static_cast<size_t>(i + 1) * 8, static_cast<char>('a' + i)));
  }
}

int RunTool(const std::filesystem::path& model, const std::filesystem::path& out,
            const std::string& flags) {
  return std::system(fmt::format("{} --model {} --out {} {} >/dev/null 2>&1", TESSERA_QUANTIZE,
                                 model.string(), out.string(), flags)
                         .c_str());
}

TEST(Program, DemoModelIsReadBackAsTheServerReadsIt) {
  const std::filesystem::path source = std::filesystem::path(TESSERA_SOURCE_DIR) / "models/demo";
  const Checkpoint before = Checkpoint::Open(source).value();
  for (const std::string flags : {"", "--symmetric"}) {
    const Directory directory("tessera-quantize-demo");
    ASSERT_EQ(RunTool(source, directory.path(),
                      fmt::format("--calibration {} --tokens 512 {}",
                                  (source / "README.md").string(), flags)),
              0);
    const ModelConfig config = ModelConfig::FromDirectory(directory.path()).value();
    ASSERT_TRUE(config.quantization);
    EXPECT_EQ(config.quantization->Describe().find("compressed-tensors"), 0u);
    const Checkpoint after = Checkpoint::Open(directory.path()).value();
    const auto bound = BindTensors(ExpectedTensors(config), after.tensors(), config.quantization);
    ASSERT_TRUE(bound) << bound.error().Describe();
    int quantised = 0;
    for (const BoundTensor& tensor : *bound) {
      const std::string& name = tensor.expected.names.front();
      if (!tensor.quantized) {
        const TensorEntry* same = before.Find(tensor.entry->name);
        ASSERT_NE(same, nullptr) << name;
        EXPECT_EQ(std::memcmp(same->data, tensor.entry->data, same->bytes()), 0) << name;
        continue;
      }
      ++quantised;
      const int64_t rows = tensor.expected.shape[0], columns = tensor.expected.shape[1];
      const auto codes =
          MakeCodeSource(tensor.quantized, rows, columns, *config.quantization).value();
      std::string stem = tensor.quantized.codes->name;
      stem.resize(stem.size() - std::strlen("_packed"));
      const TensorEntry* from = before.Find(stem);
      ASSERT_NE(from, nullptr) << stem;
      const DType dtype = from->dtype == "F32"   ? DType::kF32
                          : from->dtype == "F16" ? DType::kF16
                                                 : DType::kBF16;
      std::vector<float> old_row(static_cast<size_t>(columns)), new_row(old_row.size());
      double error = 0, size = 0;
      for (int64_t row = 0; row < rows; ++row) {
        LoadSourceRows({.data = from->data, .dtype = dtype, .rows = rows, .columns = columns}, row,
                       1, old_row.data());
        LoadSourceRows({.rows = rows, .columns = columns, .codes = codes.get()}, row, 1,
                       new_row.data());
        for (size_t i = 0; i < old_row.size(); ++i) {
          error += std::pow(old_row[i] - new_row[i], 2.0);
          size += std::pow(old_row[i], 2.0);
        }
      }
      EXPECT_LT(std::sqrt(error / size), 0.15) << stem;
    }
    EXPECT_GT(quantised, 20);
    EXPECT_NE(RunTool(source, directory.path(), ""), 0)
        << "a directory that holds something is left alone";
    EXPECT_NE(RunTool(directory.path(), fmt::format("{}-again", directory.path().string()), ""), 0)
        << "quantised already";
  }
}

}  // namespace
}  // namespace tessera::quantize
