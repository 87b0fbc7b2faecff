#include "server/prepare/sampling.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>

namespace tessera {
namespace {

Result<void> CheckId(const char* field, int32_t id, int vocab) {
  if (id >= 0 && id < vocab) return {};
  return Invalid("the model has no such token",
                 {.field = field, .limit = std::to_string(vocab - 1), .value = std::to_string(id)});
}

uint64_t DrawSeed() {
  std::random_device random;
  return uint64_t{random()} << 32 | random();
}

}  // namespace

SamplingParams DefaultSampling(const GenerationConfig& generation) {
  SamplingParams out;
  out.temperature = generation.temperature.value_or(out.temperature);
  out.top_k = generation.top_k.value_or(out.top_k);
  out.top_p = generation.top_p.value_or(out.top_p);
  out.min_p = generation.min_p.value_or(out.min_p);
  out.repetition_penalty = generation.repetition_penalty.value_or(out.repetition_penalty);
  return out;
}

Result<void> ApplyParameters(const Frontend& frontend, GenerateInput& input,
                             PreparedRequest& request) {
  const int vocab = frontend.info().vocab_size;
  SamplingParams& out = request.sampling;
  const SamplingInput& in = input.sampling;
  out = DefaultSampling(frontend.generation());
  out.temperature = in.temperature.value_or(out.temperature);
  out.top_k = in.top_k.value_or(out.top_k);
  out.top_p = in.top_p.value_or(out.top_p);
  out.min_p = in.min_p.value_or(out.min_p);
  out.repetition_penalty = in.repetition_penalty.value_or(out.repetition_penalty);
  out.frequency_penalty = in.frequency_penalty.value_or(out.frequency_penalty);
  out.presence_penalty = in.presence_penalty.value_or(out.presence_penalty);
  out.seed = in.seed ? *in.seed : DrawSeed();
  out.logprobs = std::min(input.logprobs, vocab);
  for (const LogitBias& bias : in.bias)
    TESSERA_RETURN_IF_ERROR(CheckId("sampling.logit_bias", bias.id, vocab));
  out.bias = std::move(input.sampling.bias);
  for (const int32_t id : input.stop_token_ids)
    TESSERA_RETURN_IF_ERROR(CheckId("stopping.stop_token_ids", id, vocab));

  request.n = input.n;
  const int left = frontend.max_context() -
                   static_cast<int>(request.prompt.size());  // at least 1, BuildPrompt saw to it
  request.max_tokens = std::min(input.max_tokens.value_or(left), left);
  request.min_tokens = std::min(input.min_tokens, request.max_tokens);
  request.stop_token_ids = std::move(input.stop_token_ids);
  if (!input.ignore_eos) {
    request.end_ids = frontend.eos_ids();
    request.end_ids.insert(request.end_ids.end(), request.stop_token_ids.begin(),
                           request.stop_token_ids.end());
    std::sort(request.end_ids.begin(), request.end_ids.end());
    request.end_ids.erase(std::unique(request.end_ids.begin(), request.end_ids.end()),
                          request.end_ids.end());
  }
  request.stop = std::move(input.stop);
  request.include_stop = input.include_stop;
  request.skip_special_tokens = !input.keep_special_tokens;
  return {};
}

}  // namespace tessera
