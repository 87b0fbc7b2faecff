// Effective values of a request: the client's, else the model's, else the defaults; and its ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/prepare/sampling.h"
#include "tests/prepare/demo_frontend.h"

namespace tessera {
namespace {

using test::DemoFrontend;
using testing::ElementsAre;
using testing::IsEmpty;

GenerationConfig Generation() {
  GenerationConfig generation;
  generation.temperature = 0.6f;
  generation.top_p = 0.9f;
  generation.top_k = 40;
  generation.eos_ids = {9, 3};
  return generation;
}

class Parameters : public testing::Test {
 protected:
  // `prompt`: how many tokens it has.
  Result<void> Apply(int prompt = 10) {
    request_ = {};
    request_.prompt.assign(static_cast<size_t>(prompt), 5);
    GenerateInput input = input_;
    return ApplyParameters(*frontend_, input, request_);
  }

  std::shared_ptr<const Frontend> frontend_ =
      DemoFrontend({.max_context = 100, .config_ends = {3, 7}, .generation = Generation()});
  GenerateInput input_;
  PreparedRequest request_;
};

TEST_F(Parameters, ComeFromTheModelWhereTheClientSetNone) {
  ASSERT_TRUE(Apply());
  EXPECT_EQ(request_.sampling.temperature, 0.6f);
  EXPECT_EQ(request_.sampling.top_p, 0.9f);
  EXPECT_EQ(request_.sampling.top_k, 40);
  EXPECT_EQ(request_.sampling.min_p, 0.0f);
  EXPECT_EQ(request_.sampling.repetition_penalty, 1.0f);
  EXPECT_EQ(request_.sampling.logprobs, -1);
  EXPECT_TRUE(request_.skip_special_tokens);
}

TEST_F(Parameters, TheClientsCount) {
  input_.sampling = {.temperature = 0.0f,
                     .top_k = 1,
                     .top_p = 0.5f,
                     .min_p = 0.25f,
                     .repetition_penalty = 2.0f,
                     .frequency_penalty = -1.0f,
                     .presence_penalty = 1.0f,
                     .seed = 12,
                     .bias = {{.id = 2, .bias = 1.5f}}};
  input_.logprobs = 5;
  input_.n = 3;
  ASSERT_TRUE(Apply());
  const SamplingParams& sampling = request_.sampling;
  EXPECT_EQ(sampling.temperature, 0.0f);
  EXPECT_EQ(sampling.top_k, 1);
  EXPECT_EQ(sampling.top_p, 0.5f);
  EXPECT_EQ(sampling.min_p, 0.25f);
  EXPECT_EQ(sampling.repetition_penalty, 2.0f);
  EXPECT_EQ(sampling.frequency_penalty, -1.0f);
  EXPECT_EQ(sampling.presence_penalty, 1.0f);
  EXPECT_EQ(sampling.seed, 12u);
  EXPECT_EQ(sampling.logprobs, 5);
  ASSERT_EQ(sampling.bias.size(), 1u);
  EXPECT_EQ(sampling.bias[0].id, 2);
  EXPECT_EQ(request_.n, 3);
}

TEST_F(Parameters, SeedsAreDrawnWhereNoneIsGiven) {
  ASSERT_TRUE(Apply());
  const uint64_t first = request_.sampling.seed;
  ASSERT_TRUE(Apply());
  EXPECT_NE(request_.sampling.seed, first);
}

TEST_F(Parameters, MaxTokensIsWhatTheContextLeaves) {
  ASSERT_TRUE(Apply());
  EXPECT_EQ(request_.max_tokens, 90);
  input_.max_tokens = 91;
  ASSERT_TRUE(Apply());
  EXPECT_EQ(request_.max_tokens, 90);
  input_.max_tokens = 5;
  input_.min_tokens = 8;
  ASSERT_TRUE(Apply());
  EXPECT_EQ(request_.max_tokens, 5);
  EXPECT_EQ(request_.min_tokens, 5);
  ASSERT_TRUE(Apply(99));
  EXPECT_EQ(request_.max_tokens, 1);
}

TEST_F(Parameters, EndsAreTheUnionOfThree) {
  input_.stop_token_ids = {8, 3};
  ASSERT_TRUE(Apply());
  EXPECT_THAT(request_.end_ids, ElementsAre(3, 7, 8, 9));
  EXPECT_THAT(request_.stop_token_ids, ElementsAre(8, 3));
  input_.ignore_eos = true;
  ASSERT_TRUE(Apply());
  EXPECT_THAT(request_.end_ids, IsEmpty());
  EXPECT_THAT(request_.stop_token_ids, ElementsAre(8, 3));
}

TEST_F(Parameters, IdsThatTheModelLacksAreRefused) {
  const int vocab = frontend_->info().vocab_size;
  for (const int32_t bad : {-1, vocab}) {
    input_.sampling.bias = {{.id = bad, .bias = 1}};
    auto refused = Apply();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().field, "sampling.logit_bias");
    EXPECT_EQ(refused.error().value, std::to_string(bad));
    input_.sampling.bias.clear();
    input_.stop_token_ids = {bad};
    refused = Apply();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().field, "stopping.stop_token_ids");
    EXPECT_EQ(refused.error().limit, std::to_string(vocab - 1));
    input_.stop_token_ids.clear();
  }
}

}  // namespace
}  // namespace tessera
