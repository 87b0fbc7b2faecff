// tessera-bench-engine: what the engine itself costs, on a model of a real shape with random
// weights.
//
//   overhead   the part of a decode step that is not the model: plan, batch, draw, text, events
//   mixed      steps of running streams while a long prompt comes in, against steps without it
//   speculate  tokens per second with and without guesses, on a prompt that repeats itself
//
// One thread steps EngineCore by hand, so that what is measured is the engine and not its waiting.
// Figures are medians over steps.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/factory.h"
#include "model/model.h"
#include "server/engine/engine_core.h"
#include "server/engine/model_runner.h"
#include "text/streaming_decoder.h"
#include "text/tokenizer.h"

namespace tessera {
namespace {

struct Flags {
  std::string model;
  std::string cpu_isa = "auto";
  int threads = 0;
  int steps = 64;
  std::string section = "all";
  std::string kv_dtype = "bf16";
  int streams = 8;
  bool pin = false;
};

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Hands steps on and keeps what they took.
class TimedRunner final : public ModelRunner {
 public:
  // `inner` outlives it.
  explicit TimedRunner(ModelRunner& inner) : inner_(&inner) {}
  const ModelInfo& info() const override { return inner_->info(); }
  int self_pages() const override { return inner_->self_pages(); }
  int cross_pages() const override { return inner_->cross_pages(); }
  int max_rows() const override { return inner_->max_rows(); }
  int max_logits_rows() const override { return inner_->max_logits_rows(); }
  int encode_slots() const override { return inner_->encode_slots(); }
  EncodePlan PlanEncode(const MediaPixels& pixels) const override {
    return inner_->PlanEncode(pixels);
  }
  StepHandle Submit(const Step& step) override {
    rows = step.batch.rows();
    begin_ = Now();
    return inner_->Submit(step);
  }
  StepResult Wait(StepHandle handle) override {
    StepResult result = inner_->Wait(handle);
    seconds = Now() - begin_;
    sample_seconds = result.sample_seconds;
    return result;
  }

  // Of the last step.
  int64_t rows = 0;
  double seconds = 0;
  double sample_seconds = 0;

 private:
  ModelRunner* const inner_;
  double begin_ = 0;
};

// A random model's ids mean nothing to its small tokenizer: they are folded into what it knows.
class FoldedDecoder final : public TextDecoder {
 public:
  explicit FoldedDecoder(std::shared_ptr<const Tokenizer> tokenizer)
      : size_(tokenizer->vocab_size()), decoder_(std::move(tokenizer), true) {}
  std::string Push(int32_t id) override { return decoder_.Push(id % size_); }
  std::string Flush() override { return decoder_.Flush(); }

 private:
  const int32_t size_;
  StreamingDecoder decoder_;
};

class Bench {
 public:
  explicit Bench(const Flags& flags) : flags_(flags) {}

  Result<void> Load() {
    BackendOptions options{.device = "cpu",
                           .cpu_isa = flags_.cpu_isa,
                           .threads = flags_.threads,
                           .pin_threads = flags_.pin};
    TESSERA_TRY(backend_, MakeBackend(options));
    const DType kv_dtype = flags_.kv_dtype == "int8"   ? DType::kI8
                           : flags_.kv_dtype == "fp32" ? DType::kF32
                                                       : DType::kBF16;
    TESSERA_TRY(auto model, LoadModel(flags_.model, *backend_, {.kv_dtype = kv_dtype}));
    model_ = std::move(model);
    TESSERA_TRY(tokenizer_, Tokenizer::Load(flags_.model));
    fmt::print("engine: {}, {} threads, {}, {:.0f} M parameters\n", backend_->tier(),
               backend_->threads(), Name(model_->weight_format()),
               static_cast<double>(model_->info().parameters) / 1e6);
    return {};
  }

  // A new engine on the same runner.
  Result<void> Start(const EngineOptions& engine) {
    core_.reset();
    if (local_ == nullptr) {
      ModelRunnerOptions runner;
      runner.pools.self_pages = 1024;
      runner.max_rows = 512;
      TESSERA_TRY(local_, MakeModelRunner(std::move(backend_), model_, runner));
    }
    auto timed = std::make_unique<TimedRunner>(*local_);
    runner_ = timed.get();
    core_ = std::make_unique<EngineCore>(
        engine, std::move(timed),
        [tokenizer = tokenizer_](bool) { return std::make_unique<FoldedDecoder>(tokenizer); },
        clock_);
    return {};
  }

  std::shared_ptr<EventStream> Ask(int prompt, int max_tokens, const SamplingParams& sampling) {
    auto spec = std::make_shared<PreparedRequest>();
    for (int i = 0; i < prompt; ++i)
      spec->prompt.push_back(
          static_cast<int32_t>(random_() % static_cast<uint64_t>(model_->info().vocab_size)));
    spec->sampling = sampling;
    spec->sampling.seed = random_();
    spec->max_tokens = max_tokens;
    spec->arrival = clock_.Now();
    spec->deadline = spec->arrival + std::chrono::hours(1);
    auto stream = std::make_shared<EventStream>();
    core_->Add(++last_id_, std::move(spec), stream);
    streams_.push_back(stream);
    return stream;
  }
  // Wall time of one step; readers take their events outside it.
  double Step() {
    const double begin = Now();
    core_->RunOnce();
    const double seconds = Now() - begin;
    for (const auto& stream : streams_) {
      while (stream->Pop()) {
      }
    }
    return seconds;
  }
  // Steps of `streams` until one of them alone is decoding, and the median of the next ones.
  double Settle(int streams, int tokens, const SamplingParams& sampling) {
    for (int i = 0; i < streams; ++i) Ask(64, tokens, sampling);
    while (Step(), runner_->rows != streams) {
    }
    std::vector<double> alone;
    for (int step = 0; step < 24; ++step) alone.push_back(Step());
    return Median(alone);
  }
  void Mixed(const char* name, int streams, int prompt, const SamplingParams& sampling) {
    const double alone = Settle(streams, 1 << 12, sampling);
    const auto stream = Ask(prompt, 2, sampling);
    std::vector<double> mixed;
    int64_t rows = 0;
    const double begin = Now();
    while (rows < prompt && mixed.size() < 2000) {
      mixed.push_back(Step());
      rows += runner_->rows - streams;
    }
    const double first_token = Now() - begin;
    Finish();
    std::sort(mixed.begin(), mixed.end());
    const auto share = [&](double part) {
      return mixed[static_cast<size_t>(part * static_cast<double>(mixed.size() - 1))] / alone;
    };
    fmt::print(
        "  {:9} {} streams, prompt of {}: step {:7.3f} ms alone; with the prompt median "
        "{:.2f} x, p90 {:.2f} x, worst {:.2f} x; prompt done in {:.2f} s and {} steps\n",
        name, streams, prompt, alone * 1e3, share(0.5), share(0.9), share(1), first_token,
        mixed.size());
  }

  // Greedy answers of random weights soon repeat themselves, which is what guesses live on.
  void Speculate(const char* name, int streams, int tokens, const SamplingParams& sampling) {
    for (int i = 0; i < streams; ++i) Ask(64, tokens, sampling);
    const double begin = Now();
    int64_t steps = 0;
    while (core_->requests() > 0) {
      Step();
      ++steps;
    }
    const double seconds = Now() - begin;
    const EngineStats stats = core_->stats();
    fmt::print(
        "  {:12} {} streams: {:7.1f} tokens/s, {:.2f} tokens a step and stream, {} of {} "
        "guesses right\n",
        name, streams, streams * tokens / seconds,
        static_cast<double>(tokens) / static_cast<double>(steps), stats.accepted_tokens,
        stats.drafted_tokens);
    streams_.clear();
  }

  void Finish() {
    core_->EndAll(Error{.code = ErrorCode::kCancelled, .what = "the bench is done"});
    streams_.clear();
  }

  void Overhead(const char* name, int streams, const SamplingParams& sampling) {
    for (int i = 0; i < streams; ++i) Ask(64, flags_.steps + 16, sampling);
    while (Step(), runner_->rows != streams) {
    }
    std::vector<double> wall, model, draw, rest;
    for (int step = 0; step < flags_.steps; ++step) {
      wall.push_back(Step());
      draw.push_back(runner_->sample_seconds);
      rest.push_back(wall.back() - runner_->seconds);
      model.push_back(runner_->seconds - draw.back());
    }
    Finish();
    const double step = Median(wall), overhead = Median(draw) + Median(rest);
    fmt::print(
        "  {:9} {:2} streams: step {:7.3f} ms, model {:7.3f} ms, draw {:6.1f} us, plan to "
        "events {:6.1f} us: overhead {:.2f} %\n",
        name, streams, step * 1e3, Median(model) * 1e3, Median(draw) * 1e6, Median(rest) * 1e6,
        100 * overhead / step);
  }

 private:
  const Flags flags_;
  std::unique_ptr<Backend> backend_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  SystemClock clock_;
  std::unique_ptr<ModelRunner> local_;
  TimedRunner* runner_ = nullptr;  // owned by core_
  std::unique_ptr<EngineCore> core_;
  std::vector<std::shared_ptr<EventStream>> streams_;
  std::mt19937_64 random_{1};
  uint64_t last_id_ = 0;
};

Result<void> Run(const Flags& flags) {
  Bench bench(flags);
  TESSERA_RETURN_IF_ERROR(bench.Load());
  const auto wants = [&](const char* name) {
    return flags.section == "all" || flags.section == name;
  };
  SamplingParams greedy, drawn;
  greedy.temperature = 0;
  // Random weights give almost equal logits; this temperature makes them as peaked as a trained
  // model's.
  drawn.temperature = 0.05f;
  drawn.top_p = 0.95f;
  if (wants("overhead")) {
    TESSERA_RETURN_IF_ERROR(bench.Start({}));
    fmt::print("overhead (goal: under 3 % of a decode step at 8 streams of a 135M shape)\n");
    for (const int streams : {1, flags.streams}) {
      bench.Overhead("greedy", streams, greedy);
      bench.Overhead("top-p", streams, drawn);
    }
  }
  if (wants("mixed")) {
    fmt::print("mixed (goal: steps of running streams at most 2 x as long)\n");
    TESSERA_RETURN_IF_ERROR(bench.Start({.slowdown = 0, .prefix_cache = false}));
    bench.Mixed("unpaced", flags.streams, 1024, greedy);
    TESSERA_RETURN_IF_ERROR(bench.Start({.prefix_cache = false}));
    bench.Mixed("paced", flags.streams, 1024, greedy);
    bench.Mixed("again", flags.streams, 1024, greedy);
  }
  if (wants("speculate")) {
    fmt::print("speculate (the same words; greedy answers of random weights soon repeat)\n");
    for (const int streams : {1, flags.streams}) {
      for (const int guesses : {0, 4, 8}) {
        TESSERA_RETURN_IF_ERROR(bench.Start({.speculate = guesses, .prefix_cache = false}));
        bench.Speculate(fmt::format("{} guesses", guesses).c_str(), streams, 2 * flags.steps,
                        greedy);
      }
    }
  }
  return {};
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("What the engine costs beside the model");
  app.add_option("--model", flags.model, "directory, e.g. from make_random_model.py")->required();
  app.add_option("--cpu-isa", flags.cpu_isa, "tier");
  app.add_option("--threads", flags.threads, "0: what may be used");
  app.add_option("--steps", flags.steps, "decode steps a figure")->check(CLI::Range(1, 100000));
  app.add_option("--section", flags.section, "all, overhead, mixed or speculate")
      ->check(CLI::IsMember({"all", "overhead", "mixed", "speculate"}));
  app.add_option("--kv-dtype", flags.kv_dtype, "fp32, bf16 or int8")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}));
  app.add_flag("--pin-threads", flags.pin, "a processor for each compute thread");
  app.add_option("--streams", flags.streams, "running streams")->check(CLI::Range(1, 32));
  CLI11_PARSE(app, argc, argv);
  const Result<void> result = Run(flags);
  if (result) return 0;
  std::fprintf(stderr, "tessera-bench-engine: %s\n", result.error().Describe().c_str());
  return 1;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) { return tessera::Main(argc, argv); }
