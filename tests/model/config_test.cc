// config.json and generation_config.json: both generations of the file, and a walk over every key
// with every bad value.
#include "model/config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/generation_config.h"
#include "model/json.h"
#include "model/rope.h"
#include "tests/support/thread_time.h"

namespace tessera::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json Llama() {
  return Json::parse(
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":20,"vocab_size":100,"rms_norm_eps":1e-5,
    "max_position_embeddings":512,"hidden_act":"silu","attention_bias":true,"mlp_bias":true,"tie_word_embeddings":true,
    "eos_token_id":[1,2],"torch_dtype":"bfloat16","rope_theta":5000.0,
    "rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
    "original_max_position_embeddings":128}})");
}

Json Mllama() {
  return Json::parse(
      R"({"architectures":["MllamaForConditionalGeneration"],"model_type":"mllama","dtype":"float16",
    "image_token_index":90,"text_config":{"hidden_size":50,"intermediate_size":96,"num_hidden_layers":6,
    "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":90,"rms_norm_eps":1e-5,"max_position_embeddings":512,
    "hidden_act":"silu","tie_word_embeddings":true,"cross_attention_layers":[4,0,1,1],"eos_token_id":7,
    "rope_parameters":{"rope_type":"yarn","rope_theta":700.0,"factor":2.0,"original_max_position_embeddings":256,
    "beta_fast":30,"beta_slow":2,"attention_factor":1.5,"mscale":1.0,"mscale_all_dim":1.0,"truncate":false}},
    "vision_config":{"hidden_size":30,"intermediate_size":40,"attention_heads":4,"num_hidden_layers":3,"num_global_layers":0,
    "image_size":23,"patch_size":5,"num_channels":3,"max_num_tiles":3,"norm_eps":1e-5,"hidden_act":"gelu",
    "intermediate_layers_indices":[-1,0,0],"vision_output_dim":120,
    "supported_aspect_ratios":[[1,1],[1,2],[1,3],[2,1],[3,1]]}})");
}

std::string Refusal(const Json& json) {
  const auto config = ModelConfig::FromHf(json.dump());
  return config ? "accepted" : config.error().Describe();
}

TEST(Config, Llama4x) {
  const auto config = ModelConfig::FromHf(Llama().dump());
  ASSERT_TRUE(config) << config.error().Describe();
  EXPECT_EQ(config->family, "llama");
  EXPECT_EQ(config->text.head_dim, 20);
  EXPECT_EQ(config->text.embedding_rows, 100);
  EXPECT_TRUE(config->text.tied_head);
  EXPECT_TRUE(config->text.attention_bias);
  EXPECT_EQ(config->text.rope.type, RopeConfig::Type::kLlama3);
  EXPECT_EQ(config->text.rope.theta, 5000);
  EXPECT_EQ(config->text.rope.original_context, 128);
  EXPECT_EQ(config->stored_dtype, DType::kBF16);
  EXPECT_THAT(config->text.eos_ids, ElementsAre(1, 2));
  EXPECT_FALSE(config->vision);
}

TEST(Config, Mllama5x) {
  const auto config = ModelConfig::FromHf(Mllama().dump());
  ASSERT_TRUE(config) << config.error().Describe();
  EXPECT_EQ(config->text.head_dim, 12);
  EXPECT_EQ(config->text.embedding_rows, 98);
  EXPECT_FALSE(config->text.tied_head);  // mllama does not know it
  EXPECT_THAT(config->text.cross_layers, ElementsAre(0, 1, 4));
  EXPECT_EQ(config->text.rope.type, RopeConfig::Type::kYarn);
  EXPECT_EQ(config->vision->head_dim, 7);
  EXPECT_EQ(config->vision->tokens(), 17);
  EXPECT_EQ(config->vision->padded_tokens(), 24);
  EXPECT_THAT(config->vision->intermediate_layers, ElementsAre(2, 0, 0));
  EXPECT_EQ(config->image_token_id, 90);
}

TEST(Config, DefaultsOfTheClasses) {
  Json json = Mllama();
  json["text_config"] = Json::object();
  json["vision_config"] = Json::object();
  json.erase("image_token_index");
  const auto config = ModelConfig::FromHf(json.dump());
  ASSERT_TRUE(config) << config.error().Describe();
  EXPECT_EQ(config->text.hidden, 4096);
  EXPECT_EQ(config->text.rope.theta, 500000);
  EXPECT_EQ(config->text.cross_layers.size(), 8u);
  EXPECT_EQ(config->vision->output_dim(), 7680);
  EXPECT_EQ(config->image_token_id, 128256);
}

TEST(Config, NamesWhatItRefuses) {
  const auto with = [](Json json, const char* pointer, Json value) {
    json[Json::json_pointer(pointer)] = std::move(value);
    return Refusal(json);
  };
  EXPECT_THAT(with(Llama(), "/architectures/0", "LlavaForConditionalGeneration"),
              HasSubstr("unknown architecture: architectures: got LlavaForConditionalGeneration"));
  EXPECT_THAT(with(Llama(), "/architectures", Json::array()), HasSubstr("architectures"));
  EXPECT_THAT(with(Llama(), "/model_type", "mistral"), HasSubstr("disagree"));
  EXPECT_THAT(with(Llama(), "/quantization_config", {{"quant_method", "fp8"}}),
              HasSubstr("quantization_config.quant_method: got \"fp8\""));
  EXPECT_THAT(with(Mllama(), "/text_config/quantization_config", {{"bits", 4}}),
              HasSubstr("text_config.quantization_config"));
  EXPECT_THAT(with(Llama(), "/rope_scaling/rope_type", "longrope"),
              HasSubstr("rope_scaling.rope_type: got \"longrope\""));
  EXPECT_THAT(with(Llama(), "/hidden_act", "mish"),
              HasSubstr("unknown activation: hidden_act: got \"mish\""));
  EXPECT_THAT(with(Llama(), "/torch_dtype", "float8_e4m3fn"), HasSubstr("torch_dtype"));
  EXPECT_THAT(with(Llama(), "/num_key_value_heads", 3),
              HasSubstr("a divisor of num_attention_heads, 4"));
  EXPECT_THAT(with(Llama(), "/head_dim", 7), HasSubstr("head_dim"));
  EXPECT_THAT(with(Llama(), "/partial_rotary_factor", 0.5), HasSubstr("partial_rotary_factor"));
  EXPECT_THAT(with(Mllama(), "/text_config/head_dim", 16),
              HasSubstr("text_config.head_dim: got 16, allowed: an integer in [12, 12]"));
  EXPECT_THAT(with(Mllama(), "/text_config/cross_attention_layers", {6}),
              HasSubstr("text_config.cross_attention_layers[0]: got 6"));
  EXPECT_THAT(with(Mllama(), "/text_config/cross_attention_layers", Json::array()),
              HasSubstr("cross_attention_layers"));
  EXPECT_THAT(with(Mllama(), "/vision_config/vision_output_dim", 121),
              HasSubstr("vision_config.vision_output_dim: got 121"));
  EXPECT_THAT(with(Mllama(), "/vision_config/num_channels", 4), HasSubstr("num_channels: got 4"));
  EXPECT_THAT(with(Mllama(), "/vision_config/patch_size", 24), HasSubstr("patch_size: got 24"));
  EXPECT_THAT(with(Mllama(), "/vision_config/supported_aspect_ratios/0", 3),
              HasSubstr("supported_aspect_ratios"));
  EXPECT_THAT(with(Mllama(), "/image_token_index", 98), HasSubstr("image_token_index: got 98"));
  Json no_text = Mllama();
  no_text.erase("text_config");
  EXPECT_THAT(Refusal(no_text), HasSubstr("text_config: got nothing"));
}

TEST(Config, DynamicRopeWithinItsLengthOnly) {
  Json json = Llama();
  json["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}};
  const auto config = ModelConfig::FromHf(json.dump());
  ASSERT_TRUE(config) << config.error().Describe();
  EXPECT_EQ(config->text.rope.type, RopeConfig::Type::kDefault);
  json["rope_scaling"]["original_max_position_embeddings"] = 512;
  EXPECT_EQ(Refusal(json), "accepted");
  json["rope_scaling"]["original_max_position_embeddings"] = 511;
  EXPECT_THAT(Refusal(json),
              testing::AllOf(HasSubstr("dynamic"), HasSubstr("got 512"), HasSubstr("511")));
}

TEST(Config, JsonThatIsNone) {
  for (const char* text : {"", "{", "[]", "7", "null", "{\"a\":1}x", "{\"rms_norm_eps\":NaN}",
                           "{\"a\":1e999}", "{\"a\":1,\"a\":2}", "{\"\xff\":1}"}) {
    const auto config = ModelConfig::FromHf(text);
    EXPECT_FALSE(config) << text;
  }
  EXPECT_FALSE(ModelConfig::FromHf(std::string(100'000, '[')));
  const auto nan = ModelConfig::FromHf("{\"rms_norm_eps\":NaN}");
  EXPECT_THAT(nan.error().Describe(), HasSubstr("rms_norm_eps"));
}

// Every key of a config is given every bad value: an error that names the key, or, where the value
// is legal or the key is not needed, a config; never a crash, and always at once.
void Walk(const Json& good, int& refused) {
  const std::vector<Json> bad = {Json(nullptr),
                                 -1,
                                 0,
                                 1,
                                 3,
                                 1.5,
                                 -0.5,
                                 1e300,
                                 -1e300,
                                 9223372036854775807ll,
                                 18446744073709551615ull,
                                 2147483648ll,
                                 -2147483649ll,
                                 "",
                                 "7",
                                 "x",
                                 true,
                                 Json::array(),
                                 Json::object(),
                                 Json::array({-1}),
                                 Json::array({"a"}),
                                 Json::array({1e300}),
                                 Json::array({Json::array()}),
                                 Json(std::vector<int>(5000, 1))};
  const Json flat = good.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    // The value itself and every object or list around it
    for (std::string at = pointer; !at.empty(); at.erase(at.rfind('/'))) {
      for (size_t i = 0; i <= bad.size(); ++i) {
        Json json = good;
        const Json::json_pointer place(at);
        if (i < bad.size()) {
          json[place] = bad[i];
        } else if (json[place.parent_pointer()].is_object()) {
          json[place.parent_pointer()].erase(place.back());
        }
        const double begin = test::ThreadSeconds();
        const auto config = ModelConfig::FromHf(json.dump());
        EXPECT_LT(test::ThreadSeconds() - begin, 1) << at;
        if (config) {
          EXPECT_GT(config->text.max_context, 0);
          EXPECT_EQ(config->text.head_dim % 2, 0);
          continue;
        }
        ++refused;
        EXPECT_FALSE(config.error().field.empty()) << at << ": " << config.error().Describe();
      }
      // A value of the wrong type is never taken
      Json json = good;
      json[Json::json_pointer(at)] = Json::array({Json::object()});
      EXPECT_NE(Refusal(json), "accepted") << at;
    }
  }
}

TEST(Config, MutationWalk) {
  int refused = 0;
  Walk(Llama(), refused);
  Walk(Mllama(), refused);
  EXPECT_GT(refused, 500);
}

TEST(Rope, FrequenciesOfTheReference) {
  // From transformers 5.23 in float32: first, middle and last inverse frequency
  RopeConfig rope{.theta = 10000};
  auto plain = ComputeRopeFrequencies(rope, 8);
  EXPECT_THAT(plain.inverse, ElementsAre(1.0f, 0.1f, 0.01f, 0.001f));
  rope.type = RopeConfig::Type::kLinear;
  rope.factor = 4;
  EXPECT_THAT(ComputeRopeFrequencies(rope, 8).inverse,
              ElementsAre(0.25f, 0.025f, 0.0025f, 0.00025f));
  rope = {.type = RopeConfig::Type::kLlama3, .theta = 10000, .factor = 4, .original_context = 512};
  const auto llama3 = ComputeRopeFrequencies(rope, 8);
  EXPECT_EQ(llama3.inverse[0], 1.0f);        // shorter than 128 positions: as it is
  EXPECT_EQ(llama3.inverse[3], 0.001f / 4);  // longer than 512: divided
  EXPECT_EQ(llama3.inverse[2], 0.01f / 4);
  EXPECT_EQ(llama3.attention_factor, 1.0f);
}

TEST(GenerationConfig, SamplingIsOffUnlessAskedFor) {
  const auto sampled = GenerationConfig::FromJson(
      R"({"do_sample":true,"temperature":0.6,"top_p":0.9,"top_k":40,"repetition_penalty":1.1,"eos_token_id":5,"max_length":20})");
  ASSERT_TRUE(sampled) << sampled.error().Describe();
  EXPECT_FLOAT_EQ(*sampled->temperature, 0.6f);
  EXPECT_FLOAT_EQ(*sampled->top_p, 0.9f);
  EXPECT_EQ(*sampled->top_k, 40);
  EXPECT_THAT(sampled->eos_ids, ElementsAre(5));
  const auto greedy = GenerationConfig::FromJson(R"({"temperature":0.6,"eos_token_id":[5,6]})");
  ASSERT_TRUE(greedy);
  EXPECT_EQ(*greedy->temperature, 0.0f);
  EXPECT_THAT(greedy->eos_ids, ElementsAre(5, 6));
  for (const char* bad :
       {R"({"temperature":-1})", R"({"temperature":"hot"})", R"({"top_p":0})", R"({"top_p":1.5})",
        R"({"top_k":-1})", R"({"top_k":1.5})", R"({"repetition_penalty":0})", R"({"do_sample":1})",
        R"({"eos_token_id":-1})", R"({"eos_token_id":[1,"a"]})", R"({"min_p":2})", "[]",
        R"({"temperature":NaN})"}) {
    EXPECT_FALSE(GenerationConfig::FromJson(bad)) << bad;
  }
  const auto none = GenerationConfig::FromDirectory("/nonexistent");
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->found);
}

}  // namespace
}  // namespace tessera::test
