// The op Sample of CudaBackend. Drawn ids stay on the device, where the next step's embedding reads
// them; the whole results come to the host by way of pinned memory, and an event says when.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/sample_plan.h"
#include "kernels/sampling.h"

namespace tessera::cuda {

Result<void> CudaBackend::ReserveDraws() {
  const int64_t rows = reserved_.max_rows;
  if (rows <= draw_room_) return {};
  TESSERA_CHECK(draws_begun_ == draws_ended_, "Reserve: expected no draw under way");
  FreeDraws();
  const auto count = static_cast<size_t>(rows);
  TESSERA_TRY(drawn_storage_, allocator_.Device(MemoryUse::kDraws, count * sizeof(int32_t),
                                                "out of device memory for drawn ids"));
  drawn_ = static_cast<int32_t*>(drawn_storage_.get());
  for (Draw& draw : draws_) {
    TESSERA_TRY(draw.outputs, allocator_.Pinned(MemoryUse::kDraws, count * sizeof(SampleOutput),
                                                "no pinned host memory for draws"));
    if (LaunchStatus status = CreateEvent(&draw.copied); !status.ok())
      return Fail(ErrorCode::kUnavailable, "the CUDA device makes no event",
                  {.field = "device", .detail = status.message});
  }
  draw_room_ = rows;
  return {};
}

void CudaBackend::FreeDraws() {
  for (Draw& draw : draws_) {
    if (draw.copied != nullptr) DestroyEvent(draw.copied);
    draw = {};
  }
  drawn_storage_.reset();
  drawn_ = nullptr;
  draw_room_ = drawn_rows_ = 0;
}

void CudaBackend::BeginSample(const SampleArgs& args) {
  ShapeCheck check("Sample");
  check.Sample(args);
  check.True(check['I'] <= draw_room_, "rows", "at most what Reserve() made room for", check['I']);
  TESSERA_CHECK(draws_begun_ - draws_ended_ < kMostDraws,
                "BeginSample: expected fewer than {} draws begun", kMostDraws);

  SamplePlan plan = PlanSample(args.rows);
  Draw& draw = draws_[draws_begun_++ % kMostDraws];
  draw.tasks = std::move(plan.tasks);
  drawn_rows_ = check['I'];
  drawn_below_ = check['V'];
  if (check['I'] == 0 || failed()) return;
  const auto staged = [&]<typename T>(const std::vector<T>& all) {
    return all.empty() ? nullptr : Stage(std::span<const T>(all));
  };
  ResetScratch();
  const auto blocks = static_cast<size_t>(SampleBlocks(check['I']));
  const SampleParams params{
      .logits = static_cast<const float*>(args.logits.data),
      .logits_stride = args.logits.stride[0],
      .tasks = staged(draw.tasks),
      .counts = staged(plan.counts),
      .bias = staged(plan.biases),
      .banned = staged(plan.banned),
      .keys =
          Scratch<uint32_t>("Sample", blocks * static_cast<size_t>(SampleKeysStride(check['V']))),
      .outputs = Scratch<SampleOutput>("Sample", draw.tasks.size()),
      .ids = drawn_,
      .rows = static_cast<int32_t>(check['I']),
      .vocab = static_cast<int32_t>(check['V'])};
  if (!failed()) Check(LaunchSample(params, stream()));
  if (!failed())
    Check(CopyToHostAsync(draw.outputs.get(), params.outputs,
                          draw.tasks.size() * sizeof(SampleOutput), stream()));
  if (!failed()) Check(RecordEvent(draw.copied, stream()));
  lane().staging->Forget();  // the step ends here
}

void CudaBackend::EndSample(std::span<SampleResult> results) {
  TESSERA_CHECK(draws_ended_ < draws_begun_, "EndSample: expected a draw that was begun");
  const Draw& draw = draws_[draws_ended_++ % kMostDraws];
  TESSERA_CHECK(results.size() == draw.tasks.size(), "EndSample: results: expected {}, got {}",
                draw.tasks.size(), results.size());
  if (results.empty()) return;
  if (!failed()) Check(SynchronizeEvent(draw.copied));
  const auto* outputs = static_cast<const SampleOutput*>(draw.outputs.get());
  for (size_t i = 0; i < results.size(); ++i)
    results[i] = SampleResultOf(failed() ? SampleOutput{} : outputs[i], draw.tasks[i]);
}

void CudaBackend::Sample(const SampleArgs& args) {
  TESSERA_CHECK(args.results.size() == args.rows.size(), "Sample: results: expected {}, got {}",
                args.rows.size(), args.results.size());
  TESSERA_CHECK(draws_begun_ == draws_ended_, "Sample: expected no draw under way");
  BeginSample(args);
  EndSample(args.results);
}

}  // namespace tessera::cuda
