#include "server/wire/reply.h"

#include "server/prepare/sampling.h"
#include "tessera/v1/tessera.pb.h"

namespace tessera {
namespace {

namespace pb = tessera::v1;

void Fill(const SamplingParams& in, pb::SamplingParams& out) {
  out.set_temperature(in.temperature);
  out.set_top_k(static_cast<uint32_t>(in.top_k));
  out.set_top_p(in.top_p);
  out.set_min_p(in.min_p);
  out.set_repetition_penalty(in.repetition_penalty);
  out.set_frequency_penalty(in.frequency_penalty);
  out.set_presence_penalty(in.presence_penalty);
  for (const LogitBias& bias : in.bias)
    (*out.mutable_logit_bias())[static_cast<uint32_t>(bias.id)] = bias.bias;
}

void Fill(const ServedModel& in, pb::ModelSummary& out) {
  out.set_name(in.name);
  out.set_family(in.frontend->info().family);
  out.set_has_vision(in.frontend->info().has_vision());
  out.set_max_context(static_cast<uint32_t>(in.frontend->max_context()));
}

pb::FinishReason Reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return pb::FINISH_REASON_STOP;
    case FinishReason::kLength: return pb::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled: return pb::FINISH_REASON_CANCELLED;
    case FinishReason::kError: return pb::FINISH_REASON_ERROR;
  }
  return pb::FINISH_REASON_ERROR;
}

void Fill(const Usage& in, pb::Usage& out) {
  out.set_prompt_tokens(static_cast<uint32_t>(in.prompt_tokens));
  out.set_image_tokens(static_cast<uint32_t>(in.image_tokens));
  out.set_cached_tokens(static_cast<uint32_t>(in.cached_tokens));
  out.set_generated_tokens(static_cast<uint32_t>(in.generated_tokens));
  out.set_images(static_cast<uint32_t>(in.images));
  out.set_images_encoded(static_cast<uint32_t>(in.images_encoded));
}

void Fill(const StageTimings& in, pb::Timings& out) {
  out.set_image_decode(in.image_decode);
  out.set_preprocess(in.preprocess);
  out.set_tokenize(in.tokenize);
  out.set_queue(in.queue);
  out.set_vision_encode(in.vision_encode);
  out.set_cross_kv(in.cross_kv);
  out.set_prefill(in.prefill);
  out.set_decode(in.decode);
  out.set_first_token(in.first_token);
  out.set_total(in.total);
}

void Fill(const EngineStats& in, int64_t refused, pb::EngineCounters& out) {
  const auto count = [](int64_t value) { return static_cast<uint64_t>(value); };
  out.set_steps(count(in.steps));
  out.set_requests_accepted(count(in.requests_accepted));
  out.set_requests_finished(count(in.requests_finished));
  out.set_requests_failed(count(in.requests_failed));
  out.set_requests_cancelled(count(in.requests_cancelled));
  out.set_requests_refused(count(in.requests_refused + refused));
  out.set_prompt_tokens(count(in.prompt_tokens));
  out.set_cached_tokens(count(in.cached_tokens));
  out.set_generated_tokens(count(in.generated_tokens));
  out.set_images_encoded(count(in.images_encoded));
  out.set_image_cache_hits(count(in.image_cache_hits));
  out.set_preemptions(count(in.preemptions));
  out.set_waiting(static_cast<uint32_t>(in.waiting));
  out.set_running(static_cast<uint32_t>(in.running));
  out.set_drafted_tokens(count(in.drafted_tokens));
  out.set_accepted_tokens(count(in.accepted_tokens));
  out.set_busy_seconds(in.busy_seconds);
}

}  // namespace

std::string StartedMessage(const Prepared& prepared, const std::string& client_request_id,
                           const std::string& model) {
  pb::GenerateEvent event;
  auto& started = *event.mutable_started();
  started.set_request_id(prepared.request->id);
  started.set_client_request_id(client_request_id);
  started.set_model(model);
  Fill(prepared.request->sampling, *started.mutable_sampling());
  started.mutable_sampling()->set_seed(prepared.request->sampling.seed);
  started.set_max_tokens(static_cast<uint32_t>(prepared.request->max_tokens));
  for (const std::string& note : prepared.notes) started.add_notes(note);
  return event.SerializeAsString();
}

std::string DeltaMessage(const TextDelta& delta, bool logprobs, const Tokenizer& tokenizer) {
  pb::GenerateEvent event;
  auto& out = *event.mutable_delta();
  out.set_choice(static_cast<uint32_t>(delta.choice));
  out.set_text(delta.text);
  for (const TokenOut& token : delta.tokens) {
    auto& item = *out.add_tokens();
    item.set_id(static_cast<uint32_t>(token.id));
    if (!logprobs) continue;
    item.set_logprob(token.logprob);
    for (const TokenLogprob& alternative : token.top) {
      auto& top = *item.add_top();
      top.set_id(static_cast<uint32_t>(alternative.id));
      top.set_logprob(alternative.logprob);
      top.set_text(tokenizer.TokenBytes(alternative.id));
    }
  }
  return event.SerializeAsString();
}

std::string ChoiceEndMessage(const ChoiceEnd& end) {
  pb::GenerateEvent event;
  auto& out = *event.mutable_choice_end();
  out.set_choice(static_cast<uint32_t>(end.choice));
  out.set_reason(Reason(end.reason));
  if (!end.stop_string.empty()) {
    out.set_stop_string(end.stop_string);
  } else if (end.stop_token >= 0) {
    out.set_stop_token(static_cast<uint32_t>(end.stop_token));
  }
  return event.SerializeAsString();
}

std::string FinishedMessage(const RequestEnd& end) {
  pb::GenerateEvent event;
  Fill(end.usage, *event.mutable_finished()->mutable_usage());
  Fill(end.timings, *event.mutable_finished()->mutable_timings());
  return event.SerializeAsString();
}

std::string TokenizeMessage(const Prompt& prompt, bool rendered, const Tokenizer& tokenizer) {
  pb::TokenizeResponse response;
  for (const int32_t id : prompt.ids) {
    response.add_token_ids(static_cast<uint32_t>(id));
    response.add_tokens(tokenizer.TokenBytes(id));
  }
  if (rendered) response.set_rendered(prompt.rendered);
  return response.SerializeAsString();
}

std::string ListModelsMessage(const std::vector<std::shared_ptr<const ServedModel>>& models) {
  pb::ListModelsResponse response;
  for (const auto& model : models) Fill(*model, *response.add_models());
  return response.SerializeAsString();
}

std::string GetModelMessage(const ServedModel& model, const InputLimits& limits, int max_queue,
                            int64_t refused) {
  pb::GetModelResponse out;
  const ModelInfo& info = model.frontend->info();
  const EngineStats stats = model.engine->stats();
  Fill(model, *out.mutable_summary());
  out.set_architecture(info.architecture);
  out.set_parameters(static_cast<uint64_t>(info.parameters));
  out.set_vocab_size(static_cast<uint32_t>(info.vocab_size));
  for (const int32_t id : model.frontend->eos_ids()) out.add_eos_ids(static_cast<uint32_t>(id));
  Fill(DefaultSampling(model.frontend->generation()), *out.mutable_default_sampling());
  out.set_device(model.facts.device);
  out.set_tier(model.facts.tier);
  out.set_threads(static_cast<uint32_t>(model.facts.threads));
  out.set_weights(model.facts.weights);
  out.set_activations(model.facts.activations);
  out.set_kv_dtype(model.facts.kv_dtype);
  if (info.has_vision()) {
    out.set_unseen_rows(info.unseen_rows == UnseenRows::kAttend ? "attend" : "zero");
    out.set_max_tiles(static_cast<uint32_t>(info.max_tiles));
    out.set_tile_tokens(static_cast<uint32_t>(info.cross_kv.page_tokens));
  }
  out.set_batch_invariant(model.facts.batch_invariant);
  out.set_gemm(model.facts.gemm);
  out.set_graphs(model.facts.graphs);
  auto& request = *out.mutable_limits();
  request.set_message_bytes(static_cast<uint64_t>(kMaxMessageBytes));
  request.set_image_bytes(static_cast<uint64_t>(limits.image_bytes));
  request.set_images_bytes(static_cast<uint64_t>(limits.images_bytes));
  request.set_images(static_cast<uint32_t>(limits.images));
  request.set_image_pixels(static_cast<uint64_t>(limits.image_pixels));
  request.set_choices(static_cast<uint32_t>(kMaxChoices));
  request.set_queue(static_cast<uint32_t>(max_queue));
  const auto pool = [](pb::Pool& out, int32_t total, int32_t free, int32_t cached, int64_t bytes) {
    out.set_total(static_cast<uint32_t>(total));
    out.set_free(static_cast<uint32_t>(free));
    out.set_cached(static_cast<uint32_t>(cached));
    out.set_bytes(static_cast<uint64_t>(bytes));
  };
  pool(*out.mutable_self_attention_pages(), stats.self_pages_total, stats.self_pages_free,
       stats.self_pages_cached, model.facts.self_pool_bytes);
  if (info.has_vision()) {
    pool(*out.mutable_cross_attention_pages(), stats.cross_pages_total, stats.cross_pages_free,
         stats.cross_pages_cached, model.facts.cross_pool_bytes);
  }
  out.set_weight_bytes(static_cast<uint64_t>(model.facts.weight_bytes));
  Fill(stats, refused, *out.mutable_counters());
  return out.SerializeAsString();
}

}  // namespace tessera
