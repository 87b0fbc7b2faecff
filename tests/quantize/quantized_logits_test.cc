// tessera-quantize from end to end: a small random model, written as codes by the program, loaded
// as the server loads it, and held to the logits of the model that those codes stand for.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>

#include "kernels/code_source.h"
#include "model/config.h"
#include "model/tensor_table.h"
#include "tests/model/model_driver.h"
#include "tests/model/temp_dir.h"
#include "tools/quantize/checkpoint_writer.h"

namespace tessera::quantize {
namespace {

namespace fs = std::filesystem;
using test::TempDir;

constexpr int kLayers = 2, kVocab = 96;

std::string Config(const std::string& dtype) {
  return fmt::format(
      R"({{"architectures":["LlamaForCausalLM"],"model_type":"llama","torch_dtype":"{}",
      "hidden_size":128,"intermediate_size":256,"num_hidden_layers":{},"num_attention_heads":4,
      "num_key_value_heads":2,"vocab_size":{},"max_position_embeddings":128,"hidden_act":"silu",
      "rms_norm_eps":1e-5,"tie_word_embeddings":false,"bos_token_id":1,"eos_token_id":2}})",
      dtype, kLayers, kVocab);
}

using Numbers = std::function<std::vector<float>(const ExpectedTensor&)>;

// All tensors of the config in `directory`, of the dtype, their numbers from `numbers`.
void Write(const fs::path& directory, const std::string& dtype, const Numbers& numbers) {
  std::ofstream(directory / "config.json") << Config(dtype == "F32" ? "float32" : "bfloat16");
  const auto config = ModelConfig::FromDirectory(directory);
  ASSERT_TRUE(config) << config.error().Describe();
  const std::vector<ExpectedTensor> tensors = ExpectedTensors(*config);
  const uint64_t size = dtype == "F32" ? 4 : 2;
  std::vector<PlannedTensor> planned;
  for (const ExpectedTensor& tensor : tensors)
    if (tensor.required)
      planned.push_back({tensor.names.front(), dtype, tensor.shape,
                         static_cast<uint64_t>(tensor.elements()) * size});
  CheckpointWriter writer(directory, std::move(planned), uint64_t{1} << 30);
  for (const ExpectedTensor& tensor : tensors) {
    if (!tensor.required) continue;
    const std::vector<float> values = numbers(tensor);
    ASSERT_EQ(static_cast<int64_t>(values.size()), tensor.elements());
    std::vector<uint16_t> half;
    for (const float value : values) half.push_back(FloatToBF16(value));
    const auto* bytes = dtype == "F32" ? reinterpret_cast<const char*>(values.data())
                                       : reinterpret_cast<const char*>(half.data());
    ASSERT_TRUE(writer.Write({bytes, values.size() * size}));
  }
  ASSERT_TRUE(writer.Finish());
}

Numbers RandomNumbers() {
  auto random = std::make_shared<std::mt19937>(11);
  return [random](const ExpectedTensor& tensor) {
    const bool vector = tensor.shape.size() == 1;
    std::normal_distribution<float> normal(
        vector ? 1.0f : 0.0f,
        vector ? 0.1f : 1.0f / std::sqrt(static_cast<float>(tensor.shape.back())));
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    for (float& value : values) value = normal(*random);
    return values;
  };
}

// The same model with the numbers that codes stand for, as fp32.
void WriteDequantised(const fs::path& quantised, const fs::path& directory) {
  const ModelConfig config = ModelConfig::FromDirectory(quantised).value();
  const Checkpoint checkpoint = Checkpoint::Open(quantised).value();
  const std::vector<BoundTensor> bound =
      BindTensors(ExpectedTensors(config), checkpoint.tensors(), config.quantization).value();
  int codes = 0;
  Write(directory, "F32", [&](const ExpectedTensor& tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    for (const BoundTensor& found : bound) {
      if (found.expected.names.front() != tensor.names.front()) continue;
      const int64_t rows = tensor.shape.front(), columns = tensor.elements() / rows;
      SourceMatrix source{.rows = rows, .columns = columns};
      std::unique_ptr<const CodeSource> decoded;
      if (found.quantized) {
        decoded = MakeCodeSource(found.quantized, rows, columns, *config.quantization).value();
        source.codes = decoded.get();
        ++codes;
      } else {
        source.data = found.entry->data;
        source.dtype = found.entry->dtype == "F32" ? DType::kF32 : DType::kBF16;
      }
      LoadSourceRows(source, 0, rows, values.data());
    }
    return values;
  });
  EXPECT_EQ(codes, kLayers * 7);
}

// `where`: a tier of the CPU, or another device.
std::vector<float> Logits(const fs::path& model, WeightFormat format, const std::string& where) {
  const bool emulated = where == "cuda-emulated";
  test::DriverOptions options{
      .backend = {.device = emulated ? where : "cpu", .cpu_isa = emulated ? "auto" : where}};
  if (emulated) {
    options.backend.operand_dtype = DType::kBF16;
    options.load.kv_dtype = DType::kBF16;
  }
  options.load.format = format;
  const auto driver = test::ModelDriver::Load(model, options);
  EXPECT_TRUE(driver) << driver.error().Describe();
  if (!driver) return {};
  test::GoldenCase prompt{.id = "prompt"};
  std::mt19937 random(3);
  for (int i = 0; i < 48; ++i) prompt.input_ids.push_back(static_cast<int32_t>(random() % kVocab));
  return (*driver)->Run(prompt, 1, 64, 0).logits;
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(double{got[i]} - want[i], 2);
    size += std::pow(double{want[i]}, 2);
  }
  return std::sqrt(error / size);
}

// Dequantised, the two models are the same numbers, so their logits are the same bits. With the
// codes kept, two roundings differ, by standard deviations relative to a product's own: activations
// to 8 bits in groups of 32 (the largest of 32 normal numbers is about 2.3 deviations; half a step
// of it in 127, uniform: 2.3 / 254 / sqrt(3) = 0.5 %), and a group's minimum, up to 15 steps, to
// bf16 (15 / 2^9 / sqrt(3) = 1.7 % of a step, of 4.6 steps that weights deviate: 0.4 %). 0.65 % a
// product, 4 kinds of products a layer in a row, independent: sqrt(4 * 2) * 0.65 % = 1.9 %, and
// twice that where gate meets up and norms divide. Wrong groups, nibbles or zero points give 30 %
// and more.
TEST(QuantizedLogits, AreThoseOfTheModelThatTheCodesStandFor) {
  for (const std::string dtype : {"F32", "BF16"}) {
    for (const std::string flags : {"", "--symmetric", "--group-size 64"}) {
      SCOPED_TRACE(dtype + " " + flags);
      const TempDir source, place, plain;
      Write(source.path(), dtype, RandomNumbers());
      const fs::path quantised = place.path() / "quantised";
      ASSERT_EQ(
          std::system(fmt::format("{} --model {} --out {} {} >/dev/null 2>&1", TESSERA_QUANTIZE,
                                  source.path().string(), quantised.string(), flags)
                          .c_str()),
          0);
      WriteDequantised(quantised, plain.path());
      const std::vector<float> want_reference =
          Logits(plain.path(), WeightFormat::kF32, "reference");
      for (const std::string& tier : AvailableCpuTiers()) {
        const std::vector<float> want = Logits(plain.path(), WeightFormat::kF32, tier);
        ASSERT_FALSE(want.empty());
        if (dtype == "F32") {
          EXPECT_EQ(Logits(quantised, WeightFormat::kF32, tier), want) << tier;
        }
        const double error = RelativeError(Logits(quantised, WeightFormat::kAuto, tier), want);
        EXPECT_LT(error, 2 * 0.019) << tier;
        EXPECT_GT(error, 0) << "codes were not kept";
        std::printf("  %s %s %s: %.2f %%\n", dtype.c_str(), flags.c_str(), tier.c_str(),
                    100 * error);
      }
      // On a device, activations are bf16 in place of 8 bits, which is no more. The model of fp32
      // numbers has them quantised anew there, to other codes.
      const std::vector<float> kept = Logits(quantised, WeightFormat::kAuto, "cuda-emulated"),
                               anew = Logits(plain.path(), WeightFormat::kInt4, "cuda-emulated");
      ASSERT_FALSE(kept.empty());
      EXPECT_LT(RelativeError(kept, want_reference), 2 * 0.019);
      EXPECT_LT(RelativeError(kept, Logits(quantised, WeightFormat::kAuto, "reference")),
                2 * 0.019);
      EXPECT_GT(RelativeError(anew, want_reference), 2 * 0.019) << "no other codes: says nothing";
      std::printf("  %s %s cuda-emulated: %.2f %%, anew %.2f %%\n", dtype.c_str(), flags.c_str(),
                  100 * RelativeError(kept, want_reference),
                  100 * RelativeError(anew, want_reference));
      // And int4 costs what 4 bits cost, no more: 1 / sqrt(12) of a step, of 4.6 steps
      const std::vector<float> before = Logits(source.path(), WeightFormat::kF32, "reference");
      const double lost = RelativeError(want_reference, before);
      EXPECT_LT(lost, 2 * std::sqrt(8.0) * 0.29 / 3.6);
      EXPECT_GT(lost, 0.02);
    }
  }
}

}  // namespace
}  // namespace tessera::quantize
