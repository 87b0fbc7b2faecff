// Checkpoints whose weights are codes: matrices against what the libraries that write them read
// back (tools/golden/make_quantized.py), what becomes of them in a whole model, and what must be
// refused.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "kernels/factory.h"
#include "model/config.h"
#include "model/model.h"
#include "model/quantized_tensor.h"
#include "tests/model/temp_dir.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using Layout = QuantizationConfig::Layout;

// ---- Matrices of the libraries

struct LibraryCase {
  const char* name;
  QuantizationConfig config;
  bool symmetric, regular;
};
const LibraryCase kLibraryCases[] = {
    {"ct4-sym-g32", {.layout = Layout::kPackQuantized, .bits = 4, .group = 32}, true, true},
    {"ct4-asym-g128",
     {.layout = Layout::kPackQuantized, .bits = 4, .group = 128, .symmetric = false},
     false,
     true},
    {"ct4-sym-channel", {.layout = Layout::kPackQuantized, .bits = 4}, true, true},
    {"ct8-pack-g64", {.layout = Layout::kPackQuantized, .bits = 8, .group = 64}, true, true},
    {"ct8-int-channel", {.layout = Layout::kIntQuantized, .bits = 8}, true, true},
    {"ct8-int-asym", {.layout = Layout::kIntQuantized, .bits = 8, .symmetric = false}, false, true},
    {"awq-g64", {.layout = Layout::kAwq, .bits = 4, .group = 64, .symmetric = false}, false, true},
    {"gptq-sym-g64",
     {.layout = Layout::kGptq, .bits = 4, .group = 64, .zeros_less_one = true},
     true,
     true},
    {"gptq-asym-g64",
     {.layout = Layout::kGptq, .bits = 4, .group = 64, .symmetric = false, .zeros_less_one = true},
     false,
     true},
    {"gptq-order-g64",
     {.layout = Layout::kGptq,
      .bits = 4,
      .group = 64,
      .symmetric = false,
      .activation_order = true,
      .zeros_less_one = true},
     false,
     false},
};

TEST(QuantizedMatrices, AreWhatTheirLibrariesRead) {
  const auto file = SafetensorsFile::Open(fs::path(TESSERA_SOURCE_DIR) /
                                          "tests/model/data/quantized/quantized.safetensors");
  ASSERT_TRUE(file) << file.error().Describe();
  auto backend = MakeBackend({.device = "cpu", .cpu_isa = "reference"});
  ASSERT_TRUE(backend);
  for (const LibraryCase& c : kLibraryCases) {
    SCOPED_TRACE(c.name);
    const auto find = [&](const std::string& name) -> const TensorEntry* {
      for (const TensorEntry& entry : (*file)->tensors())
        if (entry.name == name) return &entry;
      return nullptr;
    };
    const TensorEntry* expected = find(std::string(c.name) + ".expected");
    ASSERT_NE(expected, nullptr);
    const int64_t n = expected->shape[0], k = expected->shape[1];
    BindProblems problems;
    const QuantizedParts parts =
        BindQuantized(std::string(c.name) + ".weight", n, k, c.config, find, problems);
    ASSERT_TRUE(parts);
    EXPECT_THAT(problems.missing, testing::IsEmpty());
    EXPECT_THAT(problems.misshaped, testing::IsEmpty());
    EXPECT_THAT(problems.mistyped, testing::IsEmpty());
    const auto codes = MakeCodeSource(parts, n, k, c.config);
    ASSERT_TRUE(codes) << codes.error().Describe();
    EXPECT_EQ((*codes)->symmetric(), c.symmetric);
    EXPECT_EQ((*codes)->regular(), c.regular);
    std::vector<float> got(static_cast<size_t>(n * k)), want(got.size());
    std::memcpy(want.data(), expected->data, want.size() * sizeof(float));
    (*codes)->Dequantize(0, 5, got.data());  // in two runs, the second from inside a word
    (*codes)->Dequantize(5, n - 5, got.data() + 5 * k);
    float most = 0;
    for (const float value : want) most = std::max(most, std::fabs(value));
    ASSERT_GT(most, 0.1f);
    // scale * (code - zero) in fp32 on both sides: one rounding
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i], std::fabs(want[i]) * 1e-6f) << i;
    // What is kept as codes comes back as those codes: scales to bf16, minima to bf16.
    const SourceMatrix source{.dtype = DType::kF32, .rows = n, .columns = k, .codes = codes->get()};
    const bool kept = c.regular && (c.config.bits == 4 || c.symmetric);
    EXPECT_EQ(FormatOfCodes({&source, 1}).has_value(), kept);
    auto packed = (*backend)->Pack({&source, 1}, {.role = PackSpec::Role::kTable});
    ASSERT_TRUE(packed);
    EXPECT_EQ((*packed)->format(), !kept                ? WeightFormat::kF32
                                   : c.config.bits == 4 ? WeightFormat::kInt4
                                                        : WeightFormat::kInt8);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::vector<float> rows(got.size());
    (*backend)->Embedding({.ids = ids,
                           .table = packed->get(),
                           .out = TensorView::Of(rows.data(), DType::kF32, {n, k})});
    // Scale and minimum are each rounded by at most 2^-9; code and zero are below 16 steps.
    for (size_t i = 0; i < rows.size(); ++i) {
      const float slack =
          kept && c.config.group != 0 ? most * (c.symmetric ? 0x1p-9f : 4 * 0x1p-9f) : most * 1e-6f;
      ASSERT_NEAR(rows[i], want[i], c.config.bits == 4 ? most * 4 * 0x1p-9f : slack) << i;
    }
  }
}

// ---- Whole models

struct Raw {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using Tensors = std::map<std::string, Raw>;

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

void WriteSafetensors(const TempDir& dir, const Tensors& tensors) {
  std::string header = "{", data;
  for (const auto& [name, raw] : tensors) {
    const std::string shape = fmt::format("{}", fmt::join(raw.shape, ","));
    header += fmt::format("{}\"{}\":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          header.size() > 1 ? "," : "", name, raw.dtype, shape, data.size(),
                          data.size() + raw.bytes.size());
    data += raw.bytes;
  }
  header += "}";
  const uint64_t length = header.size();
  dir.Write("model.safetensors",
            std::string(reinterpret_cast<const char*>(&length), 8) + header + data);
}

constexpr int kHidden = 64, kFeedForward = 128, kVocab = 32;

// A llama of one layer: shapes of its matrices, and everything else as fp32.
const std::map<std::string, std::pair<int, int>> kMatrices = {
    {"self_attn.q_proj", {64, 64}}, {"self_attn.k_proj", {32, 64}}, {"self_attn.v_proj", {32, 64}},
    {"self_attn.o_proj", {64, 64}}, {"mlp.gate_proj", {128, 64}},   {"mlp.up_proj", {128, 64}},
    {"mlp.down_proj", {64, 128}}};

class QuantizedModel : public testing::Test {
 protected:
  QuantizedModel() {
    auto backend = MakeBackend({.device = "cpu", .cpu_isa = "reference"});
    EXPECT_TRUE(backend);
    backend_ = *std::move(backend);
    AddFloats("model.embed_tokens.weight", {kVocab, kHidden});
    AddFloats("lm_head.weight", {kVocab, kHidden});
    AddFloats("model.norm.weight", {kHidden});
    AddFloats("model.layers.0.input_layernorm.weight", {kHidden});
    AddFloats("model.layers.0.post_attention_layernorm.weight", {kHidden});
  }
  void AddFloats(const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    std::vector<float> values(static_cast<size_t>(count));
    std::normal_distribution<float> normal(0, 0.2f);
    for (float& value : values) value = normal(random_);
    tensors_[name] = {"F32", std::move(shape), BytesOf(values)};
  }
  // Every matrix as compressed-tensors writes symmetric int4 in groups of 32.
  void AddPacked() {
    for (const auto& [name, shape] : kMatrices) {
      const auto [n, k] = shape;
      const std::string stem = "model.layers.0." + name;
      std::vector<uint32_t> words(static_cast<size_t>(n * k / 8));
      for (uint32_t& word : words) word = static_cast<uint32_t>(random_());
      std::vector<uint16_t> scales(static_cast<size_t>(n * k / 32));
      for (uint16_t& scale : scales)
        scale = FloatToBF16(0.01f + 0.001f * static_cast<float>(random_() % 16));
      tensors_[stem + ".weight_packed"] = {"I32", {n, k / 8}, BytesOf(words)};
      tensors_[stem + ".weight_scale"] = {"BF16", {n, k / 32}, BytesOf(scales)};
      tensors_[stem + ".weight_shape"] = {"I64", {2}, BytesOf(std::vector<int64_t>{n, k})};
    }
  }
  static std::string Config(const std::string& quantization) {
    return fmt::format(
        R"({{"architectures":["LlamaForCausalLM"],"model_type":"llama","torch_dtype":"float32",
        "hidden_size":{},"intermediate_size":{},"num_hidden_layers":1,"num_attention_heads":4,
        "num_key_value_heads":2,"vocab_size":{},"max_position_embeddings":64,"hidden_act":"silu",
        "rms_norm_eps":1e-5,"tie_word_embeddings":false,"bos_token_id":1,"eos_token_id":2{}}})",
        kHidden, kFeedForward, kVocab,
        quantization.empty() ? "" : ",\"quantization_config\":" + quantization);
  }
  static std::string Packed(const std::string& weights) {
    return R"({"quant_method":"compressed-tensors","format":"pack-quantized","ignore":["lm_head"],
        "config_groups":{"group_0":{"targets":["Linear"],"input_activations":null,"weights":)" +
           weights + "}}}";
  }
  static std::string Group32() {
    return Packed(
        R"({"num_bits":4,"type":"int","symmetric":true,"strategy":"group","group_size":32})");
  }
  std::string Load(const std::string& config, LoadOptions options = {}) {
    const TempDir dir;
    dir.Write("config.json", Config(config));
    WriteSafetensors(dir, tensors_);
    options.note = [this](std::string_view line) { note_ = line; };
    const auto plan = PlanModel(dir.path(), options);
    const auto model = LoadModel(dir.path(), *backend_, options);
    if (!model) return model.error().Describe();
    EXPECT_TRUE(plan) << plan.error().Describe();
    stored_ = plan->stored;
    format_ = (*model)->weight_format();
    return "loaded";
  }

  std::unique_ptr<Backend> backend_;
  std::mt19937 random_{7};
  Tensors tensors_;
  std::string note_, stored_;
  WeightFormat format_ = WeightFormat::kAuto;
};

TEST_F(QuantizedModel, KeepsCodesOrDequantisesAndSaysSo) {
  AddPacked();
  EXPECT_EQ(Load(Group32()), "loaded");
  EXPECT_EQ(format_, WeightFormat::kAuto) << "int4 matrices beside fp32 tables";
  EXPECT_EQ(note_,
            "weights: compressed-tensors pack-quantized int4, groups of 32; 4 matrices keep their "
            "codes");
  EXPECT_EQ(stored_, "compressed-tensors pack-quantized int4, groups of 32");
  LoadOptions options;
  options.format = WeightFormat::kInt4;
  EXPECT_EQ(Load(Group32(), options), "loaded");
  EXPECT_EQ(format_, WeightFormat::kInt4);
  options.format = WeightFormat::kBF16;
  EXPECT_EQ(Load(Group32(), options), "loaded");
  EXPECT_EQ(format_, WeightFormat::kBF16);
  EXPECT_THAT(note_, HasSubstr("; 4 matrices are dequantised"));
}

TEST_F(QuantizedModel, RefusesWhatDoesNotFit) {
  AddPacked();
  const Tensors good = tensors_;
  const std::string stem = "model.layers.0.mlp.up_proj";
  const auto with = [&](const std::function<void()>& change) {
    tensors_ = good;
    change();
    return Load(Group32());
  };
  EXPECT_EQ(with([] {}), "loaded");
  EXPECT_THAT(with([&] { tensors_.erase(stem + ".weight_scale"); }),
              HasSubstr("missing (1): " + stem + ".weight_scale"));
  EXPECT_THAT(with([&] { tensors_.erase(stem + ".weight_packed"); }),
              AllOf(HasSubstr("missing (1): " + stem + ".weight_packed")));
  EXPECT_THAT(with([&] { tensors_[stem + ".weight_scale"].dtype = "I16"; }),
              HasSubstr(stem + ".weight_scale is I16, expected BF16"));
  EXPECT_THAT(with([&] {
                tensors_[stem + ".weight_packed"].shape = {64, 16};
              }),
              HasSubstr(stem + ".weight_packed is [64, 16], expected [128, 8]"));
  EXPECT_THAT(with([&] {
                tensors_[stem + ".extra"] = {"F32", {1}, "1234"};
              }),
              HasSubstr("not part of the model (1): " + stem + ".extra"));
  for (const uint16_t bad : {uint16_t{0x7fc0}, uint16_t{0xff80}, uint16_t{0x7f7f}}) {
    EXPECT_THAT(
        with([&] { std::memcpy(tensors_[stem + ".weight_scale"].bytes.data() + 6, &bad, 2); }),
        AllOf(HasSubstr(stem + ".weight_scale: got"), HasSubstr("at 3, allowed: finite")));
  }
  EXPECT_THAT(with([&] { tensors_[stem + ".weight_shape"].bytes[8] = 32; }),
              HasSubstr(stem + ".weight_shape: got [128, 32], allowed: [128, 64]"));
  // A group of another size than the tensors have
  tensors_ = good;
  EXPECT_THAT(Load(Packed(R"({"num_bits":4,"strategy":"group","group_size":64})")),
              HasSubstr("wrong shape (7): model.layers.0.self_attn.q_proj.weight_scale is [64, 2], "
                        "expected [64, 1]"));
  // Zero points: needed, and in range
  const std::string asymmetric =
      Packed(R"({"num_bits":4,"symmetric":false,"strategy":"group","group_size":32})");
  EXPECT_THAT(Load(asymmetric), HasSubstr("missing (7)"));
  for (const auto& [name, shape] : kMatrices) {
    tensors_["model.layers.0." + name + ".weight_zero_point"] = {
        "I8",
        {shape.first, shape.second / 32},
        std::string(static_cast<size_t>(shape.first * shape.second / 32), '\x07')};
  }
  EXPECT_EQ(Load(asymmetric), "loaded");
  tensors_[stem + ".weight_zero_point"].bytes[5] = 8;
  EXPECT_THAT(Load(asymmetric),
              HasSubstr(stem + ".weight_zero_point: got 8 at 5, allowed: zero points in [-8, 7]"));
}

TEST_F(QuantizedModel, GroupsOfActivationOrderAreChecked) {
  AddPacked();
  const std::string stem = "model.layers.0.mlp.up_proj";
  std::vector<int32_t> order(64);
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i % 2);
  tensors_[stem + ".weight_g_idx"] = {"I32", {64}, BytesOf(order)};
  const std::string config =
      Packed(R"({"num_bits":4,"strategy":"group","group_size":32,"actorder":"group"})");
  EXPECT_EQ(Load(config), "loaded");
  EXPECT_THAT(note_,
              HasSubstr("activation order; 3 matrices keep their codes; 1 matrices are deq"));
  order[9] = 2;
  tensors_[stem + ".weight_g_idx"].bytes = BytesOf(order);
  EXPECT_THAT(Load(config),
              HasSubstr(stem + ".weight_g_idx: got 2 at 9, allowed: groups in [0, 1]"));
}

TEST_F(QuantizedModel, NamesTheQuantisationsItDoesNotRead) {
  const auto refusal = [](const std::string& quantization) {
    const auto config = ModelConfig::FromHf(Config(quantization));
    return config ? "read" : config.error().Describe();
  };
  for (const char* method : {"fp8", "fbgemm_fp8", "bitsandbytes", "hqq", "mxfp4", "quanto"}) {
    EXPECT_THAT(refusal(fmt::format("{{\"quant_method\":\"{}\"}}", method)),
                AllOf(HasSubstr("this quantisation is not read: quantization_config.quant_method"),
                      HasSubstr(method), HasSubstr("awq (4 bits, gemm)")));
  }
  EXPECT_THAT(refusal(R"({"bits":4})"), HasSubstr("quantization_config.quant_method: got nothing"));
  EXPECT_THAT(refusal(R"([1])"), HasSubstr("quantization_config: got an array"));
  EXPECT_THAT(refusal(R"({"quant_method":"compressed-tensors","format":"float-quantized"})"),
              HasSubstr("quantization_config.format"));
  EXPECT_THAT(refusal(Packed(R"({"num_bits":8,"type":"float"})")), HasSubstr("weights.type"));
  EXPECT_THAT(refusal(Packed(R"({"num_bits":3})")), HasSubstr("weights.num_bits: got 3,"));
  EXPECT_THAT(refusal(Packed(R"({"num_bits":4,"strategy":"block"})")), HasSubstr("strategy"));
  EXPECT_THAT(refusal(Packed(R"({"num_bits":4,"strategy":"group","group_size":12})")),
              HasSubstr("weights.group_size: got 12, allowed: -1, or a multiple of 8"));
  EXPECT_THAT(refusal(Packed(R"({"num_bits":4,"strategy":"group","group_size":0})")),
              HasSubstr("group_size"));
  EXPECT_THAT(refusal(R"({"quant_method":"gptq","bits":3})"), HasSubstr("bits: got 3,"));
  EXPECT_THAT(refusal(R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})"),
              HasSubstr("checkpoint_format: got \"marlin\""));
  EXPECT_THAT(refusal(R"({"quant_method":"gptq","bits":4,"dynamic":{"+:x":{"bits":8}}})"),
              HasSubstr("dynamic"));
  EXPECT_THAT(refusal(R"({"quant_method":"awq","bits":4,"version":"gemv"})"),
              HasSubstr("version: got \"gemv\""));
  EXPECT_EQ(refusal(R"({"quant_method":"awq","bits":4,"group_size":128,"version":"GEMM"})"),
            "read");
  EXPECT_EQ(refusal(R"({"quant_method":"gptq","bits":8,"group_size":-1,"desc_act":true})"), "read");
}

}  // namespace
}  // namespace tessera::test
