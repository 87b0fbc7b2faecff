// tessera-verify: holds models and parts to their goldens (docs/fidelity.md).
//
// Exit code 0: everything passed. 1: something failed, or could not be loaded (one line on stderr).
// 2: wrong usage.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

#include "server/golden/model_cases.h"
#include "server/golden/report.h"
#include "tools/verify/cases.h"

namespace tessera::verify {
namespace {

struct Options {
  ModelCaseOptions model;
  std::filesystem::path tokenizer, tokenizer_cases, chat_cases, image_cases, images;
  std::string weights = "auto", activations = "fp32";
  bool json = false, all = false;
};

constexpr std::pair<const char*, WeightFormat> kFormats[] = {
    {"auto", WeightFormat::kAuto}, {"fp32", WeightFormat::kF32},  {"fp16", WeightFormat::kF16},
    {"bf16", WeightFormat::kBF16}, {"int8", WeightFormat::kInt8}, {"int4", WeightFormat::kInt4}};

void Declare(CLI::App& app, Options& o) {
  app.set_version_flag("--version", TESSERA_VERSION);
  app.add_option("--model", o.model.model, "Model directory, its golden beside it")->group("Model");
  app.add_option("--golden", o.model.golden, "Directory of cases.json and golden.safetensors")
      ->group("Model");
  app.add_option("--device", o.model.backend.device, "auto, cpu, cuda, cuda-emulated")
      ->capture_default_str()
      ->group("Model");
  app.add_flag("--batch-invariant", o.model.backend.batch_invariant,
               "CUDA: own products, the same bits in any company")
      ->group("Model");
  app.add_option("--weights", o.weights, "How matrices are kept")
      ->check(CLI::IsMember({"auto", "fp32", "fp16", "bf16", "int8", "int4"}))
      ->capture_default_str()
      ->group("Model");
  app.add_option("--activations", o.activations, "How matrix operands are rounded")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str()
      ->group("Model");
  app.add_option("--cpu-isa", o.model.backend.cpu_isa, "Instruction tier of kernels and pictures")
      ->check(CLI::IsMember({"auto", "reference", "avx2", "avx512", "amx"}))
      ->capture_default_str()
      ->group("Model");
  app.add_option("--threads", o.model.backend.threads, "0: quota and affinity")
      ->capture_default_str()
      ->group("Model");
  app.add_option("--tokenizer", o.tokenizer, "Directory of tokenizer.json")->group("Parts");
  app.add_option("--tokenizer-cases", o.tokenizer_cases, "Tokenizer cases")->group("Parts");
  app.add_option("--chat-cases", o.chat_cases, "Chat template cases")->group("Parts");
  app.add_option("--image-cases", o.image_cases, "Directory of expected.json")->group("Parts");
  app.add_option("--images", o.images, "Directory of the pictures")->group("Parts");
  app.add_flag("--json", o.json, "Everything as JSON");
  app.add_flag("--all", o.all, "Print passes as well as failures");
}

int Usage(const char* message) {
  std::fprintf(stderr, "tessera-verify: %s (see --help)\n", message);
  return 2;
}

int Main(int argc, char** argv) {
  Options o;
  CLI::App app{"Holds a model, a tokenizer, a chat template or an image processor to its golden.",
               "tessera-verify"};
  Declare(app, o);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    return Usage(EscapeForLog(error.what()).c_str());
  }
  const bool tokenizer_part = !o.tokenizer_cases.empty() || !o.chat_cases.empty();
  if (tokenizer_part && o.tokenizer.empty())
    return Usage("--tokenizer-cases and --chat-cases need --tokenizer DIR");
  if (!o.tokenizer.empty() && !tokenizer_part)
    return Usage("--tokenizer needs --tokenizer-cases or --chat-cases");
  if (o.image_cases.empty() != o.images.empty())
    return Usage("--image-cases and --images belong together");
  if (o.model.model.empty() && !o.model.golden.empty()) return Usage("--golden needs --model DIR");
  if (o.model.model.empty() && !tokenizer_part && o.image_cases.empty())
    return Usage("nothing to verify: give --model DIR");
  for (const auto& [name, format] : kFormats) {
    if (o.weights == name) o.model.weights = format;
  }
  o.model.backend.operand_dtype = o.activations == "bf16" ? DType::kBF16 : DType::kF32;

  Report report;
  if (!o.tokenizer_cases.empty()) CheckTokenizerCases(o.tokenizer, o.tokenizer_cases, report);
  if (!o.chat_cases.empty()) CheckChatCases(o.tokenizer, o.chat_cases, report);
  if (!o.image_cases.empty())
    CheckImageCases(o.image_cases, o.images, MediaTierOf(o.model.backend.cpu_isa), report);
  if (!o.model.model.empty()) {
    if (const Result<void> checked = CheckModelCases(o.model, report); !checked) {
      std::fprintf(stderr, "tessera-verify: %s\n", checked.error().Describe().c_str());
      return 1;
    }
  }
  std::fputs((o.json ? report.ToJson() : report.ToText(o.all || !o.model.model.empty())).c_str(),
             stdout);
  return report.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera::verify

int main(int argc, char** argv) {
  try {
    return tessera::verify::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera-verify: %s\n", tessera::EscapeForLog(error.what()).c_str());
    return 1;
  }
}
