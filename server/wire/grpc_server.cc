#include "server/wire/grpc_server.h"

#include <fmt/format.h>
#include <grpc/support/log.h>
#include <grpcpp/alarm.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/version_info.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <random>
#include <utility>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/prepare/limits.h"
#include "tessera/v1/tessera.grpc.pb.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;

// After its deadline a call's own code has this long to end it with its counts; then the transport
// does.
constexpr milliseconds kDeadlineGrace{500};
// A client that asks for more than a day gets a day: arithmetic on times must not overflow.
constexpr std::chrono::hours kLongestDeadline{24};

class ByteBufferPayload final : public Payload {
 public:
  explicit ByteBufferPayload(const grpc::ByteBuffer& buffer) : buffer_(buffer) {}
  int64_t size() const override { return static_cast<int64_t>(buffer_.Length()); }
  std::unique_ptr<google::protobuf::io::ZeroCopyInputStream> Open() const override {
    return std::make_unique<grpc::ProtoBufferReader>(&buffer_);
  }

 private:
  mutable grpc::ByteBuffer buffer_;  // the reader wants it mutable, but only reads
};

std::string NewRequestId() {
  std::random_device random;
  return fmt::format("r-{:08x}{:08x}", random(), random());
}

gpr_timespec After(milliseconds delay) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_millis(delay.count(), GPR_TIMESPAN));
}

grpc::Status ToGrpc(const WireStatus& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(GrpcCode(*status.code)), status.message};
}

struct CallEnvironment {
  GrpcServerOptions options;
  const Authenticator& authenticator;
  HandlerFactory handlers;
};

// A call lives until gRPC says OnDone and nobody of ours holds it any more.
class GrpcCall final : public grpc::ServerGenericBidiReactor,
                       public Call,
                       public std::enable_shared_from_this<GrpcCall> {
 public:
  GrpcCall(grpc::GenericCallbackServerContext* context, const CallEnvironment& environment)
      : context_(context), environment_(environment) {}

  // Lets the call in or refuses it. `self` is held until OnDone.
  void Begin(std::shared_ptr<GrpcCall> self) {
    self_ = std::move(self);
    identity_.id = NewRequestId();
    identity_.arrival = std::chrono::steady_clock::now();
    SetDeadline();
    Guarded([&] {
      auto admitted = Admit();
      if (!admitted) return Finish(ToWireStatus(admitted.error(), identity_.id));
      {
        const std::lock_guard lock(mu_);
        handler_ = *std::move(admitted);
      }
      const auto weak = weak_from_this();
      message_alarm_.Set(After(environment_.options.message_timeout), [weak](bool fired) {
        if (const auto call = weak.lock(); call && fired) call->MessageTimedOut();
      });
      if (deadline_after_ < milliseconds::max()) {
        deadline_alarm_.Set(After(deadline_after_ + kDeadlineGrace), [weak](bool fired) {
          if (const auto call = weak.lock(); call && fired) call->DeadlinePassed();
        });
      }
      StartRead(&incoming_);
    });
  }

  // ---- Call
  const CallIdentity& identity() const override { return identity_; }

  void Write(std::string message) override {
    const std::lock_guard lock(mu_);
    if (finish_asked_ || cancelled_) return;
    outgoing_ = grpc::ByteBuffer();
    const grpc::Slice slice(message);
    outgoing_ = grpc::ByteBuffer(&slice, 1);
    writing_ = true;
    StartWrite(&outgoing_);
  }

  void Finish(const WireStatus& status) override {
    const std::lock_guard lock(mu_);
    if (finish_asked_) return;
    finish_asked_ = true;
    final_ = status;
    if (!writing_) FinishLocked();
  }

  // ---- gRPC's reactions
  void OnReadDone(bool ok) override {
    {
      const std::lock_guard lock(mu_);
      received_ = true;
    }
    message_alarm_.Cancel();
    if (!ok) {
      return Finish(ToWireStatus(
          {.code = ErrorCode::kInvalidArgument, .what = "the call carries no request message"},
          identity_.id));
    }
    auto payload = std::make_unique<ByteBufferPayload>(incoming_);
    incoming_.Clear();
    if (const auto handler = Handler()) Guarded([&] { handler->OnRequest(std::move(payload)); });
  }

  void OnWriteDone(bool ok) override {
    std::shared_ptr<CallHandler> handler;
    {
      const std::lock_guard lock(mu_);
      writing_ = false;
      if (finish_asked_) return FinishLocked();
      if (!ok) return;  // OnCancel comes
      handler = handler_;
    }
    if (handler) Guarded([&] { handler->OnWritten(); });
  }

  void OnCancel() override {
    {
      const std::lock_guard lock(mu_);
      cancelled_ = true;
    }
    if (const auto handler = Handler()) Guarded([&] { handler->OnCancelled(); });
    Finish(ToWireStatus({.code = ErrorCode::kCancelled, .what = "the call was cancelled"},
                        identity_.id));
  }

  void OnDone() override {
    message_alarm_.Cancel();
    deadline_alarm_.Cancel();
    std::shared_ptr<CallHandler> handler;
    {
      const std::lock_guard lock(mu_);
      handler = std::move(handler_);
    }
    const auto self =
        std::move(self_);  // the last reference, unless a handler still works for this call
  }

 private:
  std::shared_ptr<CallHandler> Handler() {
    const std::lock_guard lock(mu_);
    return finish_asked_ ? nullptr : handler_;
  }

  // Nothing that our code throws may reach gRPC's threads.
  template <typename Function>
  void Guarded(Function function) {
    try {
      function();
    } catch (...) {
      Finish(InternalStatus(identity_.id));
    }
  }

  void SetDeadline() {
    const auto now = std::chrono::system_clock::now();
    const auto asked = context_->deadline();
    const bool none = asked == std::chrono::system_clock::time_point::max() ||
                      asked - now > kLongestDeadline * 365;
    milliseconds left = none ? environment_.options.default_deadline
                             : std::chrono::duration_cast<milliseconds>(asked - now);
    left = std::clamp<milliseconds>(left, milliseconds(0), kLongestDeadline);
    identity_.deadline = identity_.arrival + left;
    deadline_after_ = left;
  }

  Result<std::shared_ptr<CallHandler>> Admit() {
    const MethodPolicy* policy = FindPolicy(context_->method());
    if (policy == nullptr) return Fail(ErrorCode::kUnimplemented, "this server has no such method");
    if (policy->access == Access::kTenant) {
      TESSERA_TRY(Tenant tenant, environment_.authenticator.Authenticate([&](std::string_view key) {
        const auto& metadata = context_->client_metadata();
        const auto found = metadata.find(grpc::string_ref(key.data(), key.size()));
        if (found == metadata.end()) return std::optional<std::string_view>();
        return std::optional<std::string_view>({found->second.data(), found->second.size()});
      }));
      identity_.tenant = std::move(tenant.id);
      identity_.cache_salt = tenant.cache_salt;
    }
    return environment_.handlers(*policy, shared_from_this());
  }

  void MessageTimedOut() {
    {
      const std::lock_guard lock(mu_);
      if (received_) return;
    }
    Finish(ToWireStatus({.code = ErrorCode::kDeadlineExceeded,
                         .what = "the request message did not arrive in time"},
                        identity_.id));
  }

  void DeadlinePassed() {
    if (const auto handler = Handler()) Guarded([&] { handler->OnCancelled(); });
    Finish(ToWireStatus({.code = ErrorCode::kDeadlineExceeded, .what = "the deadline passed"},
                        identity_.id));
    const std::lock_guard lock(mu_);
    if (writing_) context_->TryCancel();  // the client does not read; there is no other way to end
  }

  void FinishLocked() {
    if (finished_) return;
    finished_ = true;
    if (final_.pushback)
      context_->AddTrailingMetadata("grpc-retry-pushback-ms",
                                    std::to_string(final_.pushback->count()));
    grpc::ServerGenericBidiReactor::Finish(ToGrpc(final_));
  }

  // Constant after Begin.
  grpc::GenericCallbackServerContext* const context_;
  const CallEnvironment& environment_;
  CallIdentity identity_;
  milliseconds deadline_after_{0};

  std::shared_ptr<GrpcCall> self_;  // from Begin to OnDone
  grpc::Alarm message_alarm_, deadline_alarm_;
  grpc::ByteBuffer incoming_;  // gRPC's until OnReadDone

  std::mutex mu_;
  std::shared_ptr<CallHandler> handler_;  // guarded by mu_
  grpc::ByteBuffer outgoing_;             // guarded by mu_; gRPC's while writing_
  bool received_ = false;                 // guarded by mu_
  bool writing_ = false;                  // guarded by mu_
  bool cancelled_ = false;                // guarded by mu_
  bool finish_asked_ = false;             // guarded by mu_
  bool finished_ = false;                 // guarded by mu_
  WireStatus final_;                      // guarded by mu_
};

class Dispatcher final : public grpc::CallbackGenericService {
 public:
  explicit Dispatcher(const CallEnvironment& environment) : environment_(environment) {}

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    auto call = std::make_shared<GrpcCall>(context, environment_);
    GrpcCall* reactor = call.get();
    reactor->Begin(std::move(call));
    return reactor;
  }

 private:
  const CallEnvironment& environment_;
};

// Registered for their names alone, which reflection lists: every method is "generic", served by
// the Dispatcher.
namespace pb = tessera::v1;
using TesseraNames = pb::Tessera::WithGenericMethod_Generate<
    pb::Tessera::WithGenericMethod_Tokenize<pb::Tessera::WithGenericMethod_ListModels<
        pb::Tessera::WithGenericMethod_GetModel<pb::Tessera::Service>>>>;
namespace health = grpc::health::v1;
using HealthNames = health::Health::WithGenericMethod_Check<
    health::Health::WithGenericMethod_Watch<health::Health::Service>>;

// Linking the reflection library turns it on in every server of the process; whether this one has
// it is decided here.
class ReflectionChoice final : public grpc::ServerBuilderOption {
 public:
  explicit ReflectionChoice(bool wanted) : wanted_(wanted) {}
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
    if (wanted_)
      plugins->push_back(std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>());
  }

 private:
  const bool wanted_;
};

void ApplyLimits(grpc::ServerBuilder& builder, const GrpcServerOptions& options) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a port in use is an error
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 100);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 * 1024);
  // Dead peers are gone after 80 s; clients may ping every 5 minutes.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 300'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, 30 * 60'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, 10 * 60'000);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 20'000);
  // Pictures are compressed already, and a message of a few bytes cannot become one of gigabytes.
  for (const auto algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder.SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  grpc::ResourceQuota quota("tessera");
  quota.Resize(static_cast<size_t>(options.memory));
  builder.SetResourceQuota(quota);
}

}  // namespace

class GrpcServer::Impl {
 public:
  Impl(const GrpcServerOptions& options, const Authenticator& authenticator,
       HandlerFactory handlers)
      : environment_{options, authenticator, std::move(handlers)}, dispatcher_(environment_) {}
  ~Impl() { Shutdown(milliseconds(0)); }

  Result<void> Start() {
    grpc::ServerBuilder builder;
    builder.SetOption(std::make_unique<ReflectionChoice>(environment_.options.reflection));
    ApplyLimits(builder, environment_.options);
    builder.AddListeningPort(environment_.options.address, grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&tessera_);
    builder.RegisterService(&health_);
    builder.RegisterCallbackGenericService(&dispatcher_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return Fail(ErrorCode::kUnavailable,
                  "cannot listen: the address is in use or not of this machine",
                  {.field = "--listen", .value = environment_.options.address});
    }
    return {};
  }

  void Shutdown(milliseconds grace) {
    if (server_ == nullptr) return;
    server_->Shutdown(After(grace));
    server_->Wait();
    server_.reset();
  }

  int port() const { return port_; }

 private:
  const CallEnvironment environment_;
  Dispatcher dispatcher_;
  TesseraNames tessera_;
  HealthNames health_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

Result<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                      const Authenticator& authenticator,
                                                      HandlerFactory handlers) {
  // Its complaints (a port in use, say) come back as our errors; whoever wants its own words sets
  // GRPC_VERBOSITY.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
  auto impl = std::make_unique<Impl>(options, authenticator, std::move(handlers));
  TESSERA_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() = default;
int GrpcServer::port() const { return impl_->port(); }
void GrpcServer::Shutdown(std::chrono::milliseconds grace) { impl_->Shutdown(grace); }

std::string GrpcVersion() { return GRPC_CPP_VERSION_STRING; }

}  // namespace tessera
