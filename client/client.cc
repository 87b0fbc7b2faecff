#include "client/client.h"

#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tessera/v1/tessera.grpc.pb.h"

namespace tessera {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;

std::string CodeName(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS",
                                           "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

CallStatus ToCallStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  CallStatus out{CodeName(status.error_code()), status.error_message(), std::nullopt};
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
    const auto& metadata = context.GetServerTrailingMetadata();
    if (const auto it = metadata.find("grpc-retry-pushback-ms"); it != metadata.end()) {
      const std::string text(it->second.data(), it->second.size());
      char* end = nullptr;
      const long ms = std::strtol(text.c_str(), &end, 10);
      if (end != text.c_str() && *end == '\0' && ms >= 0)
        out.retry_after = std::chrono::milliseconds(ms);
    }
  }
  return out;
}

v1::Role ToProto(ChatRole role) {
  switch (role) {
    case ChatRole::kSystem: return v1::ROLE_SYSTEM;
    case ChatRole::kUser: return v1::ROLE_USER;
    case ChatRole::kAssistant: return v1::ROLE_ASSISTANT;
    case ChatRole::kTool: return v1::ROLE_TOOL;
  }
  return v1::ROLE_UNSPECIFIED;
}

void FillConversation(const std::vector<ChatMessage>& messages, v1::Conversation* conversation) {
  for (const ChatMessage& message : messages) {
    v1::Message* out = conversation->add_messages();
    out->set_role(ToProto(message.role));
    for (const ChatPart& part : message.parts) {
      if (part.image.empty())
        out->add_parts()->set_text(part.text);
      else
        out->add_parts()->mutable_image()->set_data(part.image);
    }
  }
}

v1::GenerateRequest ToProto(const GenerateParams& params) {
  v1::GenerateRequest request;
  request.set_model(params.model);
  if (params.raw_prompt) {
    request.mutable_raw()->set_text(*params.raw_prompt);
    for (const std::string& image : params.raw_images)
      request.mutable_raw()->add_images()->set_data(image);
  } else {
    FillConversation(params.messages, request.mutable_chat());
  }
  v1::SamplingParams* sampling = request.mutable_sampling();
  if (params.temperature) sampling->set_temperature(*params.temperature);
  if (params.top_k) sampling->set_top_k(*params.top_k);
  if (params.top_p) sampling->set_top_p(*params.top_p);
  if (params.min_p) sampling->set_min_p(*params.min_p);
  if (params.repetition_penalty) sampling->set_repetition_penalty(*params.repetition_penalty);
  if (params.frequency_penalty) sampling->set_frequency_penalty(*params.frequency_penalty);
  if (params.presence_penalty) sampling->set_presence_penalty(*params.presence_penalty);
  if (params.seed) sampling->set_seed(*params.seed);
  for (const auto& [id, bias] : params.logit_bias) (*sampling->mutable_logit_bias())[id] = bias;
  if (params.max_tokens) request.mutable_limits()->set_max_tokens(*params.max_tokens);
  if (params.min_tokens) request.mutable_limits()->set_min_tokens(*params.min_tokens);
  v1::StopConditions* stopping = request.mutable_stopping();
  for (const std::string& stop : params.stop) stopping->add_stop(stop);
  for (const uint32_t id : params.stop_token_ids) stopping->add_stop_token_ids(id);
  stopping->set_include_stop(params.include_stop);
  stopping->set_ignore_eos(params.ignore_eos);
  request.set_n(params.n);
  if (params.logprobs) request.set_logprobs(*params.logprobs);
  request.set_keep_special_tokens(params.keep_special_tokens);
  request.set_client_request_id(params.client_request_id);
  request.set_date_string(params.date_string);
  return request;
}

const char* FinishReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP: return "stop";
    case v1::FINISH_REASON_LENGTH: return "length";
    case v1::FINISH_REASON_CANCELLED: return "cancelled";
    case v1::FINISH_REASON_ERROR: return "error";
    default: return "unspecified";
  }
}

void Take(const v1::Started& started, GenerateResult* result) {
  result->request_id = started.request_id();
  result->model = started.model();
  result->notes.assign(started.notes().begin(), started.notes().end());
  const v1::SamplingParams& s = started.sampling();
  result->sampling = {{"temperature", s.temperature()},
                      {"top_k", s.top_k()},
                      {"top_p", s.top_p()},
                      {"min_p", s.min_p()},
                      {"repetition_penalty", s.repetition_penalty()},
                      {"frequency_penalty", s.frequency_penalty()},
                      {"presence_penalty", s.presence_penalty()},
                      {"max_tokens", started.max_tokens()}};
  if (s.has_seed()) result->seed = s.seed();
}

void Take(const v1::Finished& finished, GenerateResult* result) {
  const v1::Usage& u = finished.usage();
  result->usage = {{"prompt_tokens", u.prompt_tokens()},
                   {"image_tokens", u.image_tokens()},
                   {"cached_tokens", u.cached_tokens()},
                   {"generated_tokens", u.generated_tokens()},
                   {"images", u.images()},
                   {"images_encoded", u.images_encoded()}};
  const v1::Timings& t = finished.timings();
  result->timings = {{"image_decode", t.image_decode()},
                     {"preprocess", t.preprocess()},
                     {"tokenize", t.tokenize()},
                     {"queue", t.queue()},
                     {"vision_encode", t.vision_encode()},
                     {"cross_kv", t.cross_kv()},
                     {"prefill", t.prefill()},
                     {"decode", t.decode()},
                     {"first_token", t.first_token()},
                     {"total", t.total()}};
}

// Watches a CancelToken beside a blocking call: a signal handler can set a flag but not call into
// gRPC.
class CancelWatch {
 public:
  CancelWatch(grpc::ClientContext& context, const CancelToken* token) {
    if (token == nullptr) return;
    thread_ = std::jthread([&context, token](std::stop_token stop) {
      while (!stop.stop_requested()) {
        if (token->cancelled()) {
          context.TryCancel();
          return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }

 private:
  std::jthread thread_;
};

}  // namespace

ChatMessage UserMessage(std::string text, std::vector<std::string> images) {
  ChatMessage message;
  for (std::string& image : images)
    message.parts.push_back({.text = "", .image = std::move(image)});
  message.parts.push_back({.text = std::move(text), .image = ""});
  return message;
}

class Client::Impl {
 public:
  explicit Impl(const std::string& target) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    arguments.SetMaxSendMessageSize(kMaxMessageBytes);
    channel_ = grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
    tessera_ = v1::Tessera::NewStub(channel_);
    health_ = grpc::health::v1::Health::NewStub(channel_);
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Tessera::Stub> tessera_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

Client::Client(const std::string& target) : impl_(std::make_unique<Impl>(target)) {}
Client::~Client() = default;

CallStatus Client::Generate(const GenerateParams& params, const GenerateCallbacks& callbacks,
                            GenerateResult* result, const CancelToken* cancel) {
  GenerateResult local;
  if (result == nullptr) result = &local;
  *result = {};
  result->choices.resize(params.n == 0 ? 1 : params.n);

  grpc::ClientContext context;
  if (params.timeout.count() > 0)
    context.set_deadline(std::chrono::system_clock::now() + params.timeout);
  const auto reader = impl_->tessera_->Generate(&context, ToProto(params));
  {
    const CancelWatch watch(context, cancel);
    v1::GenerateEvent event;
    while (reader->Read(&event)) {
      if (event.has_started()) {
        Take(event.started(), result);
      } else if (event.has_delta() && event.delta().choice() < result->choices.size()) {
        ChoiceResult& choice = result->choices[event.delta().choice()];
        for (const v1::Token& token : event.delta().tokens()) {
          ClientToken& out = choice.tokens.emplace_back();
          out.id = token.id();
          if (token.has_logprob()) out.logprob = token.logprob();
          for (const auto& top : token.top()) out.top.emplace_back(top.id(), top.logprob());
        }
        choice.text += event.delta().text();
        if (callbacks.on_text && !event.delta().text().empty())
          callbacks.on_text(static_cast<int>(event.delta().choice()), event.delta().text());
      } else if (event.has_choice_end() && event.choice_end().choice() < result->choices.size()) {
        const v1::ChoiceEnd& end = event.choice_end();
        ChoiceResult& choice = result->choices[end.choice()];
        choice.finish_reason = FinishReasonName(end.reason());
        choice.stop_string = end.stop_string();
        if (end.stopped_by_case() == v1::ChoiceEnd::kStopToken)
          choice.stop_token = end.stop_token();
      } else if (event.has_finished()) {
        Take(event.finished(), result);
      }
    }
  }
  return ToCallStatus(reader->Finish(), context);
}

CallStatus Client::Tokenize(const GenerateParams& params, const std::string& text,
                            TokenizeResult* result) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::TokenizeRequest request;
  request.set_model(params.model);
  request.set_date_string(params.date_string);
  if (params.messages.empty())
    request.set_text(text);
  else
    FillConversation(params.messages, request.mutable_chat());
  v1::TokenizeResponse response;
  const grpc::Status status = impl_->tessera_->Tokenize(&context, request, &response);
  if (status.ok()) {
    result->ids.assign(response.token_ids().begin(), response.token_ids().end());
    result->tokens.assign(response.tokens().begin(), response.tokens().end());
    result->rendered = response.rendered();
  }
  return ToCallStatus(status, context);
}

CallStatus Client::ListModels(std::vector<ClientModel>* models) {
  models->clear();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::ListModelsResponse response;
  const grpc::Status status = impl_->tessera_->ListModels(&context, {}, &response);
  if (!status.ok()) return ToCallStatus(status, context);
  for (const v1::ModelSummary& summary : response.models()) {
    ClientModel& model = models->emplace_back();
    model.name = summary.name();
    model.family = summary.family();
    model.has_vision = summary.has_vision();
    model.max_context = summary.max_context();
    grpc::ClientContext details_context;
    details_context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::GetModelRequest request;
    request.set_model(summary.name());
    v1::GetModelResponse details;
    const grpc::Status details_status =
        impl_->tessera_->GetModel(&details_context, request, &details);
    if (!details_status.ok()) return ToCallStatus(details_status, details_context);
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = true;
    options.always_print_primitive_fields = true;
    options.preserve_proto_field_names = true;
    (void)google::protobuf::util::MessageToJsonString(details, &model.details_json, options);
  }
  return {};
}

CallStatus Client::Health(const std::string& service, std::string* state,
                          std::chrono::milliseconds timeout) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status = impl_->health_->Check(&context, request, &response);
  if (status.ok())
    *state = grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response.status());
  return ToCallStatus(status, context);
}

}  // namespace tessera
