#include "server/engine/model_runner.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <future>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/check.h"
#include "server/engine/step_thread.h"

namespace tessera {
namespace {

class Stopwatch {
 public:
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(begin_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// Exceptions leave the backend as they found it.
template <typename Action>
class AtEnd {
 public:
  explicit AtEnd(Action action) : action_(std::move(action)) {}
  ~AtEnd() { action_(); }
  AtEnd(const AtEnd&) = delete;
  AtEnd& operator=(const AtEnd&) = delete;

 private:
  Action action_;
};

constexpr int kTextLane = 0, kPictureLane = 1;
constexpr int64_t kMostGraphRows = 64;
constexpr size_t kMostGraphPages = 65536;  // block tables, which a graph carries

class LocalModelRunner final : public ModelRunner {
 public:
  LocalModelRunner(std::unique_ptr<Backend> backend, std::shared_ptr<const Model> model,
                   KvPool pool, std::unique_ptr<Workspace> workspace,
                   const ModelRunnerOptions& options)
      : options_(options),
        backend_(std::move(backend)),
        model_(std::move(model)),
        info_(model_->info()),
        pool_(std::move(pool)),
        workspace_(std::move(workspace)) {
    if (options_.run_behind && options_.probe == nullptr) thread_ = std::make_unique<StepThread>();
    info_.max_context = static_cast<int>(
        std::min<int64_t>(info_.max_context, int64_t{pool_.sizes().self_pages} * kKvBlockTokens));
  }

  const ModelInfo& info() const override { return info_; }
  int self_pages() const override { return pool_.sizes().self_pages; }
  int cross_pages() const override { return pool_.sizes().cross_pages; }
  int max_rows() const override { return options_.max_rows; }
  int max_logits_rows() const override { return options_.max_logits_rows; }
  int encode_slots() const override { return 1; }
  EncodePlan PlanEncode(const MediaPixels& pixels) const override {
    return model_->PlanEncode(pixels);
  }

  bool runs_behind() const override { return thread_ != nullptr; }

  StepHandle Submit(const Step& step) override {
    Flight& flight = flights_.emplace_back();
    flight.handle = ++last_handle_;
    flight.step = &step;
    try {
      if (thread_ == nullptr) {
        Start(flight);
      } else {
        flight.started = thread_->Run([this, &flight] {
          Start(flight);
          return StepResult{};
        });
      }
    } catch (...) {
      flights_.pop_back();
      throw;
    }
    return flight.handle;
  }
  // The thread that started the step finishes it, after what was submitted since: the device has
  // work while its answers are read.
  StepResult Wait(StepHandle handle) override {
    TESSERA_CHECK(!flights_.empty() && flights_.front().handle == handle,
                  "step {} is not the next one", handle);
    const AtEnd end([this] { flights_.pop_front(); });
    Flight& flight = flights_.front();
    if (thread_ == nullptr) return Finish(flight);
    std::future<StepResult> finished = thread_->Run([this, &flight] {
      StepResult result = Finish(flight);
      flight.started.get();  // throws what Start threw
      return result;
    });
    return finished.get();
  }

 private:
  // A step that was submitted and not waited for.
  struct Flight {
    StepHandle handle = 0;
    const Step* step = nullptr;
    std::future<StepResult> started;  // of the thread; holds what Start threw
    // Of whoever runs steps.
    bool beside = false;  // pictures on a lane of their own
    bool drawing = false;
    Stopwatch watch;  // since the text rows were queued
    StepResult result;
  };

  void Start(Flight& flight) {
    const Step& step = *flight.step;
    const size_t drawn = std::exchange(drawn_, 0);
    flight.beside = !step.encode.empty() && backend_->lanes() > 1;
    if (flight.beside) {
      EncodeBeside(step);
    } else {
      for (const EncodeSlice& slice : step.encode) Encode(slice, flight.result);
    }
    flight.watch = {};
    if (step.drawn.empty()) {
      Forward(step.batch);
    } else {
      Batch batch = step.batch;
      for (const DrawnToken& token : step.drawn) {
        if (static_cast<size_t>(token.draw) >= drawn)
          throw std::runtime_error("the step before failed");
        batch.tokens[static_cast<size_t>(token.row)] = IdOfDraw(token.draw);
      }
      Forward(batch);
    }
    if (step.sample.empty()) return;
    Stopwatch sampling;
    if (thread_ == nullptr) {  // nobody waits for the next step: what drawing takes is measured
      backend_->Synchronize();
      sampling = {};
    }
    const TensorView logits =
        workspace_->logits().Rows(0, static_cast<int64_t>(step.batch.logits_rows.size()));
    backend_->BeginSample({.logits = logits, .rows = step.sample});
    flight.drawing = true;
    if (thread_ == nullptr) {
      backend_->Synchronize();
      flight.result.sample_seconds = sampling.Lap();
    } else {
      drawn_ = step.sample.size();
    }
  }

  StepResult Finish(Flight& flight) {
    StepResult result = std::move(flight.result);
    if (flight.drawing) {
      result.samples.resize(flight.step->sample.size());
      backend_->EndSample(result.samples);
    }
    if (!flight.drawing || flight.beside) backend_->Synchronize();
    // The device was at the step before until that was finished.
    result.forward_seconds = std::min(flight.watch.Lap(), since_finish_.Lap());
    if (flight.beside) {  // the two ran at the same time: what the pictures took is not known apart
      const size_t slices = flight.step->encode.size();
      result.encode_seconds.assign(slices, result.forward_seconds / static_cast<double>(slices));
      result.cross_kv_seconds.assign(slices, 0.0);
    }
    result.error = backend_->lost();
    return result;
  }

  // Steps that only decode differ in numbers alone: a device may keep them as a graph.
  void Forward(const Batch& batch) {
    if (batch.rows() == 0) return;
    const auto decodes = [](const SequenceRows& rows) { return rows.row_count == 1; };
    const bool graph = options_.probe == nullptr && batch.rows() <= kMostGraphRows &&
                       batch.self_pages.size() <= kMostGraphPages &&
                       std::ranges::all_of(batch.sequences, decodes);
    if (graph)
      backend_->BeginGraph(batch.rows() * (kMostGraphRows + 1) +
                           static_cast<int64_t>(batch.cross_rows.size()));
    bool queued = true;
    {
      const AtEnd end([&] {
        if (graph) queued = backend_->EndGraph();
      });
      model_->Forward(*backend_, batch, pool_.views(), *workspace_, options_.probe);
    }
    if (!queued)  // there is no room for its graph
      model_->Forward(*backend_, batch, pool_.views(), *workspace_, options_.probe);
  }

  // Pictures on a lane of their own; the pages that they write were given up in earlier steps. Text
  // waits for them only where it reads what this step writes: a picture's last units and the first
  // rows that see it may stand in one step.
  void EncodeBeside(const Step& step) {
    backend_->OrderLanes(kTextLane, kPictureLane);
    backend_->OrderLanes(kPictureLane, kTextLane);
    backend_->SelectLane(kPictureLane);
    const AtEnd end([&] { backend_->SelectLane(kTextLane); });
    for (const EncodeSlice& slice : step.encode)
      model_->EncodeMedia(*backend_, slice, pool_.views(), *workspace_, options_.probe);
    const auto read_now = [&](int32_t page) {
      return std::ranges::find(step.batch.cross_tile_pages, page) !=
             step.batch.cross_tile_pages.end();
    };
    const bool reads = std::ranges::any_of(step.encode, [&](const EncodeSlice& slice) {
      return std::ranges::any_of(slice.cross_pages, read_now);
    });
    if (reads) backend_->OrderLanes(kPictureLane, kTextLane);
  }

  // The vision tower and the projection of cross-attention K/V are timed apart.
  void Encode(const EncodeSlice& slice, StepResult& result) {
    const int border = std::clamp(model_->PlanEncode(*slice.pixels).cross_kv_begin,
                                  slice.unit_begin, slice.unit_end);
    EncodeSlice part = slice;
    Stopwatch watch;
    part.unit_end = border;
    if (part.unit_begin < part.unit_end) Slice(part);
    result.encode_seconds.push_back(watch.Lap());
    part.unit_begin = border;
    part.unit_end = slice.unit_end;
    if (part.unit_begin < part.unit_end) Slice(part);
    result.cross_kv_seconds.push_back(watch.Lap());
  }
  void Slice(const EncodeSlice& slice) {
    model_->EncodeMedia(*backend_, slice, pool_.views(), *workspace_, options_.probe);
    backend_->Synchronize();
  }

  const ModelRunnerOptions options_;
  // Whatever lies on the device goes before its backend does.
  const std::unique_ptr<Backend> backend_;
  const std::shared_ptr<const Model> model_;
  ModelInfo info_;
  const KvPool pool_;
  const std::unique_ptr<Workspace> workspace_;
  StepHandle last_handle_ = 0;
  std::deque<Flight> flights_;
  // Of whoever runs steps.
  size_t drawn_ = 0;  // rows of the draw begun last; 0: its step failed
  Stopwatch since_finish_;
  std::unique_ptr<StepThread> thread_;  // last: it uses all of the above
};

}  // namespace

Result<std::unique_ptr<ModelRunner>> MakeModelRunner(std::unique_ptr<Backend> backend,
                                                     std::shared_ptr<const Model> model,
                                                     const ModelRunnerOptions& options) {
  TESSERA_TRY(std::unique_ptr<Workspace> workspace,
              model->MakeWorkspace(*backend, {.max_rows = options.max_rows,
                                              .max_logits_rows = options.max_logits_rows,
                                              .encode_slots = 1}));
  TESSERA_TRY(KvPool pool, KvPool::Make(*backend, model->info(), options.pools));
  backend->Synchronize();
  if (std::optional<Error> error = backend->lost()) return tl::unexpected<Error>(*std::move(error));
  return std::make_unique<LocalModelRunner>(std::move(backend), std::move(model), std::move(pool),
                                            std::move(workspace), options);
}

}  // namespace tessera
