// Decision 5 on real models: a request's ids and log-probabilities, bit for bit, whatever the
// company, the chunks, the caches and the preemptions. On the committed tiny models and, where it
// is there, on the demo model.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include "kernels/factory.h"
#include "server/engine/engine_core.h"
#include "server/engine/model_runner.h"
#include "tests/support/answer.h"
#include "tests/support/fake_runner.h"

namespace tessera::testing {
namespace {

struct Setting {
  std::string name;
  std::string directory;
  UnseenRows unseen_rows;
  DType operands;
};
void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.name; }

struct Limits {
  int self_pages = 2000;
  int max_rows = 512;
  double encode_budget = 4e9;
  bool prefix_cache = true;
  int speculate = 0;
  int cross_pictures = 24;
  bool run_behind = false;
};

using Specs = std::vector<std::shared_ptr<PreparedRequest>>;
// Ids and the bits of their log-probabilities, of all choices.
using Words = std::vector<std::vector<std::pair<int32_t, uint32_t>>>;

class RealModel : public ::testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(std::filesystem::path(GetParam().directory) / "config.json")) {
      FAIL() << "no model in " << GetParam().directory;
    }
    BackendOptions options{.device = "cpu"};
    options.operand_dtype = GetParam().operands;
    Result<std::unique_ptr<Backend>> backend = MakeBackend(options);
    ASSERT_TRUE(backend) << backend.error().Describe();
    Result<std::unique_ptr<const Model>> model =
        LoadModel(GetParam().directory, **backend,
                  {.unseen_rows = GetParam().unseen_rows, .kv_dtype = GetParam().operands});
    ASSERT_TRUE(model) << model.error().Describe();
    info_ = (*model)->info();
  }

  std::unique_ptr<EngineCore> Core(const Limits& limits) {
    BackendOptions options{.device = "cpu"};
    options.operand_dtype = GetParam().operands;
    std::unique_ptr<Backend> backend = *MakeBackend(options);
    std::shared_ptr<const Model> model =
        *LoadModel(GetParam().directory, *backend,
                   {.unseen_rows = GetParam().unseen_rows, .kv_dtype = GetParam().operands});
    ModelRunnerOptions runner;
    runner.pools = {
        .self_pages = limits.self_pages,
        .cross_pages = info_.has_vision() ? info_.max_tiles * limits.cross_pictures : 0};
    runner.max_rows = limits.max_rows;
    runner.max_logits_rows = 32;
    runner.run_behind = limits.run_behind;
    EngineOptions engine;
    engine.encode_budget_flops = limits.encode_budget;
    engine.prefix_cache = limits.prefix_cache;
    engine.speculate = limits.speculate;
    engine.slowdown = 0;  // what a step takes in is then a matter of counts, not of the clock
    return std::make_unique<EngineCore>(
        engine, *MakeModelRunner(std::move(backend), std::move(model), runner), FakeDecoders(),
        clock_);
  }

  Media Picture(std::mt19937_64& random, int32_t mark) {
    auto pixels = std::make_shared<MediaPixels>();
    pixels->height = info_.tile_height;
    pixels->width = info_.tile_width;
    // Aspect ratio ids number (high, wide) row by row over what fits max_tiles.
    std::vector<std::pair<int, int>> shapes;
    for (int high = 1; high <= info_.max_tiles; ++high) {
      for (int wide = 1; high * wide <= info_.max_tiles; ++wide) shapes.emplace_back(high, wide);
    }
    const size_t shape =
        random() % std::min<size_t>(shapes.size(), static_cast<size_t>(info_.max_aspect_ratio_id));
    pixels->tiles_high = shapes[shape].first;
    pixels->tiles_wide = shapes[shape].second;
    pixels->used_tiles = pixels->tiles_high * pixels->tiles_wide;
    pixels->aspect_ratio_id = static_cast<int>(shape) + 1;
    const uint64_t seed = random();
    std::mt19937_64 content(seed);
    pixels->tiles.resize(static_cast<size_t>(pixels->used_tiles) * 3 *
                         static_cast<size_t>(pixels->height * pixels->width));
    for (uint8_t& level : pixels->tiles) level = static_cast<uint8_t>(content());
    for (auto& channel : pixels->lut) {
      for (int level = 0; level < 256; ++level)
        channel[static_cast<size_t>(level)] = (static_cast<float>(level) - 120.0f) / 70.0f;
    }
    return {.digest = FakeDigest(seed), .pixels = std::move(pixels), .mark = mark};
  }

  std::shared_ptr<PreparedRequest> Request(uint64_t seed, int longest) {
    std::mt19937_64 random(seed);
    auto request =
        FakeRequest(seed, static_cast<int>(20 + random() % static_cast<uint64_t>(longest)));
    for (int32_t& id : request->prompt) {
      do {
        id = static_cast<int32_t>(random() % static_cast<uint64_t>(info_.vocab_size));
      } while (id == info_.image_token_id);
    }
    request->end_ids.clear();
    request->max_tokens = static_cast<int32_t>(8 + random() % 8);
    request->sampling.logprobs = 2;
    request->sampling.seed = seed;
    request->sampling.temperature = seed % 2 ? 0.8f : 0.0f;
    if (seed % 3 == 0) request->sampling.repetition_penalty = 1.1f;
    if (!info_.has_vision() || seed % 4 == 3) return request;
    for (int32_t mark = static_cast<int32_t>(random() % 12); request->media.size() < 2;
         mark += seed % 5 == 0 ? 1 : 7) {
      request->media.push_back(Picture(random, mark));
      request->prompt[static_cast<size_t>(mark)] = info_.image_token_id;
      if (seed % 2) break;
    }
    return request;
  }

  // Runs them together, each after `stagger` steps; everybody's words.
  std::vector<Words> Run(EngineCore& core, const Specs& specs, int stagger = 0) {
    std::vector<std::shared_ptr<EventStream>> streams;
    std::vector<Answer> answers(specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      const Result<void> checked = CheckRequest(*specs[i], core.runner(), core.max_running());
      EXPECT_TRUE(checked) << checked.error().Describe();
      streams.push_back(std::make_shared<EventStream>());
      core.Add(++last_id_, specs[i], streams.back());
      for (int step = 0; step < stagger; ++step) core.RunOnce();
    }
    while (core.RunOnce()) core.CheckInvariants();
    std::vector<Words> words;
    for (size_t i = 0; i < specs.size(); ++i) {
      answers[i].Drain(*streams[i]);
      EXPECT_TRUE(answers[i].end && !answers[i].end->error);
      Words& all = words.emplace_back();
      for (const auto& [choice, answer] : answers[i].choices) {
        auto& line = all.emplace_back();
        for (const TokenOut& token : answer.tokens) {
          uint32_t bits;
          std::memcpy(&bits, &token.logprob, sizeof bits);
          line.emplace_back(token.id, bits);
        }
      }
    }
    return words;
  }
  std::vector<Words> Alone(const Specs& specs) {
    std::vector<Words> words;
    std::unique_ptr<EngineCore> core = Core({.prefix_cache = false});
    for (const auto& spec : specs) words.push_back(Run(*core, {spec})[0]);
    return words;
  }
  Specs Sixteen() {
    Specs specs;
    for (uint64_t seed = 1; seed <= 16; ++seed) specs.push_back(Request(seed, 60));
    return specs;
  }

  SystemClock clock_;
  ModelInfo info_;
  uint64_t last_id_ = 0;
};

TEST_P(RealModel, CompanyChangesNoBit) {
  const Specs specs = Sixteen();
  const std::vector<Words> alone = Alone(specs);
  std::unique_ptr<EngineCore> core = Core({});
  EXPECT_EQ(Run(*core, specs), alone);
  core = Core({.encode_budget = 1});
  EXPECT_EQ(Run(*core, specs, 2), alone);
}

TEST_P(RealModel, ChunksChangeNoBit) {
  const Specs specs = Sixteen();
  const std::vector<Words> whole = Alone(specs);
  std::unique_ptr<EngineCore> core = Core({.max_rows = 7, .prefix_cache = false});
  EXPECT_EQ(Run(*core, specs), whole);
}

TEST_P(RealModel, PreemptionChangesNoBit) {
  Specs specs = Sixteen();
  for (auto& spec : specs) spec->max_tokens = 40;
  const std::vector<Words> undisturbed = Alone(specs);
  std::unique_ptr<EngineCore> core = Core({.self_pages = 16, .cross_pictures = 4});
  EXPECT_EQ(Run(*core, specs), undisturbed);
  EXPECT_GT(core->stats().preemptions, 2);
}

// Guesses are verified as rows of a chunk; taken ones are the bits of steps of their own.
TEST_P(RealModel, SpeculationChangesNoBit) {
  Specs specs = Sixteen();
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i]->max_tokens = 48;
    if (i % 5 == 0) specs[i]->n = 2;
    // A prompt that repeats itself, as code and extraction do.
    std::vector<int32_t>& prompt = specs[i]->prompt;
    const std::vector<int32_t> tail(prompt.end() - 8, prompt.end());
    prompt.insert(prompt.end(), tail.begin(), tail.end());
  }
  const std::vector<Words> plain = Alone(specs);
  std::unique_ptr<EngineCore> core = Core({.speculate = 6});
  EXPECT_EQ(Run(*core, specs), plain);
  const EngineStats roomy = core->stats();
  core = Core({.self_pages = 16, .speculate = 6, .cross_pictures = 4});
  EXPECT_EQ(Run(*core, specs, 1), plain);
  EXPECT_GT(core->stats().preemptions, 0);
  EXPECT_GT(roomy.drafted_tokens, 20);
  EXPECT_GT(roomy.accepted_tokens, 0);
}

// Steps are submitted before the tokens of the step before them are drawn.
TEST_P(RealModel, RunningAheadChangesNoBit) {
  Specs specs = Sixteen();
  specs.resize(6);
  for (size_t i = 0; i < specs.size(); ++i) {
    specs[i]->max_tokens = 12;
    if (i % 5 == 0) specs[i]->n = 2;
    if (i % 4 == 1) specs[i]->min_tokens = 6;
    specs[i]->sampling.repetition_penalty = 1;  // penalties count tokens: step by step
    specs[i]->sampling.frequency_penalty = specs[i]->sampling.presence_penalty = 0;
    specs[i]->end_ids = {specs[i]->prompt[0]};
  }
  const std::vector<Words> plain = Alone(specs);
  std::unique_ptr<EngineCore> core = Core({.run_behind = true});
  EXPECT_EQ(Run(*core, specs), plain);
  EXPECT_GT(core->stats().steps_ahead, 5);
  core = Core({.self_pages = 16, .cross_pictures = 4, .run_behind = true});
  EXPECT_EQ(Run(*core, specs, 1), plain);
  specs[2]->sampling.repetition_penalty = 1.3f;
  core = Core({.run_behind = true});
  EXPECT_EQ(Run(*core, specs), Alone(specs));
}

TEST_P(RealModel, CachesChangeNoBit) {
  const Specs specs = Sixteen();
  const std::vector<Words> cold = Alone(specs);
  std::unique_ptr<EngineCore> core = Core({});
  EXPECT_EQ(Run(*core, specs), cold);
  const EngineStats before = core->stats();
  EXPECT_EQ(Run(*core, specs), cold);
  EXPECT_GT(core->stats().cached_tokens, before.cached_tokens);
  EXPECT_EQ(core->stats().images_encoded, before.images_encoded);
}

TEST_P(RealModel, ChoicesOfOnePromptAreThoseOfItsSeed) {
  auto request = Request(5, 60);
  request->n = 4;
  request->sampling.temperature = 5;
  std::unique_ptr<EngineCore> roomy = Core({});
  const Words words = Run(*roomy, {request})[0];
  ASSERT_EQ(words.size(), 4u);
  EXPECT_NE(words[0], words[1]);
  std::unique_ptr<EngineCore> chunked = Core({.max_rows = 9});
  EXPECT_EQ(Run(*chunked, {Request(4, 60), request, Request(6, 60)})[1], words);
}

std::vector<Setting> Settings() {
  const std::string root = std::string(TESSERA_SOURCE_DIR) + "/";
  std::vector<Setting> settings;
  for (const DType operands : {DType::kF32, DType::kBF16}) {
    const std::string suffix = operands == DType::kF32 ? "_fp32" : "_bf16";
    settings.push_back({"demo_zero" + suffix, root + "models/demo", UnseenRows::kZero, operands});
    settings.push_back(
        {"llama" + suffix, root + "tests/model/data/llama-llama3", UnseenRows::kZero, operands});
    settings.push_back(
        {"odd_zero" + suffix, root + "tests/model/data/mllama-odd", UnseenRows::kZero, operands});
    settings.push_back({"odd_attend" + suffix, root + "tests/model/data/mllama-odd",
                        UnseenRows::kAttend, operands});
    settings.push_back({"eight_tiles_attend" + suffix, root + "tests/model/data/mllama-eight-tiles",
                        UnseenRows::kAttend, operands});
  }
  return settings;
}

INSTANTIATE_TEST_SUITE_P(All, RealModel, ::testing::ValuesIn(Settings()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tessera::testing
