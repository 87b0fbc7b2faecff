// The op Sample of CudaBackend. Drawn ids stay on the device, where the next step's embedding reads
// them; the whole results come to the host by way of pinned memory, and an event says when.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/device_check.h"
#include "kernels/cuda/sample_plan.h"
#include "kernels/sampling.h"

namespace tessera::cuda {

Result<void> CudaBackend::ReserveDraws() {
  const int64_t rows = reserved_.max_rows;
  if (rows <= draw_room_) return {};
  TESSERA_CHECK(draws_begun_ == draws_ended_, "Reserve: expected no draw under way");
  FreeDraws();
  const auto count = static_cast<size_t>(rows);
  void* memory = nullptr;
  if (LaunchStatus status = cuda::Allocate(count * sizeof(int32_t), &memory); !status.ok())
    return OutOfDeviceMemory("out of device memory for drawn ids", count * sizeof(int32_t), status);
  drawn_ = static_cast<int32_t*>(memory);
  for (Draw& draw : draws_) {
    LaunchStatus status = AllocatePinned(count * sizeof(SampleOutput), &memory);
    if (status.ok()) draw.outputs = static_cast<SampleOutput*>(memory);
    if (status.ok()) status = CreateEvent(&draw.copied);
    if (!status.ok())
      return Fail(ErrorCode::kResourceExhausted, "no pinned host memory for draws",
                  {.field = "bytes",
                   .value = std::to_string(count * sizeof(SampleOutput)),
                   .detail = status.message});
  }
  draw_room_ = rows;
  return {};
}

void CudaBackend::FreeDraws() {
  for (Draw& draw : draws_) {
    FreePinned(draw.outputs);
    if (draw.copied != nullptr) DestroyEvent(draw.copied);
    draw = {};
  }
  cuda::Free(drawn_);
  drawn_ = nullptr;
  draw_room_ = drawn_rows_ = 0;
}

void CudaBackend::BeginSample(const SampleArgs& args) {
  ShapeCheck check("Sample");
  check.View("logits", args.logits, "LV", DType::kF32);
  check.Extent("rows", 'I', std::ssize(args.rows));
  check.True(check['V'] <= kMaxSampleVocab, "logits", "a vocabulary of at most 4194304",
             check['V']);
  for (const SampleRow& row : args.rows)
    check.True(row.logits_row >= 0 && row.logits_row < check['L'], "rows", "a row of logits",
               row.logits_row);
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
    Check(CopyToHostAsync(draw.outputs, params.outputs, draw.tasks.size() * sizeof(SampleOutput),
                          stream()));
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
  for (size_t i = 0; i < results.size(); ++i)
    results[i] = SampleResultOf(failed() ? SampleOutput{} : draw.outputs[i], draw.tasks[i]);
}

void CudaBackend::Sample(const SampleArgs& args) {
  TESSERA_CHECK(args.results.size() == args.rows.size(), "Sample: results: expected {}, got {}",
                args.rows.size(), args.results.size());
  TESSERA_CHECK(draws_begun_ == draws_ended_, "Sample: expected no draw under way");
  BeginSample(args);
  EndSample(args.results);
}

}  // namespace tessera::cuda
