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
constexpr size_t kLanes = 2;  // text, and pictures beside it
// Of the device, for graphs: one of a large model takes a few MiB. The K/V pool leaves a tenth of
// the free memory by default (--gpu-memory-utilization), which is several times as much.
constexpr size_t kGraphShare = 64, kMostGraphBytes = size_t{256} << 20;

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
  TESSERA_TRY(bounce_, allocator_.Pinned(MemoryUse::kStaging, kBounceBytes,
                                         "no pinned host memory for copies"));
  const size_t graph_bytes = options.graph_memory > 0
                                 ? static_cast<size_t>(options.graph_memory)
                                 : std::min(kMostGraphBytes, props_.memory_bytes / kGraphShare);
  graphs_ = std::make_unique<GraphCache>(allocator_, graph_bytes, options.say);
  graphs_text_ = fmt::format("decode steps, one for each batch size, at most {:.1f} MiB",
                             static_cast<double>(graph_bytes) / (1 << 20));
  return {};
}

Result<void> CudaBackend::MakeLane(Lane& lane) {
  if (LaunchStatus status = CreateStream(&lane.stream); !status.ok())
    return Fail(ErrorCode::kUnavailable, "the CUDA device makes no stream",
                {.field = "device", .detail = status.message});
  if (LaunchStatus status = CreateEvent(&lane.reached); !status.ok())
    return Fail(ErrorCode::kUnavailable, "the CUDA device makes no event",
                {.field = "device", .detail = status.message});
  lane.scratch = std::make_unique<Arena>();
  TESSERA_TRY(lane.staging, Staging::Make(allocator_, lane.stream, kStageBytes));
  TESSERA_TRY(lane.gemm, MakeGemm(props_, allocator_));
  return {};
}

void CudaBackend::DestroyLane(Lane& lane) {
  lane.staging.reset();
  lane.gemm.reset();
  lane.scratch.reset();
  if (lane.reached != nullptr) DestroyEvent(lane.reached);
  DestroyStream(lane.stream);
}

CudaBackend::~CudaBackend() {
  if (capturing_) (void)EndGraph();
  graphs_.reset();
  for (Lane& lane : lanes_) DestroyLane(lane);
  FreeDraws();
}

Result<Storage> CudaBackend::Allocate(size_t bytes, MemoryUse use) {
  TESSERA_TRY(Storage storage, allocator_.Device(use, bytes, "out of device memory"));
  Zero(storage.get(), bytes);
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
  for (Lane& lane : lanes_) TESSERA_RETURN_IF_ERROR(lane.scratch->Reserve(allocator_, bytes));
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
      Check(CopyToHostAsync(bounce_.get(), static_cast<const char*>(from.data) + done, piece,
                            stream()));
    if (!failed()) Check(cuda::Synchronize(stream()));
    if (failed()) {
      std::memset(static_cast<char*>(to) + done, 0, bytes - done);
      return;
    }
    std::memcpy(static_cast<char*>(to) + done, bounce_.get(), piece);
  }
}

void CudaBackend::CopyToDevice(const TensorView& to, const void* from) {
  TESSERA_CHECK(to.contiguous(), "CopyToDevice: expected a contiguous view, got {}",
                to.ShapeString());
  const size_t bytes = static_cast<size_t>(to.size()) * SizeOf(to.dtype);
  for (size_t done = 0; done < bytes && !failed(); done += kBounceBytes) {
    const size_t piece = std::min(kBounceBytes, bytes - done);
    std::memcpy(bounce_.get(), static_cast<const char*>(from) + done, piece);
    Check(CopyToDeviceAsync(static_cast<char*>(to.data) + done, bounce_.get(), piece, stream()));
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
  if (failed() || !graphs_->Begin(key)) return;
  if (!failed()) Check(lane().staging->BeginCapture());
  if (!failed()) Check(BeginCapture(stream()));
  if (!failed()) capturing_ = key;
}

bool CudaBackend::EndGraph() {
  if (!capturing_) return true;  // the ops were queued, or the device was lost before
  const int64_t key = *std::exchange(capturing_, std::nullopt);
  lane().staging->EndCapture();
  bool refused = false;
  Check(graphs_->Launch(key, stream(), &refused));
  if (refused) lane().staging->Forget();  // what was staged has not been copied
  return !refused;
}

const void* CudaBackend::StageBytes(const void* data, size_t bytes) {
  const void* device = nullptr;
  if (!failed()) Check(lane().staging->Stage(data, bytes, &device));
  return device;
}

void CudaBackend::ResetScratch() { lane().scratch->Reset(); }

void* CudaBackend::ScratchBytes(const char* op, size_t bytes) {
  void* piece = nullptr;
  if (!failed()) Check(lane().scratch->Take(op, bytes, &piece));
  return piece;
}

void CudaBackend::Zero(void* memory, size_t bytes) {
  if (!failed()) Check(FillAsync(memory, 0, bytes, stream()));
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
