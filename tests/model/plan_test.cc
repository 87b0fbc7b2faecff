// What is planned before anything is allocated, against what is then taken.
#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/factory.h"
#include "model/model.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> Models() {
  std::vector<fs::path> models;
  for (const auto& entry :
       fs::directory_iterator(fs::path(TESSERA_SOURCE_DIR) / "tests/model/data"))
    if (fs::exists(entry.path() / "config.json")) models.push_back(entry.path());
  return models;
}

TEST(Plan, WorkspaceIsWhatIsAllocated) {
  int compared = 0;
  for (const fs::path& path : Models()) {
    SCOPED_TRACE(path.filename().string());
    const auto plan = PlanModel(path, {});
    ASSERT_TRUE(plan) << plan.error().Describe();
    const auto backend = MakeBackend({.device = "cpu", .cpu_isa = "reference"});
    ASSERT_TRUE(backend);
    const auto model = LoadModel(path, **backend, {});
    ASSERT_TRUE(model) << model.error().Describe();
    for (const WorkspaceLimits& limits :
         {WorkspaceLimits{.max_rows = 7, .max_logits_rows = 3, .encode_slots = 1},
          WorkspaceLimits{.max_rows = 64, .max_logits_rows = 1, .encode_slots = 2}}) {
      const auto workspace = (*model)->MakeWorkspace(**backend, limits);
      ASSERT_TRUE(workspace) << workspace.error().Describe();
      EXPECT_EQ(static_cast<int64_t>((*workspace)->bytes()),
                plan->workspace.Bytes(limits, DType::kF32));
      ++compared;
    }
  }
  EXPECT_GE(compared, 6);
}

TEST(Plan, PaddingTilesAreNotLeftOutWhereTheyAreRead) {
  const fs::path path = fs::path(TESSERA_SOURCE_DIR) / "tests/model/data/mllama-odd";
  LoadOptions options{.unseen_rows = UnseenRows::kZero, .skip_padding_tiles = true};
  const auto plan = PlanModel(path, options);
  ASSERT_TRUE(plan) << plan.error().Describe();
  EXPECT_TRUE(plan->info.skips_padding_tiles);
  options.unseen_rows = UnseenRows::kAttend;
  const auto refused = PlanModel(path, options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().field, "unseen_rows");
}

}  // namespace
}  // namespace tessera::test
