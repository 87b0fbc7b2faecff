#include "server/wire/health.h"

#include <optional>
#include <utility>
#include <vector>

#include "grpc/health/v1/health.pb.h"
#include "server/wire/scan.h"

namespace tessera {
namespace {

namespace pb = grpc::health::v1;
using Status = pb::HealthCheckResponse;

Result<std::string> ServiceName(const Payload& payload) {
  TESSERA_RETURN_IF_ERROR(ScanMessage(payload, *pb::HealthCheckRequest::descriptor(),
                                      {.submessages = 0, .elements = 16, .string_bytes = 1024}));
  pb::HealthCheckRequest request;
  const auto stream = payload.Open();
  if (!request.ParseFromZeroCopyStream(stream.get()))
    return Invalid("the request is not a well-formed protocol buffer message");
  return std::move(*request.mutable_service());
}

std::string Answer(Status::ServingStatus status) {
  pb::HealthCheckResponse response;
  response.set_status(status);
  return response.SerializeAsString();
}

class HealthCheck final : public CallHandler {
 public:
  HealthCheck(const Health& health, std::shared_ptr<Call> call)
      : health_(health), call_(std::move(call)) {}

  void OnRequest(std::unique_ptr<Payload> payload) override {
    const auto service = ServiceName(*payload);
    if (!service) return call_->Finish(ToWireStatus(service.error(), call_->identity().id));
    if (!Health::Known(*service)) {
      return call_->Finish(ToWireStatus({.code = ErrorCode::kNotFound,
                                         .what = "this server has no such service",
                                         .field = "service"},
                                        call_->identity().id));
    }
    call_->Write(Answer(health_.serving() ? Status::SERVING : Status::NOT_SERVING));
  }
  void OnWritten() override { call_->Finish({}); }

 private:
  const Health& health_;
  const std::shared_ptr<Call> call_;
};

}  // namespace

// Tells the state at once and then each change; a change back and forth while a write is out is not
// told.
class HealthWatch final : public CallHandler, public std::enable_shared_from_this<HealthWatch> {
 public:
  HealthWatch(Health& health, std::shared_ptr<Call> call)
      : health_(health), call_(std::move(call)) {}

  void OnRequest(std::unique_ptr<Payload> payload) override {
    const auto service = ServiceName(*payload);
    if (!service) return call_->Finish(ToWireStatus(service.error(), call_->identity().id));
    if (!Health::Known(*service))
      return Tell(Status::SERVICE_UNKNOWN);  // may be known one day, says the protocol
    bool serving = false;
    {
      const std::lock_guard lock(health_.mu_);
      health_.watches_.push_back(weak_from_this());
      serving = health_.serving_;
    }
    Tell(serving ? Status::SERVING : Status::NOT_SERVING);
  }

  void OnWritten() override {
    const std::lock_guard lock(mu_);
    writing_ = false;
    WriteLocked();
  }

  void Tell(Status::ServingStatus status) {
    const std::lock_guard lock(mu_);
    wanted_ = status;
    WriteLocked();
  }

 private:
  void WriteLocked() {
    if (writing_ || told_ == wanted_) return;
    writing_ = true;
    told_ = wanted_;
    call_->Write(Answer(*wanted_));
  }

  Health& health_;
  const std::shared_ptr<Call> call_;
  std::mutex mu_;
  bool writing_ = false;                         // guarded by mu_
  std::optional<Status::ServingStatus> wanted_;  // guarded by mu_
  std::optional<Status::ServingStatus> told_;    // guarded by mu_
};

bool Health::Known(std::string_view service) {
  return service.empty() || service == "tessera.v1.Tessera";
}

bool Health::serving() const {
  const std::lock_guard lock(mu_);
  return serving_;
}

void Health::SetServing(bool serving) { Set(serving, false); }
void Health::Shutdown() { Set(false, true); }

void Health::Set(bool serving, bool for_good) {
  std::vector<std::shared_ptr<HealthWatch>> watches;
  {
    const std::lock_guard lock(mu_);
    if (for_good_) return;
    serving_ = serving;
    for_good_ = for_good;
    for (auto it = watches_.begin(); it != watches_.end();) {
      if (auto watch = it->lock()) {
        watches.push_back(std::move(watch));
        ++it;
      } else {
        it = watches_.erase(it);
      }
    }
  }
  for (const auto& watch : watches) watch->Tell(serving ? Status::SERVING : Status::NOT_SERVING);
}

std::shared_ptr<CallHandler> Health::Check(std::shared_ptr<Call> call) {
  return std::make_shared<HealthCheck>(*this, std::move(call));
}

std::shared_ptr<CallHandler> Health::Watch(std::shared_ptr<Call> call) {
  {
    const std::lock_guard lock(mu_);
    watches_.remove_if([](const auto& watch) { return watch.expired(); });
  }
  return std::make_shared<HealthWatch>(*this, std::move(call));
}

}  // namespace tessera
