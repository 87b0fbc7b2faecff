#include "server/wire/service.h"

#include <utility>

#include "server/prepare/prompt.h"
#include "server/wire/convert.h"
#include "server/wire/generate.h"
#include "server/wire/reply.h"

namespace tessera {
namespace {

// One message in, one out.
class UnaryHandler : public CallHandler {
 public:
  UnaryHandler(Service& service, std::shared_ptr<Call> call)
      : service_(service), call_(std::move(call)) {}
  void OnWritten() override { call_->Finish({}); }

 protected:
  void Answer(const Result<std::string>& message) {
    if (message) {
      call_->Write(*message);
    } else {
      call_->Finish(ToWireStatus(message.error(), call_->identity().id));
    }
  }

  Service& service_;
  const std::shared_ptr<Call> call_;
};

class ListModelsHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;
  void OnRequest(std::unique_ptr<Payload> payload) override {
    Answer([&]() -> Result<std::string> {
      TESSERA_RETURN_IF_ERROR(ConvertListModels(*payload));
      return ListModelsMessage(service_.models());
    }());
  }
};

class GetModelHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;
  void OnRequest(std::unique_ptr<Payload> payload) override {
    Answer([&]() -> Result<std::string> {
      TESSERA_TRY(const std::string name, ConvertGetModel(*payload));
      TESSERA_TRY(const auto model, service_.FindModel(name));
      return GetModelMessage(*model, service_.preparer().limits(), service_.options().max_queue,
                             service_.refused());
    }());
  }
};

class TokenizeHandler final : public UnaryHandler,
                              public std::enable_shared_from_this<TokenizeHandler> {
 public:
  TokenizeHandler(Service& service, std::shared_ptr<Call> call)
      : UnaryHandler(service, std::move(call)) {
    service_.Enter();
  }
  ~TokenizeHandler() override {
    service_.Release(reserved_);
    service_.Leave();
  }

  void OnRequest(std::unique_ptr<Payload> payload) override {
    const int64_t bytes = payload->size();
    if (auto reserved = service_.Reserve(bytes); !reserved)
      return Answer(tl::unexpected<Error>(reserved.error()));
    reserved_ = bytes;
    const auto shared = std::make_shared<std::unique_ptr<Payload>>(std::move(payload));
    const bool taken = service_.preparer().TryRun(
        [self = shared_from_this(), shared] { self->Run(std::move(*shared)); });
    if (!taken) Answer(Fail(ErrorCode::kResourceExhausted, "too many requests are being prepared"));
  }

 private:
  void Run(std::unique_ptr<Payload> payload) noexcept {
    try {
      Answer([&]() -> Result<std::string> {
        TESSERA_TRY(const TokenizeInput input,
                    ConvertTokenize(*payload, service_.preparer().limits()));
        payload.reset();
        TESSERA_TRY(const auto model, service_.FindModel(input.model));
        TESSERA_TRY(const Prompt prompt, BuildPrompt(*model->frontend, input.prompt));
        return TokenizeMessage(prompt, input.prompt.kind == PromptInput::Kind::kChat,
                               model->frontend->tokenizer());
      }());
    } catch (...) {
      call_->Finish(InternalStatus(call_->identity().id));
    }
  }

  int64_t reserved_ = 0;
};

}  // namespace

Service::Service(const ServiceOptions& options, Preparer& preparer, RequestSink sink)
    : options_(options), preparer_(preparer), sink_(std::move(sink)) {}

Service::~Service() {
  std::unique_lock lock(mu_);
  left_.wait(lock, [&] { return in_flight_ == 0; });
}

HandlerFactory Service::Handlers() {
  return [this](const MethodPolicy& method, std::shared_ptr<Call> call) {
    return Make(method, std::move(call));
  };
}

void Service::SetModel(std::shared_ptr<const ServedModel> model) {
  {
    const std::lock_guard lock(mu_);
    models_ = {std::move(model)};
    if (draining_) return;
  }
  health_.SetServing(true);
}

void Service::AnnounceDrain() { health_.Shutdown(); }

void Service::StopAccepting() {
  health_.Shutdown();
  const std::lock_guard lock(mu_);
  draining_ = true;
}

int Service::in_flight() const {
  const std::lock_guard lock(mu_);
  return in_flight_;
}

void Service::Enter() {
  const std::lock_guard lock(mu_);
  ++in_flight_;
}

void Service::Leave() {
  const std::lock_guard lock(mu_);
  --in_flight_;
  left_.notify_all();
}

std::vector<std::shared_ptr<const ServedModel>> Service::models() const {
  const std::lock_guard lock(mu_);
  return models_;
}

Result<void> Service::CheckServing() const {
  const std::lock_guard lock(mu_);
  if (draining_) return Fail(ErrorCode::kUnavailable, "the server is shutting down");
  if (models_.empty()) return Fail(ErrorCode::kUnavailable, "the model is still being loaded");
  return {};
}

Result<std::shared_ptr<const ServedModel>> Service::FindModel(const std::string& name) const {
  const std::lock_guard lock(mu_);
  if (models_.empty()) return Fail(ErrorCode::kUnavailable, "the model is still being loaded");
  if (name.empty() && models_.size() == 1) return models_.front();
  for (const auto& model : models_) {
    if (model->name == name) return model;
  }
  return Fail(ErrorCode::kNotFound, "this server has no such model", {.field = "model"});
}

Result<void> Service::Reserve(int64_t bytes) {
  if (pending_bytes_.fetch_add(bytes) + bytes <= options_.max_pending_bytes) return {};
  pending_bytes_ -= bytes;
  return Fail(ErrorCode::kResourceExhausted, "too many bytes of requests are being prepared",
              {.limit = std::to_string(options_.max_pending_bytes) + " bytes"});
}

void Service::Record(const RequestRecord& record) {
  if (sink_) sink_(record);
}

// Counts a Generate as preparing, if it is let in.
Result<void> Service::Admit(const MethodPolicy& method) {
  if (method.admission == Admission::kAlways) return {};
  TESSERA_RETURN_IF_ERROR(CheckServing());
  if (method.admission != Admission::kQueue) return {};
  int64_t waiting = ++preparing_;
  for (const auto& model : models()) waiting += model->engine->stats().waiting;
  if (waiting <= options_.max_queue) return {};
  --preparing_;
  return Fail(ErrorCode::kResourceExhausted, "the queue is full",
              {.limit = std::to_string(options_.max_queue)});
}

Result<std::shared_ptr<CallHandler>> Service::Make(const MethodPolicy& method,
                                                   std::shared_ptr<Call> call) {
  const bool generate = method.method == "/tessera.v1.Tessera/Generate";
  if (auto admitted = Admit(method); !admitted) {
    if (generate) {
      CountRefused();
      const WireStatus status = ToWireStatus(admitted.error(), call->identity().id);
      Record({.method = "Generate",
              .id = call->identity().id,
              .tenant = call->identity().tenant,
              .code = std::string(ErrorCodeName(*status.code)),
              .error = status.message});
    }
    return tl::unexpected<Error>(std::move(admitted).error());
  }
  if (generate) return MakeGenerateHandler(*this, std::move(call));
  if (method.method == "/tessera.v1.Tessera/Tokenize")
    return std::make_shared<TokenizeHandler>(*this, std::move(call));
  if (method.method == "/tessera.v1.Tessera/ListModels")
    return std::make_shared<ListModelsHandler>(*this, std::move(call));
  if (method.method == "/tessera.v1.Tessera/GetModel")
    return std::make_shared<GetModelHandler>(*this, std::move(call));
  if (method.method == "/grpc.health.v1.Health/Check") return health_.Check(std::move(call));
  if (method.method == "/grpc.health.v1.Health/Watch") return health_.Watch(std::move(call));
  return Fail(ErrorCode::kUnimplemented, "this server has no such method");
}

}  // namespace tessera
