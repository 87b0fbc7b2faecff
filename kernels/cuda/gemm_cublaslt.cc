// gemm.h by cuBLASLt. Row-major x w^T is column-major w x^T: the library sees its A as our w
// (transposed), its B as our x, its D as our out. The choice of algorithm is asked for once a
// shape.
#include <cublasLt.h>
#include <fmt/format.h>

#include <map>
#include <tuple>

#include "kernels/cuda/gemm.h"

namespace tessera::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA advises for sm_90 and later

cudaDataType_t TypeOf(DType dtype) {
  return dtype == DType::kF32 ? CUDA_R_32F : dtype == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF;
}

LaunchStatus Status(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return {static_cast<int>(status),
          fmt::format("cuBLASLt: {}: {}", what, cublasLtGetStatusString(status))};
}

// A description that destroys itself.
template <typename Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle != nullptr) (void)kDestroy(handle);
  }
};
using Layout = Owned<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy>;

// The alignment of an address that the library may count on, at most 16.
int Alignment(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return static_cast<int>(address == 0 ? 16 : std::min<uintptr_t>(16, address & (~address + 1)));
}

class CublasLtGemm final : public Gemm {
 public:
  ~CublasLtGemm() override {
    plans_.clear();
    if (handle_ != nullptr) (void)cublasLtDestroy(handle_);
  }

  Result<void> Start(const DeviceAllocator& allocator) {
    if (LaunchStatus status = Status(cublasLtCreate(&handle_), "start"); !status.ok())
      return Fail(ErrorCode::kUnavailable, "cuBLASLt does not start", {.detail = status.message});
    const size_t version = cublasLtGetVersion();
    name_ = fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
    TESSERA_TRY(workspace_, allocator.Device(MemoryUse::kScratch, kWorkspaceBytes,
                                             "out of device memory for cuBLASLt"));
    return {};
  }

  std::string_view name() const override { return name_; }
  size_t workspace_bytes() const override { return kWorkspaceBytes; }

  LaunchStatus Run(const GemmArgs& args, Stream stream) override {
    if (args.rows == 0 || args.n == 0) return {};
    const void* addend = args.addend == nullptr ? args.out : args.addend;
    const float beta = args.addend == nullptr ? 0.0f : args.beta;
    const Key key{args.dtype,
                  args.out_dtype,
                  args.rows,
                  args.n,
                  args.k,
                  args.x_stride,
                  args.w_stride,
                  args.addend == nullptr ? args.out_stride : args.addend_stride,
                  args.out_stride,
                  Alignment(args.x),
                  Alignment(args.w),
                  Alignment(addend),
                  Alignment(args.out)};
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      auto plan = std::make_unique<Plan>();
      if (LaunchStatus status = Make(key, *plan); !status.ok()) return status;
      found = plans_.emplace(key, std::move(plan)).first;
    }
    const Plan& plan = *found->second;
    return Status(cublasLtMatmul(handle_, plan.operation.handle, &args.alpha, args.w, plan.w.handle,
                                 args.x, plan.x.handle, &beta, addend, plan.addend.handle, args.out,
                                 plan.out.handle, &plan.algorithm, workspace_.get(),
                                 kWorkspaceBytes, reinterpret_cast<cudaStream_t>(stream)),
                  "product");
  }

 private:
  using Key = std::tuple<DType, DType, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                         int64_t, int, int, int, int>;
  struct Plan {
    Operation operation;
    Layout w, x, addend, out;
    cublasLtMatmulAlgo_t algorithm{};
  };

  LaunchStatus Make(const Key& key, Plan& plan) {
    const auto [dtype, out_dtype, rows, n, k, x_stride, w_stride, addend_stride, out_stride,
                x_align, w_align, addend_align, out_align] = key;
    const auto layout = [](Layout& to, DType type, int64_t height, int64_t width, int64_t stride) {
      return cublasLtMatrixLayoutCreate(&to.handle, TypeOf(type), static_cast<uint64_t>(height),
                                        static_cast<uint64_t>(width), stride);
    };
    const cublasOperation_t transposed = CUBLAS_OP_T;
    Preference preference;
    // Every step returns its status; the first failure is what is told.
    const cublasStatus_t steps[] = {
        cublasLtMatmulDescCreate(&plan.operation.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        cublasLtMatmulDescSetAttribute(plan.operation.handle, CUBLASLT_MATMUL_DESC_TRANSA,
                                       &transposed, sizeof transposed),
        layout(plan.w, dtype, k, n, w_stride),
        layout(plan.x, dtype, k, rows, x_stride),
        layout(plan.addend, out_dtype, n, rows, addend_stride),
        layout(plan.out, out_dtype, n, rows, out_stride),
        cublasLtMatmulPreferenceCreate(&preference.handle),
        Prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes}),
        Prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(w_align)),
        Prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(x_align)),
        Prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(addend_align)),
        Prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(out_align))};
    for (const cublasStatus_t step : steps) {
      if (LaunchStatus status = Status(step, "description"); !status.ok()) return status;
    }
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    LaunchStatus status =
        Status(cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation.handle, plan.w.handle,
                                              plan.x.handle, plan.addend.handle, plan.out.handle,
                                              preference.handle, 1, &best, &found),
               "choice of an algorithm");
    if (status.ok() && found == 0)
      return {CUBLAS_STATUS_NOT_SUPPORTED,
              fmt::format("cuBLASLt has no algorithm for {} x {} x {}", rows, n, k)};
    plan.algorithm = best.algo;
    return status;
  }

  template <typename Value>
  static cublasStatus_t Prefer(const Preference& preference,
                               cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
    return cublasLtMatmulPreferenceSetAttribute(preference.handle, attribute, &value, sizeof value);
  }

  cublasLtHandle_t handle_ = nullptr;
  Storage workspace_;
  std::string name_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace

Result<std::unique_ptr<Gemm>> MakeGemm(const DeviceProps&, const DeviceAllocator& allocator) {
  auto gemm = std::make_unique<CublasLtGemm>();
  TESSERA_RETURN_IF_ERROR(gemm->Start(allocator));
  return gemm;
}

}  // namespace tessera::cuda
