// Models against what transformers computes: vision states, projected states, logits of every
// prompt position and greedy continuations, within the bounds of docs/fidelity.md. Pictures come as
// pixel values, prompts as ids: what stands before the model has tests of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "server/golden/compare.h"
#include "tests/model/model_driver.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;

struct GoldenPlace {
  fs::path model;
  fs::path golden;
};

// The committed models, and one more directory where TESSERA_MODEL_DIR names it.
std::vector<GoldenPlace> Places() {
  std::vector<fs::path> models;
  const fs::path data = fs::path(TESSERA_SOURCE_DIR) / "tests/model/data";
  for (const auto& entry : fs::directory_iterator(data)) models.push_back(entry.path());
  if (const char* more = std::getenv("TESSERA_MODEL_DIR")) models.emplace_back(more);
  std::sort(models.begin(), models.end());
  std::vector<GoldenPlace> places;
  for (const fs::path& model : models) {
    for (const fs::path& golden : {model, model / "zero"}) {
      if (fs::exists(golden / "golden.safetensors")) places.push_back({model, golden});
    }
  }
  return places;
}

std::string PlaceName(const testing::TestParamInfo<GoldenPlace>& info) {
  std::string name = info.param.model.filename().string();
  if (info.param.golden != info.param.model) name += "_zero";
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

// Only the kept tiles of every image of a golden [images, tiles, P, width].
std::vector<float> KeptTiles(const Golden& golden, const std::string& name,
                             const std::vector<int>& kept) {
  const std::vector<int64_t> shape = golden.Shape(name);
  const std::vector<float> all = golden.Floats(name);
  const auto tile = static_cast<size_t>(shape[2] * shape[3]);
  std::vector<float> part;
  for (size_t image = 0; image < kept.size(); ++image) {
    const auto from =
        all.begin() + static_cast<std::ptrdiff_t>(image * static_cast<size_t>(shape[1]) * tile);
    part.insert(part.end(), from,
                from + static_cast<std::ptrdiff_t>(static_cast<size_t>(kept[image]) * tile));
  }
  return part;
}

class GoldenTest : public testing::TestWithParam<GoldenPlace> {
 protected:
  std::unique_ptr<ModelDriver> Load(const Golden& golden, BackendOptions backend,
                                    DType kv_dtype = DType::kF32, double unit_flops = 4e9) {
    backend.device = "cpu";
    DriverOptions options{.backend = std::move(backend)};
    options.load.unseen_rows = golden.unseen_zero() ? UnseenRows::kZero : UnseenRows::kAttend;
    options.load.kv_dtype = kv_dtype;
    options.load.encode_unit_flops = unit_flops;
    auto driver = ModelDriver::Load(GetParam().model, options);
    EXPECT_TRUE(driver) << driver.error().Describe();
    return driver ? *std::move(driver) : nullptr;
  }
};

// Every tier of this machine is held to every bound.

// Largest and mean errors of the reference's own bf16 run over all cases, for one kind of tensor.
Yardstick MakeYardstick(const Golden& golden, const std::string& name) {
  Yardstick yardstick;
  for (const GoldenCase& c : golden.cases()) {
    const std::string full = c.id + "." + name;
    if (golden.Has(full) && golden.Has(full + "_bf16")) {
      yardstick.Add(Measure(golden.Floats(full + "_bf16"), golden.Floats(full)));
    }
  }
  return yardstick;
}

TEST_P(GoldenTest, WithinTheFloatBound) {
  const auto golden = Golden::Open(GetParam().golden);
  ASSERT_TRUE(golden) << golden.error().Describe();
  for (const std::string& tier : AvailableCpuTiers()) {
    SCOPED_TRACE(tier);
    const auto driver = Load(**golden, {.cpu_isa = tier});
    ASSERT_NE(driver, nullptr);
    double worst = 0;
    int compared = 0;
    for (const GoldenCase& c : (*golden)->cases()) {
      if (c.images > 0 && c.pixels.empty()) continue;
      SCOPED_TRACE(c.id);
      const PromptResult got = driver->Run(c, (*golden)->max_new_tokens(), 64, 0);
      const auto check = [&](const std::string& name, const std::vector<float>& values,
                             const std::vector<float>& want) {
        ASSERT_EQ(values.size(), want.size()) << name;
        const Deviation d = Measure(values, want);
        EXPECT_TRUE(WithinFloat(d)) << name << ": " << Describe(d);
        worst = std::max(worst, d.max_relative);
        ++compared;
      };
      for (const auto& [name, values] :
           {std::pair("vision_hidden", &got.vision_hidden), {"projected", &got.projected}}) {
        const std::string full = c.id + "." + name;
        if ((*golden)->Has(full)) check(name, *values, KeptTiles(**golden, full, got.kept_tiles));
      }
      check("logits", got.logits, (*golden)->Floats(c.id + ".logits"));
      const GreedyVerdict verdict =
          CompareGreedy(got.greedy_ids, (*golden)->Ints(c.id + ".greedy_ids"),
                        (*golden)->Floats(c.id + ".greedy_margin"), kFloatMargin);
      EXPECT_TRUE(verdict.pass) << "greedy ids differ at " << verdict.first_difference
                                << ", margin " << verdict.margin;
      if (verdict.first_difference < 0) {
        check("greedy_last_logits", got.greedy_last_logits,
              (*golden)->Floats(c.id + ".greedy_last_logits"));
      }
    }
    EXPECT_GT(compared, 0);
    std::printf("  %-9s %d tensors, largest error %.2g std (bound %.2g)\n", tier.c_str(), compared,
                worst, kFloatBound);
  }
}

TEST_P(GoldenTest, Bf16ComputingWithinTheYardstick) {
  const auto golden = Golden::Open(GetParam().golden);
  ASSERT_TRUE(golden) << golden.error().Describe();
  for (const std::string& tier : AvailableCpuTiers()) {
    SCOPED_TRACE(tier);
    const auto driver =
        Load(**golden, {.cpu_isa = tier, .operand_dtype = DType::kBF16}, DType::kBF16);
    ASSERT_NE(driver, nullptr);
    double worst = 0;
    for (const GoldenCase& c : (*golden)->cases()) {
      if (c.images > 0 && c.pixels.empty()) continue;
      SCOPED_TRACE(c.id);
      const PromptResult got = driver->Run(c, 1, 64, 0);
      const auto check = [&](const std::string& name, const std::vector<float>& values,
                             const std::vector<float>& want) {
        const Yardstick yardstick = MakeYardstick(**golden, name);
        const Deviation d = Measure(values, want);
        EXPECT_TRUE(WithinBf16(d, yardstick))
            << name << ": " << Describe(d) << ", yardstick max " << yardstick.max_relative
            << ", mean " << yardstick.mean_relative;
        worst = std::max(worst, d.max_relative / yardstick.max_relative);
      };
      for (const auto& [name, values] :
           {std::pair("vision_hidden", &got.vision_hidden), {"projected", &got.projected}}) {
        const std::string full = c.id + "." + name;
        if ((*golden)->Has(full)) check(name, *values, KeptTiles(**golden, full, got.kept_tiles));
      }
      check("logits", got.logits, (*golden)->Floats(c.id + ".logits"));
    }
    std::printf("  %-9s largest error %.2g of the yardstick (bound %.2g)\n", tier.c_str(), worst,
                kBf16MaxFactor);
  }
}

// K/V in int8 alone: 127 steps to the largest number of a token and head, against the 256 steps of
// bf16 within each power of two. Measured over these models: 2.0 to 3.1 times the error of bf16
// K/V.
TEST_P(GoldenTest, Int8KvCostsWhatItsStepsSay) {
  const auto golden = Golden::Open(GetParam().golden);
  ASSERT_TRUE(golden) << golden.error().Describe();
  for (const std::string& tier : AvailableCpuTiers()) {
    SCOPED_TRACE(tier);
    const auto plain = Load(**golden, {.cpu_isa = tier}),
               bf16 = Load(**golden, {.cpu_isa = tier}, DType::kBF16),
               int8 = Load(**golden, {.cpu_isa = tier}, DType::kI8);
    ASSERT_TRUE(plain && bf16 && int8);
    double bf16_mean = 0, int8_mean = 0, int8_max = 0;
    int same = 0, ids = 0;
    for (const GoldenCase& c : (*golden)->cases()) {
      if (c.images > 0 && c.pixels.empty()) continue;
      const PromptResult want = plain->Run(c, (*golden)->max_new_tokens(), 64, 0);
      const PromptResult got = int8->Run(c, (*golden)->max_new_tokens(), 64, 0);
      bf16_mean += Measure(bf16->Run(c, 1, 64, 0).logits, want.logits).mean_relative;
      const Deviation deviation = Measure(got.logits, want.logits);
      int8_mean += deviation.mean_relative;
      int8_max = std::max(int8_max, deviation.max_relative);
      for (size_t i = 0; i < want.greedy_ids.size(); ++i)
        same += i < got.greedy_ids.size() && got.greedy_ids[i] == want.greedy_ids[i] ? 1 : 0;
      ids += static_cast<int>(want.greedy_ids.size());
      // In chunks of any size the same bits.
      EXPECT_EQ(int8->Run(c, 1, 7, 5).logits, got.logits);
    }
    EXPECT_LE(int8_mean, 4 * bf16_mean);
    EXPECT_GE(int8_mean, bf16_mean);
    std::printf("  %-9s int8 K/V: mean error %.1f x that of bf16, largest %.2g std, %d of %d ids\n",
                tier.c_str(), int8_mean / bf16_mean, int8_max, same, ids);
  }
}

// Prefill in chunks of any size and encoding in slices of any size give the same bits.
TEST_P(GoldenTest, ChunksAndSlicesGiveEqualBits) {
  const auto golden = Golden::Open(GetParam().golden);
  ASSERT_TRUE(golden) << golden.error().Describe();
  for (const std::string& tier : AvailableCpuTiers()) {
    SCOPED_TRACE(tier);
    const auto driver = Load(**golden, {.cpu_isa = tier});
    ASSERT_NE(driver, nullptr);
    int compared = 0;
    for (const GoldenCase& c : (*golden)->cases()) {
      if ((c.images > 0 && c.pixels.empty()) || compared == 3) continue;
      SCOPED_TRACE(c.id);
      ++compared;
      const PromptResult whole = driver->Run(c, 3, 64, 0);
      // Units of a few rows: every phase of every layer is cut
      const auto fine = Load(**golden, {.cpu_isa = tier}, DType::kF32, 4e4);
      ASSERT_NE(fine, nullptr);
      if (c.images > 0) {
        EXPECT_GT(fine->model().PlanEncode(c.pixels[0]).units, 20);
      }
      for (const auto& [chunk, slice] : {std::pair(1, 1), {7, 5}, {16, 13}}) {
        const PromptResult cut = fine->Run(c, 3, chunk, slice);
        EXPECT_EQ(cut.logits, whole.logits) << "chunks of " << chunk << ", slices of " << slice;
        EXPECT_EQ(cut.vision_hidden, whole.vision_hidden) << slice;
        EXPECT_EQ(cut.projected, whole.projected) << slice;
        EXPECT_EQ(cut.greedy_ids, whole.greedy_ids);
        EXPECT_EQ(cut.greedy_last_logits, whole.greedy_last_logits);
      }
    }
    EXPECT_GT(compared, 0);
  }
}

// Without padding tiles: nothing changes for a picture that has none, something for all others, and
// slices still change no bit. How much is printed: the operator's choice, not a bound.
TEST_P(GoldenTest, PaddingTilesLeftOut) {
  const auto golden = Golden::Open(GetParam().golden);
  ASSERT_TRUE(golden) << golden.error().Describe();
  if (!(*golden)->unseen_zero()) return;
  const auto exact = Load(**golden, {});
  DriverOptions options;
  options.load.unseen_rows = UnseenRows::kZero;
  options.load.skip_padding_tiles = true;
  options.load.encode_unit_flops = 4e4;
  const auto loaded = ModelDriver::Load(GetParam().model, options);
  ASSERT_TRUE(exact && loaded);
  int full = 0, padded = 0;
  double worst = 0;
  for (const GoldenCase& c : (*golden)->cases()) {
    if (c.pixels.empty()) continue;
    SCOPED_TRACE(c.id);
    const PromptResult want = exact->Run(c, 1, 64, 0), got = (*loaded)->Run(c, 1, 64, 0);
    EXPECT_EQ((*loaded)->Run(c, 1, 7, 5).logits, got.logits);
    const int most = exact->model().info().max_tiles;
    const bool padding = std::any_of(c.pixels.begin(), c.pixels.end(),
                                     [&](const MediaPixels& p) { return p.used_tiles < most; });
    EXPECT_EQ(got.vision_hidden == want.vision_hidden, !padding);
    ++(padding ? padded : full);
    worst = std::max(worst, Measure(got.logits, want.logits).max_relative);
  }
  EXPECT_GT(padded + full, 0);
  std::printf("  without padding tiles: %d cases with them, %d without, largest error %.2g std\n",
              padded, full, worst);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::ValuesIn(Places()), PlaceName);

}  // namespace
}  // namespace tessera::test
