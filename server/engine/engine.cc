#include "server/engine/engine.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "server/engine/clock.h"
#include "server/engine/engine_core.h"

namespace tessera {
namespace {

// What wakes the engine's thread. Streams keep it alive beyond the engine, because their readers
// may drain them later.
struct WakeUp {
  std::mutex mu;
  std::condition_variable changed;
  bool pending = false;  // guarded by mu

  void Set() {
    std::lock_guard lock(mu);
    pending = true;
    changed.notify_one();
  }
};

struct Submission {
  RequestHandle handle = 0;
  std::shared_ptr<const PreparedRequest> request;
  std::shared_ptr<EventStream> stream;
};

}  // namespace

class Engine::Impl {
 public:
  Impl(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
       TextDecoderFactory decoders, const Clock& clock)
      : options_(options),
        clock_(clock),
        wake_(std::make_shared<WakeUp>()),
        core_(options, std::move(runner), std::move(decoders), clock),
        published_(core_.stats()),
        thread_([this] { Run(); }) {}

  ~Impl() {
    {
      std::lock_guard lock(wake_->mu);
      stopping_ = true;
      wake_->pending = true;
      wake_->changed.notify_one();
    }
    thread_.join();
  }

  Result<RequestHandle> Submit(std::shared_ptr<const PreparedRequest> request,
                               std::shared_ptr<EventStream> stream) {
    Result<void> checked = CheckRequest(*request, core_.runner(), core_.max_running());
    if (!checked) {
      std::lock_guard lock(wake_->mu);
      ++refused_;
      return tl::unexpected(std::move(checked).error());
    }
    stream->SetDrainListener([wake = wake_] { wake->Set(); });
    std::lock_guard lock(wake_->mu);
    if (device_lost_ || draining_ || stopping_) {
      ++refused_;
      if (device_lost_) return Fail(ErrorCode::kUnavailable, "the device was lost");
      return Fail(ErrorCode::kUnavailable, "the server is shutting down");
    }
    if (queued_ >= options_.max_queue) {
      ++refused_;
      return Fail(ErrorCode::kResourceExhausted, "the queue is full",
                  {.field = "queue",
                   .limit = std::to_string(options_.max_queue),
                   .value = std::to_string(queued_)});
    }
    ++queued_;
    ++in_flight_;
    const RequestHandle handle = ++last_handle_;
    submissions_.push_back({handle, std::move(request), std::move(stream)});
    wake_->pending = true;
    wake_->changed.notify_one();
    return handle;
  }

  void Cancel(RequestHandle handle) {
    std::lock_guard lock(wake_->mu);
    cancellations_.push_back(handle);
    wake_->pending = true;
    wake_->changed.notify_one();
  }

  void BeginDrain() {
    std::lock_guard lock(wake_->mu);
    draining_ = true;
  }
  bool Drained() const {
    std::lock_guard lock(wake_->mu);
    return draining_ && in_flight_ == 0;
  }
  bool healthy() const {
    std::lock_guard lock(wake_->mu);
    return !device_lost_;
  }
  EngineStats stats() const {
    std::lock_guard lock(wake_->mu);
    EngineStats stats = published_;
    stats.requests_refused = refused_;
    stats.waiting = in_flight_ - stats.running;  // on their way to the engine's thread, too
    return stats;
  }
  const ModelInfo& info() const { return core_.runner().info(); }

 private:
  void Run() {
    bool can_step = false;
    for (;;) {
      std::vector<Submission> submissions;
      std::vector<RequestHandle> cancellations;
      bool stopping = false;
      {
        const std::optional<TimePoint> next = can_step ? std::nullopt : core_.NextWake();
        std::unique_lock lock(wake_->mu);
        while (!can_step && !wake_->pending) {
          if (!next) {
            wake_->changed.wait(lock);
          } else if (clock_.Now() < *next) {
            clock_.WaitUntil(wake_->changed, lock, *next);
          } else {
            break;
          }
        }
        wake_->pending = false;
        submissions.swap(submissions_);
        cancellations.swap(cancellations_);
        stopping = stopping_;
      }
      for (Submission& submission : submissions) Add(submission);
      for (RequestHandle handle : cancellations) core_.Cancel(handle);
      if (stopping)
        core_.EndAll(Error{.code = ErrorCode::kUnavailable, .what = "the server is shutting down"});
      if (core_.device_lost())
        core_.EndAll(Error{.code = ErrorCode::kUnavailable, .what = "the device was lost"});
      can_step = !stopping && core_.RunOnce();
      Publish();
      if (stopping) return;
    }
  }

  void Add(const Submission& submission) {
    try {
      core_.Add(submission.handle, submission.request, submission.stream);
    } catch (const std::exception&) {  // out of memory
      for (int choice = 0; choice < submission.request->n; ++choice) {
        submission.stream->Push(ChoiceEnd{.choice = choice, .reason = FinishReason::kError});
      }
      submission.stream->Push(
          RequestEnd{.error = Error{.code = ErrorCode::kInternal,
                                    .what = "the request could not be taken on"}});
    }
  }

  void Publish() {
    const EngineStats stats = core_.stats();
    std::lock_guard lock(wake_->mu);
    published_ = stats;
    device_lost_ = core_.device_lost();
    queued_ = core_.never_admitted() + static_cast<int>(submissions_.size());
    in_flight_ = core_.requests() + static_cast<int>(submissions_.size());
  }

  const EngineOptions options_;
  const Clock& clock_;
  const std::shared_ptr<WakeUp> wake_;
  // Guarded by wake_->mu.
  std::vector<Submission> submissions_;
  std::vector<RequestHandle> cancellations_;
  RequestHandle last_handle_ = 0;
  int queued_ = 0;     // waiting for their first admission
  int in_flight_ = 0;  // accepted, terminal event not out
  int64_t refused_ = 0;
  bool draining_ = false;
  bool stopping_ = false;
  bool device_lost_ = false;
  // The thread's own; Submit reads only what is constant in it.
  EngineCore core_;
  EngineStats published_;  // guarded by wake_->mu
  std::thread thread_;     // last: it uses all of the above
};

Engine::Engine(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
               TextDecoderFactory decoders, const Clock& clock)
    : impl_(std::make_unique<Impl>(options, std::move(runner), std::move(decoders), clock)) {}
Engine::~Engine() = default;

Result<RequestHandle> Engine::Submit(std::shared_ptr<const PreparedRequest> request,
                                     std::shared_ptr<EventStream> stream) {
  return impl_->Submit(std::move(request), std::move(stream));
}
void Engine::Cancel(RequestHandle handle) { impl_->Cancel(handle); }
void Engine::BeginDrain() { impl_->BeginDrain(); }
bool Engine::Drained() const { return impl_->Drained(); }
bool Engine::healthy() const { return impl_->healthy(); }
EngineStats Engine::stats() const { return impl_->stats(); }
const ModelInfo& Engine::info() const { return impl_->info(); }

}  // namespace tessera
