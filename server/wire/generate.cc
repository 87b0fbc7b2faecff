#include "server/wire/generate.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

#include "server/wire/convert.h"
#include "server/wire/reply.h"

namespace tessera {
namespace {

// Deltas of a choice that pile up while a client reads slowly go out together, up to this size.
constexpr size_t kMergedBytes = 16 * 1024;
constexpr size_t kMergedTokens = 256;

// Who holds it: the transport until the call is done, a job of the pool while it is prepared, its
// own stream (by the listener) until the engine's terminal event. The engine gives exactly one of
// those to whatever it accepted, so every handler ends, and tells so once in the log.
class GenerateHandler final : public CallHandler,
                              public Pumped,
                              public std::enable_shared_from_this<GenerateHandler> {
 public:
  GenerateHandler(Service& service, std::shared_ptr<Call> call)
      : service_(service), call_(std::move(call)) {
    record_.method = "Generate";
    record_.id = call_->identity().id;
    record_.tenant = call_->identity().tenant;
    service_.Enter();
  }
  ~GenerateHandler() override {
    // Gone before it was prepared: the client left, or its message never came.
    if (!over_) EndLocked(Cancelled());
    LeavePreparation();
    service_.Leave();
  }

  // ---- transport
  void OnRequest(std::unique_ptr<Payload> payload) override {
    const int64_t bytes = payload->size();
    if (auto reserved = service_.Reserve(bytes); !reserved) return Refuse(reserved.error());
    reserved_ = bytes;
    const auto shared = std::make_shared<std::unique_ptr<Payload>>(std::move(payload));
    const bool taken = service_.preparer().TryRun(
        [self = shared_from_this(), shared] { self->Prepare(std::move(*shared)); });
    if (!taken)
      Refuse(Error{.code = ErrorCode::kResourceExhausted,
                   .what = "too many requests are being prepared"});
  }

  void OnWritten() override {
    {
      const std::lock_guard lock(mu_);
      writing_ = false;
      if (last_written_) return call_->Finish({});
    }
    Pump();
  }

  void OnCancelled() override {
    stop_.request_stop();
    std::shared_ptr<EngineHandle> engine;
    RequestHandle handle = 0;
    {
      const std::lock_guard lock(mu_);
      cancelled_ = true;
      if (submitted_ && !over_) {
        engine = model_->engine;
        handle = handle_;
      }
    }
    if (engine) engine->Cancel(handle);
    service_.pump().Ring(shared_from_this());
  }

  // ---- pump
  void Pump() override {
    try {
      const std::lock_guard lock(mu_);
      PumpLocked();
    } catch (...) {
      Abort();
    }
  }

 private:
  WireStatus Cancelled() const {
    return ToWireStatus({.code = ErrorCode::kCancelled, .what = "the call was cancelled"},
                        record_.id);
  }
  void LeavePreparation() {
    if (preparing_.exchange(false)) {
      service_.EndPreparation();
      service_.Release(reserved_);
    }
  }

  // ---- pool
  void Prepare(std::unique_ptr<Payload> payload) noexcept {
    try {
      auto input = ConvertGenerate(*payload, service_.preparer().limits());
      payload.reset();
      if (!input) return Refuse(input.error());
      record_.client_id = input->client_request_id;
      record_.choices = input->n;
      auto model = service_.FindModel(input->model);
      if (!model) return Refuse(model.error());
      record_.model = (*model)->name;
      logprobs_ = input->logprobs >= 0;
      model_ = *std::move(model);
      service_.preparer().Prepare(model_->frontend, *std::move(input), call_->identity(),
                                  stop_.get_token(),
                                  [self = shared_from_this()](Result<Prepared> prepared) {
                                    self->Submit(std::move(prepared));
                                  });
    } catch (...) {
      End(InternalStatus(record_.id));
    }
  }

  void Submit(Result<Prepared> prepared) noexcept {
    try {
      LeavePreparation();
      if (!prepared) return Refuse(prepared.error());
      const std::lock_guard lock(mu_);
      if (cancelled_) return EndLocked(Cancelled());
      prepared_ = *std::move(prepared);
      stream_ = std::make_shared<EventStream>();
      stream_->SetListener(
          [&pump = service_.pump(), self = shared_from_this()] { pump.Ring(self); });
      auto handle = model_->engine->Submit(prepared_.request, stream_);
      if (!handle) {
        service_.CountRefused();
        return EndLocked(ToWireStatus(handle.error(), record_.id));
      }
      handle_ = *handle;
      submitted_ = true;
      PumpLocked();
    } catch (...) {
      Abort();
    }
  }

  // ---- under mu_
  void PumpLocked() {
    if (!submitted_ || over_) return;
    if (cancelled_) return DrainLocked();
    if (writing_) return;
    if (!started_) {
      started_ = true;
      return WriteLocked(StartedMessage(prepared_, record_.client_id, record_.model));
    }
    std::optional<Event> event = NextLocked();
    if (!event) return;
    const Tokenizer& tokenizer = model_->frontend->tokenizer();
    if (auto* delta = std::get_if<TextDelta>(&*event)) {
      WriteLocked(DeltaMessage(*delta, logprobs_, tokenizer));
    } else if (const auto* choice_end = std::get_if<ChoiceEnd>(&*event)) {
      WriteLocked(ChoiceEndMessage(*choice_end));
    } else {
      FinishedLocked(std::get<RequestEnd>(*event));
    }
  }

  // The next event, with the deltas of the same choice that follow it.
  std::optional<Event> NextLocked() {
    std::optional<Event> event = std::exchange(ahead_, std::nullopt);
    if (!event) event = stream_->Pop();
    if (!event) return event;
    auto* delta = std::get_if<TextDelta>(&*event);
    while (delta != nullptr && delta->text.size() < kMergedBytes &&
           delta->tokens.size() < kMergedTokens) {
      ahead_ = stream_->Pop();
      auto* more = ahead_ ? std::get_if<TextDelta>(&*ahead_) : nullptr;
      if (more == nullptr || more->choice != delta->choice) break;
      delta->text += more->text;
      for (TokenOut& token : more->tokens) delta->tokens.push_back(std::move(token));
      ahead_.reset();
    }
    return event;
  }

  // Nobody reads any more; only the counts are of interest.
  void DrainLocked() {
    while (std::optional<Event> event = NextLocked()) {
      if (const auto* end = std::get_if<RequestEnd>(&*event)) return FinishedLocked(*end);
    }
  }

  void FinishedLocked(const RequestEnd& end) {
    record_.usage = end.usage;
    record_.timings = end.timings;
    if (end.error) return EndLocked(ToWireStatus(*end.error, record_.id));
    last_written_ = true;
    if (!cancelled_) WriteLocked(FinishedMessage(end));
    EndLocked({});
  }

  void WriteLocked(std::string message) {
    writing_ = true;
    call_->Write(std::move(message));
  }

  // Over: tell the log, let go of the stream. An OK call is finished by OnWritten, after its last
  // message.
  void EndLocked(const WireStatus& status) {
    if (over_) return;
    over_ = true;
    if (stream_) stream_->SetListener(nullptr);
    std::optional<ErrorCode> code = status.code;
    // gRPC itself ends a call whose client set the deadline; to us it looks like a cancellation.
    if (code == ErrorCode::kCancelled &&
        std::chrono::steady_clock::now() >= call_->identity().deadline)
      code = ErrorCode::kDeadlineExceeded;
    record_.code = code ? ErrorCodeName(*code) : "OK";
    record_.error = status.message;
    service_.Record(record_);
    if (!status.ok()) call_->Finish(status);
  }

  void End(const WireStatus& status) {
    const std::lock_guard lock(mu_);
    EndLocked(status);
  }

  // A bug of ours, contained: the engine need not go on either.
  void Abort() {
    End(InternalStatus(record_.id));
    const std::lock_guard lock(mu_);
    if (submitted_) model_->engine->Cancel(handle_);
  }

  void Refuse(const Error& error) {
    LeavePreparation();
    if (error.code != ErrorCode::kCancelled) service_.CountRefused();
    End(ToWireStatus(error, record_.id));
  }

  Service& service_;
  const std::shared_ptr<Call> call_;
  std::stop_source stop_;
  std::atomic<bool> preparing_{true};
  int64_t reserved_ = 0;  // by OnRequest, before all else

  // Written by the job that prepares, before anything reads them under mu_.
  std::shared_ptr<const ServedModel> model_;
  bool logprobs_ = false;
  RequestRecord record_;

  std::mutex mu_;
  Prepared prepared_;  // guarded by mu_, as all below
  std::shared_ptr<EventStream> stream_;
  RequestHandle handle_ = 0;
  std::optional<Event> ahead_;  // popped, but not written yet
  bool submitted_ = false;
  bool started_ = false;  // `started` was written
  bool writing_ = false;
  bool last_written_ = false;  // `finished` is on its way
  bool cancelled_ = false;
  bool over_ = false;
};

}  // namespace

std::shared_ptr<CallHandler> MakeGenerateHandler(Service& service, std::shared_ptr<Call> call) {
  return std::make_shared<GenerateHandler>(service, std::move(call));
}

}  // namespace tessera
