// tessera-perplexity: what a weight format costs. Runs a text through the product's own path twice,
// with the weights under test and with those they are held against, and prints the perplexity of
// both, the error of the logits and how often the likeliest next token is the same.
//
// Exit code 0: measured. 1: something could not be loaded (one line on stderr). 2: wrong usage.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "server/golden/model_session.h"

namespace tessera::verify {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::filesystem::path model, text;
  std::string weights = "int8", against = "auto", activations = "fp32", isa = "auto";
  int tokens = 4096, window = 512, threads = 0;
};

constexpr std::pair<const char*, WeightFormat> kFormats[] = {
    {"auto", WeightFormat::kAuto}, {"fp32", WeightFormat::kF32},  {"fp16", WeightFormat::kF16},
    {"bf16", WeightFormat::kBF16}, {"int8", WeightFormat::kInt8}, {"int4", WeightFormat::kInt4}};

WeightFormat FormatOf(const std::string& name) {
  for (const auto& [known, format] : kFormats)
    if (name == known) return format;
  return WeightFormat::kAuto;
}

// Natural logarithm of the probability of `id` under one row of logits.
double LogProbability(const float* logits, int64_t vocab, int32_t id) {
  const double most = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(logits[i] - most);
  return logits[id] - most - std::log(sum);
}

struct Sums {
  double log_probability[2] = {};  // under test, held against
  double error = 0, size = 0;      // squares of logit differences and of logits about their mean
  int64_t predicted = 0, same = 0;

  void Add(const float* tested, const float* against, int64_t vocab, int32_t next) {
    log_probability[0] += LogProbability(tested, vocab, next);
    log_probability[1] += LogProbability(against, vocab, next);
    ++predicted;
    same += std::max_element(tested, tested + vocab) - tested ==
            std::max_element(against, against + vocab) - against;
    double mean[2] = {};
    for (int64_t i = 0; i < vocab; ++i) mean[0] += tested[i], mean[1] += against[i];
    for (double& value : mean) value /= static_cast<double>(vocab);
    for (int64_t i = 0; i < vocab; ++i) {
      const double b = against[i] - mean[1], a = tested[i] - mean[0];
      error += (a - b) * (a - b);
      size += b * b;
    }
  }
};

Result<void> Measure(const Options& o) {
  std::ifstream file(o.text);
  if (!file) return Invalid("the text cannot be read", {.field = "text", .value = o.text.string()});
  std::ostringstream text;
  text << file.rdbuf();

  ModelSettings settings{.model = o.model, .longest = o.window + 1};
  settings.backend = {.device = "cpu",
                      .cpu_isa = o.isa,
                      .threads = o.threads,
                      .operand_dtype = o.activations == "bf16" ? DType::kBF16 : DType::kF32};
  settings.weights = FormatOf(o.weights);
  TESSERA_TRY(const std::unique_ptr<ModelSession> tested, ModelSession::Start(settings));
  settings.weights = FormatOf(o.against);
  TESSERA_TRY(const std::unique_ptr<ModelSession> against, ModelSession::Start(settings));
  const int64_t vocab = tested->info().vocab_size;

  const Json nothing = Json::object();
  TESSERA_TRY(const SessionPrompt whole,
              tested->Prepare({{"kind", "text"}, {"text", text.str()}}, nothing, {}, ""));
  const int64_t count = std::min<int64_t>(o.tokens, std::ssize(whole.ids));
  Sums sums;
  for (int64_t begin = 0; begin + 1 < count; begin += o.window) {
    SessionPrompt prompt;
    prompt.ids.assign(whole.ids.begin() + begin,
                      whole.ids.begin() + std::min<int64_t>(begin + o.window, count));
    Probed probed[2];
    TESSERA_TRY([[maybe_unused]] const SessionAnswer one,
                tested->RunProbed(prompt, 1, false, "tested", probed[0]));
    TESSERA_TRY([[maybe_unused]] const SessionAnswer two,
                against->RunProbed(prompt, 1, false, "against", probed[1]));
    for (size_t row = 0; row + 1 < prompt.ids.size(); ++row) {
      const size_t at = row * static_cast<size_t>(vocab);
      sums.Add(probed[0].logits.data() + at, probed[1].logits.data() + at, vocab,
               prompt.ids[row + 1]);
    }
  }
  if (sums.predicted == 0) return Invalid("the text is too short", {.field = "text"});
  const auto predicted = static_cast<double>(sums.predicted);
  const double tested_perplexity = std::exp(-sums.log_probability[0] / predicted),
               against_perplexity = std::exp(-sums.log_probability[1] / predicted);
  fmt::print("{} tokens, windows of {}, {}, operands {}\n", sums.predicted, o.window,
             tested->device(), o.activations);
  fmt::print("perplexity {}: {:.4f}, {}: {:.4f}, change {:+.3f} %\n", o.weights, tested_perplexity,
             o.against, against_perplexity, 100 * (tested_perplexity / against_perplexity - 1));
  fmt::print("logits: relative error {:.5f}; same likeliest token {:.2f} %\n",
             std::sqrt(sums.error / sums.size), 100 * static_cast<double>(sums.same) / predicted);
  return {};
}

int Main(int argc, char** argv) {
  Options o;
  CLI::App app{"Perplexity of a text, and what a weight format changes.", "tessera-perplexity"};
  const auto formats = CLI::IsMember({"auto", "fp32", "fp16", "bf16", "int8", "int4"});
  app.add_option("--model", o.model, "Model directory")->required();
  app.add_option("--text", o.text, "A text file")->required();
  app.add_option("--weights", o.weights, "Under test")->check(formats)->capture_default_str();
  app.add_option("--against", o.against, "Held against")->check(formats)->capture_default_str();
  app.add_option("--activations", o.activations)->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--cpu-isa", o.isa);
  app.add_option("--threads", o.threads);
  app.add_option("--tokens", o.tokens, "Of the text, at most")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  app.add_option("--window", o.window, "Tokens that see each other")
      ->check(CLI::Range(2, 1 << 16))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "tessera-perplexity: %s (see --help)\n",
                 EscapeForLog(error.what()).c_str());
    return 2;
  }
  if (const Result<void> measured = Measure(o); !measured) {
    std::fprintf(stderr, "tessera-perplexity: %s\n", measured.error().Describe().c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace tessera::verify

int main(int argc, char** argv) {
  try {
    return tessera::verify::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera-perplexity: %s\n", tessera::EscapeForLog(error.what()).c_str());
    return 1;
  }
}
