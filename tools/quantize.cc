// tessera-quantize: a Hugging Face directory with its text layers in int4, as compressed-tensors
// writes it (format "pack-quantized"), so that other engines read it too. Scales, clipping and zero
// points are searched for the least error of the outputs on a calibration text, which runs through
// this product's own model. The input is mapped and the result written tensor by tensor.
//
// Left as they are: embedding, head, norms, vision tower and projector.
//
// Exit code 0: written. 1: something could not be read, quantised or written (one line on stderr).
// 2: wrong usage.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "kernels/code_source.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "tools/quantize/calibration.h"
#include "tools/quantize/checkpoint_writer.h"
#include "tools/quantize/group_search.h"

namespace tessera::quantize {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kShardBytes = uint64_t{4} << 30;

struct Options {
  CalibrationSettings calibration;
  std::filesystem::path out;
  int group = 32;
  bool symmetric = false;
};

DType TypeOf(const TensorEntry& entry) {
  return entry.dtype == "F32" ? DType::kF32 : entry.dtype == "F16" ? DType::kF16 : DType::kBF16;
}

std::string StemOf(const TensorEntry& entry) {
  return entry.name.substr(0, entry.name.size() - std::strlen(".weight"));
}

// The matrices of text layers.
Result<std::set<const TensorEntry*>> Chosen(const std::vector<BoundTensor>& tensors, int group) {
  std::set<const TensorEntry*> chosen;
  for (const BoundTensor& tensor : tensors) {
    const TensorRow& row = *tensor.expected.row;
    if (row.rule != PackRule::kMatrix || tensor.expected.group != Group::kText) continue;
    if (!tensor.entry->name.ends_with(".weight") || tensor.entry->shape.size() != 2) continue;
    if (tensor.entry->shape[1] % group != 0)
      return Invalid("the group size does not divide the columns of a matrix",
                     {.field = "group_size",
                      .limit = fmt::format("a divisor of {}", tensor.entry->shape[1]),
                      .value = std::to_string(group),
                      .detail = tensor.entry->name});
    chosen.insert(tensor.entry);
  }
  return chosen;
}

// The tensors of the result, in the order in which they are written.
void Plan(const TensorEntry& entry, bool chosen, const Options& o,
          std::vector<PlannedTensor>& planned) {
  if (!chosen) {
    planned.push_back({entry.name, entry.dtype, entry.shape, entry.bytes()});
    return;
  }
  const std::string stem = StemOf(entry);
  const int64_t n = entry.shape[0], k = entry.shape[1], groups = k / o.group;
  const auto bytes = [](int64_t elements, size_t size) {
    return static_cast<uint64_t>(elements) * size;
  };
  planned.push_back({stem + ".weight_packed", "I32", {n, k / 8}, bytes(n * k / 8, 4)});
  planned.push_back(
      {stem + ".weight_scale", entry.dtype, {n, groups}, bytes(n * groups, SizeOf(TypeOf(entry)))});
  if (!o.symmetric)
    planned.push_back({stem + ".weight_zero_point",
                       "I32",
                       {(n + 7) / 8, groups},
                       bytes((n + 7) / 8 * groups, 4)});
  planned.push_back({stem + ".weight_shape", "I64", {2}, 16});
}

template <typename T>
std::span<const char> Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

Result<void> WriteQuantized(const TensorEntry& entry, std::span<const float> importance,
                            const Options& o, CheckpointWriter& writer) {
  const int64_t n = entry.shape[0], k = entry.shape[1], groups = k / o.group;
  const SourceMatrix source{.data = entry.data, .dtype = TypeOf(entry), .rows = n, .columns = k};
  std::vector<float> row(static_cast<size_t>(k));
  std::vector<uint8_t> codes(row.size());
  std::vector<uint32_t> packed(static_cast<size_t>(n * k / 8));
  std::vector<float> scales(static_cast<size_t>(n * groups));
  std::vector<uint32_t> zeros(static_cast<size_t>((n + 7) / 8 * groups));
  for (int64_t r = 0; r < n; ++r) {
    LoadSourceRows(source, r, 1, row.data());
    for (const float value : row)
      if (!std::isfinite(value))
        return Invalid("a weight is not finite",
                       {.field = entry.name, .value = fmt::format("row {}", r)});
    for (int64_t g = 0; g < groups; ++g) {
      const auto at = static_cast<size_t>(g * o.group), count = static_cast<size_t>(o.group);
      const GroupCodes found =
          SearchGroup(std::span(row).subspan(at, count),
                      importance.empty() ? importance : importance.subspan(at, count), o.symmetric,
                      TypeOf(entry), std::span(codes).subspan(at, count));
      scales[static_cast<size_t>(r * groups + g)] = found.scale;
      zeros[static_cast<size_t>(r / 8 * groups + g)] |= static_cast<uint32_t>(found.zero)
                                                        << r % 8 * 4;
    }
    for (int64_t i = 0; i < k; ++i)
      packed[static_cast<size_t>((r * k + i) / 8)] |= uint32_t{codes[static_cast<size_t>(i)]}
                                                      << i % 8 * 4;
  }
  TESSERA_RETURN_IF_ERROR(writer.Write(Bytes(packed)));
  if (entry.dtype == "F32") {
    TESSERA_RETURN_IF_ERROR(writer.Write(Bytes(scales)));
  } else {
    std::vector<uint16_t> half;
    half.reserve(scales.size());
    for (const float scale : scales)
      half.push_back(entry.dtype == "F16" ? FloatToF16(scale) : FloatToBF16(scale));
    TESSERA_RETURN_IF_ERROR(writer.Write(Bytes(half)));
  }
  if (!o.symmetric) TESSERA_RETURN_IF_ERROR(writer.Write(Bytes(zeros)));
  return writer.Write(Bytes(std::vector<int64_t>{n, k}));
}

Result<Json> ConfigOf(const Options& o) {
  std::ifstream file(o.calibration.model / "config.json");
  Json config = Json::parse(file, nullptr, false);
  if (!config.is_object()) return Invalid("config.json cannot be read");
  config["quantization_config"] = {
      {"config_groups",
       {{"group_0",
         {{"targets", {"Linear"}},
          {"weights",
           {{"num_bits", 4},
            {"type", "int"},
            {"symmetric", o.symmetric},
            {"strategy", "group"},
            {"group_size", o.group},
            {"dynamic", false},
            {"observer", "mse"}}}}}}},
      {"format", "pack-quantized"},
      {"ignore", {"re:.*lm_head", "re:.*vision_model.*", "re:.*multi_modal_projector.*"}},
      {"quant_method", "compressed-tensors"},
      {"quantization_status", "compressed"}};
  return config;
}

// Everything beside the weights: tokenizer, template, processor.
Result<void> CopyRest(const Options& o) {
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(o.calibration.model, error)) {
    const std::string name = item.path().filename().string();
    if (!item.is_regular_file() || name == "config.json" || name.ends_with(".safetensors") ||
        name.ends_with(".safetensors.index.json") || name.ends_with(".bin") ||
        name.ends_with(".gguf") || name.starts_with("."))
      continue;
    std::filesystem::copy_file(item.path(), o.out / name, error);
    if (error) break;
  }
  if (error) return Invalid("a file cannot be copied", {.field = "out", .detail = error.message()});
  return {};
}

Result<void> Quantize(const Options& o) {
  std::error_code error;
  if (std::filesystem::exists(o.out, error) && !std::filesystem::is_empty(o.out, error))
    return Invalid("the output directory is not empty", {.field = "out", .value = o.out.string()});
  TESSERA_TRY(const ModelConfig config, ModelConfig::FromDirectory(o.calibration.model));
  if (config.quantization)
    return Invalid("the checkpoint is quantised already",
                   {.field = "model", .value = config.quantization->Describe()});
  TESSERA_TRY(const Checkpoint checkpoint, Checkpoint::Open(o.calibration.model));
  TESSERA_TRY(const std::vector<BoundTensor> tensors,
              BindTensors(ExpectedTensors(config), checkpoint.tensors()));
  TESSERA_TRY(const std::set<const TensorEntry*> chosen, Chosen(tensors, o.group));
  std::map<std::string, std::vector<float>> importance;
  if (!o.calibration.text.empty()) {
    TESSERA_TRY(importance, Calibrate(o.calibration, tensors));
  }

  std::vector<PlannedTensor> planned;
  for (const TensorEntry* entry : checkpoint.tensors())
    Plan(*entry, chosen.contains(entry), o, planned);
  std::filesystem::create_directories(o.out, error);
  if (error)
    return Invalid("the output directory cannot be made",
                   {.field = "out", .value = o.out.string(), .detail = error.message()});
  CheckpointWriter writer(o.out, std::move(planned), kShardBytes);
  size_t done = 0;
  for (const TensorEntry* entry : checkpoint.tensors()) {
    if (!chosen.contains(entry)) {
      TESSERA_RETURN_IF_ERROR(
          writer.Write({reinterpret_cast<const char*>(entry->data), entry->bytes()}));
    } else {
      const auto found = importance.find(entry->name);
      TESSERA_RETURN_IF_ERROR(WriteQuantized(
          *entry, found == importance.end() ? std::span<const float>() : found->second, o, writer));
      std::fprintf(stderr, "\r%zu of %zu matrices", ++done, chosen.size());
    }
    checkpoint.Release(*entry);
  }
  TESSERA_RETURN_IF_ERROR(writer.Finish());
  TESSERA_TRY(const Json json, ConfigOf(o));
  std::ofstream(o.out / "config.json") << json.dump(2) << '\n';
  TESSERA_RETURN_IF_ERROR(CopyRest(o));
  std::fprintf(stderr, "\n");
  fmt::print("{} matrices in int4, groups of {}, {}, {}; {:.1f} MB of weights\n", chosen.size(),
             o.group, o.symmetric ? "symmetric" : "zero points",
             importance.empty() ? "not calibrated" : "calibrated",
             static_cast<double>(writer.bytes()) / 1e6);
  return {};
}

int Main(int argc, char** argv) {
  Options o;
  CLI::App app{"Writes a checkpoint whose text layers are int4 (compressed-tensors).",
               "tessera-quantize"};
  app.add_option("--model", o.calibration.model, "Hugging Face directory")->required();
  app.add_option("--out", o.out, "Directory to write, new or empty")->required();
  app.add_option("--calibration", o.calibration.text, "A text like those to be served");
  app.add_option("--tokens", o.calibration.tokens, "Of the calibration text, at most")
      ->check(CLI::Range(64, 1 << 24))
      ->capture_default_str();
  app.add_option("--window", o.calibration.window, "Tokens that see each other")
      ->check(CLI::Range(16, 1 << 16))
      ->capture_default_str();
  app.add_option("--group-size", o.group, "Columns that share a scale")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app.add_flag("--symmetric", o.symmetric, "No zero points");
  app.add_option("--cpu-isa", o.calibration.backend.cpu_isa,
                 "Tier of the calibration: auto, reference, avx2, avx512, amx");
  app.add_option("--threads", o.calibration.backend.threads, "0: quota and affinity");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "tessera-quantize: %s (see --help)\n", EscapeForLog(error.what()).c_str());
    return 2;
  }
  if (const Result<void> done = Quantize(o); !done) {
    std::fprintf(stderr, "tessera-quantize: %s\n", done.error().Describe().c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace tessera::quantize

int main(int argc, char** argv) {
  try {
    return tessera::quantize::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera-quantize: %s\n", tessera::EscapeForLog(error.what()).c_str());
    return 1;
  }
}
