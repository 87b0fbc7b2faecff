#include "kernels/cuda/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "kernels/cuda/device_check.h"

namespace tessera::cuda {
namespace {

constexpr size_t kBounceBytes = size_t{4} << 20;
constexpr size_t kStageBytes = size_t{4} << 20;
constexpr size_t kAlignment = 256;
constexpr size_t kLanes = 2;        // text, and pictures beside it
constexpr size_t kMostGraphs = 64;  // a graph of a large model takes a few MiB of the device

void FreeDeviceMemory(void* memory) { cuda::Free(memory); }

}  // namespace

Result<std::unique_ptr<CudaBackend>> CudaBackend::Make(const BackendOptions& options) {
  std::unique_ptr<CudaBackend> backend(new CudaBackend);
  TESSERA_RETURN_IF_ERROR(backend->Start(options));
  return backend;
}

Result<void> CudaBackend::Start(const BackendOptions& options) {
  dtype_ = options.operand_dtype == DType::kF16 ? DType::kF16 : DType::kBF16;
  batch_invariant_ = options.batch_invariant;
  if (LaunchStatus status = OpenDevice(0, props_); !status.ok())
    return Fail(ErrorCode::kUnavailable, "no CUDA device can be used",
                {.field = "device", .value = options.device, .detail = status.message});
  tier_ = fmt::format("sm_{}{}", props_.major, props_.minor);
  lanes_.resize(kLanes);
  for (Lane& lane : lanes_) TESSERA_RETURN_IF_ERROR(MakeLane(lane));
  gemm_name_ = batch_invariant_ ? "own kernels, batch-invariant" : lanes_[0].gemm->name();
  if (LaunchStatus status = AllocatePinned(kBounceBytes, &bounce_); !status.ok())
    return Fail(
        ErrorCode::kResourceExhausted, "no pinned host memory",
        {.field = "bytes", .value = std::to_string(kBounceBytes), .detail = status.message});
  return {};
}

Result<void> CudaBackend::MakeLane(Lane& lane) {
  if (LaunchStatus status = CreateStream(&lane.stream); !status.ok())
    return Fail(ErrorCode::kUnavailable, "the CUDA device makes no stream",
                {.field = "device", .detail = status.message});
  if (LaunchStatus status = CreateEvent(&lane.reached); !status.ok())
    return Fail(ErrorCode::kUnavailable, "the CUDA device makes no event",
                {.field = "device", .detail = status.message});
  TESSERA_TRY(lane.staging, Staging::Make(lane.stream, kStageBytes));
  TESSERA_TRY(lane.gemm, MakeGemm(props_));
  return {};
}

void CudaBackend::DestroyLane(Lane& lane) {
  for (void* slice : lane.slices) DropSlice(slice);
  lane.slices.clear();
  lane.staging.reset();
  lane.gemm.reset();
  cuda::Free(lane.scratch);
  if (lane.reached != nullptr) DestroyEvent(lane.reached);
  DestroyStream(lane.stream);
}

CudaBackend::~CudaBackend() {
  if (capturing_) EndGraph();
  for (const auto& [key, graph] : graphs_) DestroyGraph(graph);
  for (Lane& lane : lanes_) DestroyLane(lane);
  FreeDraws();
  FreePinned(bounce_);
}

Result<Storage> CudaBackend::Allocate(size_t bytes) {
  void* memory = nullptr;
  if (LaunchStatus status = cuda::Allocate(std::max<size_t>(bytes, 1), &memory); !status.ok())
    return OutOfDeviceMemory("out of device memory", bytes, status);
  Storage storage(memory, &FreeDeviceMemory);
  Zero(memory, bytes);
  return storage;
}

Result<void> CudaBackend::Reserve(const ScratchLimits& l) {
  const auto grow = [](int64_t& to, int64_t value) { to = std::max(to, value); };
  grow(reserved_.max_rows, l.max_rows);
  grow(reserved_.widest, l.widest);
  grow(reserved_.max_heads, l.max_heads);
  grow(reserved_.max_head_dim, l.max_head_dim);
  grow(reserved_.max_dense_keys, l.max_dense_keys);
  grow(reserved_.vocab, l.vocab);
  const size_t bytes =
      std::max({AttentionScratchBytes(reserved_, props_), RowsScratchBytes(reserved_, props_),
                MatMulScratchBytes(reserved_, props_)});
  for (Lane& lane : lanes_) {
    if (bytes <= lane.scratch_bytes) continue;
    Check(cuda::Synchronize(lane.stream));
    cuda::Free(lane.scratch);
    lane.scratch = nullptr;
    lane.scratch_bytes = 0;
    if (LaunchStatus status = cuda::Allocate(bytes, &lane.scratch); !status.ok())
      return OutOfDeviceMemory("out of device memory for scratch", bytes, status);
    lane.scratch_bytes = bytes;
  }
  TESSERA_RETURN_IF_ERROR(ReserveDraws());
  if (std::optional<Error> error = lost()) return tl::unexpected(*std::move(error));
  return {};
}

void CudaBackend::CopyToHost(void* to, const TensorView& from) {
  TESSERA_CHECK(from.contiguous(), "CopyToHost: expected a contiguous view, got {}",
                from.ShapeString());
  const size_t bytes = static_cast<size_t>(from.size()) * SizeOf(from.dtype);
  for (size_t done = 0; done < bytes; done += kBounceBytes) {
    const size_t piece = std::min(kBounceBytes, bytes - done);
    if (!failed())
      Check(CopyToHostAsync(bounce_, static_cast<const char*>(from.data) + done, piece, stream()));
    if (!failed()) Check(cuda::Synchronize(stream()));
    if (failed()) {
      std::memset(static_cast<char*>(to) + done, 0, bytes - done);
      return;
    }
    std::memcpy(static_cast<char*>(to) + done, bounce_, piece);
  }
}

void CudaBackend::CopyToDevice(const TensorView& to, const void* from) {
  TESSERA_CHECK(to.contiguous(), "CopyToDevice: expected a contiguous view, got {}",
                to.ShapeString());
  const size_t bytes = static_cast<size_t>(to.size()) * SizeOf(to.dtype);
  for (size_t done = 0; done < bytes && !failed(); done += kBounceBytes) {
    const size_t piece = std::min(kBounceBytes, bytes - done);
    std::memcpy(bounce_, static_cast<const char*>(from) + done, piece);
    Check(CopyToDeviceAsync(static_cast<char*>(to.data) + done, bounce_, piece, stream()));
    if (!failed()) Check(cuda::Synchronize(stream()));  // the bounce buffer is free again
  }
}

void CudaBackend::Synchronize() {
  for (Lane& lane : lanes_) {
    if (failed()) return;
    Check(cuda::Synchronize(lane.stream));
    lane.staging->Forget();
  }
}

void CudaBackend::SelectLane(int lane) {
  TESSERA_CHECK(lane >= 0 && lane < lanes(), "SelectLane: expected 0..{}, got {}", lanes() - 1,
                lane);
  current_ = static_cast<size_t>(lane);
}

void CudaBackend::OrderLanes(int earlier, int later) {
  Lane& from = lanes_[static_cast<size_t>(earlier)];
  if (!failed()) Check(RecordEvent(from.reached, from.stream));
  if (!failed()) Check(WaitForEvent(lanes_[static_cast<size_t>(later)].stream, from.reached));
}

// Everything is captured anew each time and the graph that is there gets the new arguments: no
// argument of an earlier step can stay behind, and the shape of a step (grids, copies) is free to
// change.
void CudaBackend::BeginGraph(int64_t key) {
  TESSERA_CHECK(!capturing_, "BeginGraph: expected no open graph");
  if (!failed()) Check(lane().staging->BeginCapture());
  if (!failed()) Check(BeginCapture(stream()));
  if (!failed()) capturing_ = key;
}

void CudaBackend::EndGraph() {
  if (!capturing_) return;  // the device was lost before
  const int64_t key = *std::exchange(capturing_, std::nullopt);
  lane().staging->EndCapture();
  if (graphs_.size() >= kMostGraphs && !graphs_.contains(key)) {
    const auto last = std::prev(graphs_.end());  // small batches come most often
    DestroyGraph(last->second);
    graphs_.erase(last);
  }
  Graph& graph = graphs_[key];
  bool rebuilt = false;
  Check(EndCapture(stream(), &graph, &rebuilt));
  graphs_built_ += rebuilt ? 1 : 0;
  if (failed()) return;
  ++graphs_launched_;
  Check(LaunchGraph(graph, stream()));
}

const void* CudaBackend::StageBytes(const void* data, size_t bytes) {
  const void* device = nullptr;
  if (!failed()) Check(lane().staging->Stage(data, bytes, &device));
  return device;
}

void CudaBackend::ResetScratch() {
  Lane& l = lane();
  l.scratch_used = 0;
  for (void* slice : l.slices) DropSlice(slice);
  l.slices.clear();
}

void* CudaBackend::ScratchBytes(const char* op, size_t bytes) {
  Lane& l = lane();
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  TESSERA_CHECK(l.scratch_used + rounded <= l.scratch_bytes,
                "{}: scratch: expected at most {} bytes (Reserve), got {} + {}", op,
                l.scratch_bytes, l.scratch_used, bytes);
  void* slice = nullptr;
  if (failed()) return nullptr;
  Check(Slice(l.scratch, l.scratch_used, bytes, &slice));
  l.scratch_used += rounded;
  if (slice != nullptr) l.slices.push_back(slice);
  return slice;
}

void CudaBackend::Zero(void* memory, size_t bytes) {
  if (!failed() && bytes > 0) Check(FillAsync(memory, 0, bytes, stream()));
}

void CudaBackend::Check(const LaunchStatus& status) {
  if (!status.ok() && !failed()) error_ = status;
}

std::optional<Error> CudaBackend::lost() const {
  if (!error_) return std::nullopt;
  return Error{.code = ErrorCode::kUnavailable,
               .what = "the device was lost",
               .field = "device",
               .value = std::string(name()),
               .detail = fmt::format("error {}: {}", error_->code, error_->message)};
}

DeviceMemory CudaBackend::device_memory() const {
  MemoryInfo info;
  if (!ReadMemoryInfo(info).ok()) return {.free = 0, .total = props_.memory_bytes};
  return {.free = info.free, .total = info.total};
}

}  // namespace tessera::cuda
