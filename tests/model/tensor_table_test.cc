// The tensor table, walked for every architecture without weights, and loading of directories whose
// weights do not fit.
#include "model/tensor_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "kernels/factory.h"
#include "model/model.h"
#include "tests/model/temp_dir.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kModels[] = {"mllama-odd",    "mllama-one-tile", "mllama-eight-tiles",
                                   "mllama-yarn",   "llama-tied-yarn", "llama-bias-linear",
                                   "llama-dynamic", "llama-llama3"};

fs::path Data(const char* model) {
  return fs::path(TESSERA_SOURCE_DIR) / "tests/model/data" / model;
}

ModelConfig ConfigOf(const char* model) {
  auto config = ModelConfig::FromDirectory(Data(model));
  EXPECT_TRUE(config) << config.error().Describe();
  return *std::move(config);
}

// A checkpoint with exactly what the table asks for, under the given choice of names.
std::vector<TensorEntry> Entries(const std::vector<ExpectedTensor>& expected, size_t layout) {
  std::vector<TensorEntry> entries;
  for (const ExpectedTensor& tensor : expected) {
    entries.push_back({.name = tensor.names[std::min(layout, tensor.names.size() - 1)],
                       .dtype = "F16",
                       .shape = tensor.shape});
  }
  return entries;
}

std::string Bind(const ModelConfig& config, const std::vector<TensorEntry>& entries) {
  std::vector<const TensorEntry*> pointers;
  for (const TensorEntry& entry : entries) pointers.push_back(&entry);
  const auto bound = BindTensors(ExpectedTensors(config), pointers);
  return bound ? "bound" : bound.error().detail;
}

TEST(TensorTable, WalksAllTensorsOfAllArchitectures) {
  std::set<const TensorRow*> used;
  for (const char* model : kModels) {
    const ModelConfig config = ConfigOf(model);
    const std::vector<ExpectedTensor> expected = ExpectedTensors(config);
    std::set<std::string> names;
    for (const ExpectedTensor& tensor : expected) {
      used.insert(tensor.row);
      EXPECT_GT(tensor.elements(), 0) << tensor.names.front();
      for (const std::string& name : tensor.names) {
        EXPECT_TRUE(names.insert(name).second) << name << " stands twice";
        EXPECT_EQ(name.find('#'), std::string::npos);
      }
    }
    for (size_t layout = 0; layout < 2; ++layout) {
      const std::vector<TensorEntry> entries = Entries(expected, layout);
      EXPECT_EQ(Bind(config, entries), "bound") << model;
      // Each in turn left out, misshaped or of another dtype is named
      for (size_t i = 0; i < entries.size(); ++i) {
        std::vector<TensorEntry> wrong = entries;
        wrong.erase(wrong.begin() + static_cast<std::ptrdiff_t>(i));
        if (expected[i].required) {
          EXPECT_THAT(Bind(config, wrong), HasSubstr("missing (1): " + expected[i].names.front()));
        }
        wrong = entries;
        wrong[i].shape.back() += 1;
        EXPECT_THAT(Bind(config, wrong), HasSubstr("wrong shape (1): " + wrong[i].name));
        wrong = entries;
        wrong[i].dtype = "I32";
        EXPECT_THAT(Bind(config, wrong), HasSubstr(wrong[i].name + " is I32"));
      }
    }
  }
  EXPECT_EQ(used.size(), TensorRows().size()) << "a row that no test model needs";
}

TEST(TensorTable, ListsAllProblemsInOneError) {
  const ModelConfig config = ConfigOf("mllama-odd");
  std::vector<TensorEntry> entries = Entries(ExpectedTensors(config), 0);
  entries[0].shape = {1, 2};
  entries[1].name = "language_model.model.layers.9.extra";
  entries.push_back(
      {.name = "language_model.model.rotary_emb.inv_freq", .dtype = "F32", .shape = {6}});
  const std::string problems = Bind(config, entries);
  EXPECT_THAT(
      problems,
      AllOf(HasSubstr("missing (1)"),
            HasSubstr(
                "wrong shape (1): language_model.model.embed_tokens.weight is [1, 2], expected"),
            HasSubstr("not part of the model (1): language_model.model.layers.9.extra"),
            testing::Not(HasSubstr("inv_freq"))));
  // One tensor under two names
  entries = Entries(ExpectedTensors(config), 0);
  entries.push_back(entries[0]);
  entries.back().name = "model.language_model.embed_tokens.weight";
  EXPECT_THAT(Bind(config, entries),
              HasSubstr("not part of the model (1): model.language_model.embed_tokens.weight"));
}

class LoadTest : public testing::Test {
 protected:
  LoadTest() {
    auto backend = MakeBackend({.device = "cpu", .cpu_isa = "reference"});
    EXPECT_TRUE(backend);
    backend_ = *std::move(backend);
  }
  std::string Load(const fs::path& directory, LoadOptions options = {}) {
    const auto model = LoadModel(directory, *backend_, options);
    return model ? "loaded" : model.error().Describe();
  }
  static void Copy(const char* model, const TempDir& dir) {
    for (const auto& entry : fs::directory_iterator(Data(model))) {
      if (entry.is_regular_file()) fs::copy(entry.path(), dir.path());
    }
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(LoadTest, ProgressAndPlan) {
  for (const char* model : kModels) {
    std::vector<double> shares;
    LoadOptions options;
    options.progress = [&](double share) { shares.push_back(share); };
    const auto loaded = LoadModel(Data(model), *backend_, options);
    ASSERT_TRUE(loaded) << loaded.error().Describe();
    EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
    EXPECT_EQ(shares.back(), 1.0);
    const auto plan = PlanModel(Data(model), options);
    ASSERT_TRUE(plan) << plan.error().Describe();
    EXPECT_EQ(plan->info.parameters, (*loaded)->info().parameters);
    EXPECT_EQ(plan->info.max_context, (*loaded)->info().max_context);
    // An estimate from config.json alone; packing pads these tiny matrices
    EXPECT_GT(plan->weight_bytes, (*loaded)->weight_bytes() / 3);
    EXPECT_LT(plan->weight_bytes, (*loaded)->weight_bytes() * 3);
  }
}

TEST_F(LoadTest, EveryFormat) {
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16}) {
    LoadOptions options;
    options.format = format;
    const auto loaded = LoadModel(Data("mllama-odd"), *backend_, options);
    ASSERT_TRUE(loaded) << loaded.error().Describe();
    EXPECT_EQ((*loaded)->weight_format(), format);
  }
}

TEST_F(LoadTest, UnseenRowsFromTheDirectory) {
  const TempDir dir;
  Copy("mllama-yarn", dir);
  const auto unseen = [&](LoadOptions options = {}) {
    const auto plan = PlanModel(dir.path(), options);
    return plan ? std::string(plan->info.unseen_rows == UnseenRows::kZero ? "zero" : "attend")
                : plan.error().Describe();
  };
  EXPECT_EQ(unseen(), "zero");
  dir.Write("tessera.json", R"({"unseen_rows": "attend"})");
  EXPECT_EQ(unseen(), "attend");
  LoadOptions zero;
  zero.unseen_rows = UnseenRows::kZero;
  EXPECT_EQ(unseen(zero), "zero");
  dir.Write("tessera.json", R"({"unseen_rows": "maybe"})");
  EXPECT_THAT(unseen(), HasSubstr("one of zero, attend"));
  dir.Write("tessera.json", "{");
  EXPECT_THAT(unseen(), HasSubstr("not a valid JSON file"));
}

TEST_F(LoadTest, RefusesByName) {
  EXPECT_THAT(Load("/nonexistent"), HasSubstr("file not found"));
  const TempDir dir;
  Copy("llama-dynamic", dir);
  EXPECT_EQ(Load(dir.path()), "loaded");
  fs::resize_file(dir.path() / "model.safetensors", 5000);
  EXPECT_THAT(Load(dir.path()), HasSubstr("safetensors"));
  fs::resize_file(dir.path() / "model.safetensors", 0);
  EXPECT_THAT(Load(dir.path()), HasSubstr("too short"));
  fs::remove(dir.path() / "model.safetensors");
  EXPECT_THAT(Load(dir.path()), HasSubstr("no weights"));
  fs::create_directory(dir.path() / "model.safetensors");
  EXPECT_THAT(Load(dir.path()), HasSubstr("not a regular file"));
  // A config that promises more than the weights hold: named, and nothing allocated by its number
  const TempDir other;
  Copy("llama-dynamic", other);
  std::ifstream in(other.path() / "config.json");
  std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::string from = "\"vocab_size\": 286";
  ASSERT_NE(text.find(from), std::string::npos);
  text.replace(text.find(from), from.size(), "\"vocab_size\": 8000000");
  other.Write("config.json", text);
  EXPECT_THAT(Load(other.path()),
              AllOf(HasSubstr("model.embed_tokens.weight is [286, 30], expected [8000000, 30]")));
}

}  // namespace
}  // namespace tessera::test
