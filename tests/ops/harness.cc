#include "tests/ops/harness.h"

#include "kernels/cpu/backend.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/factory.h"
#include "tests/ops/amx_emulated.h"

namespace tessera::ops_test {
namespace {

constexpr int64_t kGuard = 32;  // elements before and after
constexpr unsigned char kPattern = 0xA5;

}  // namespace

std::unique_ptr<Backend> BackendUnderTest::Make(int threads) const {
  std::unique_ptr<Backend> backend;
  const cpu::Kernels* kernels = tier == "amx-emulated"   ? &AmxEmulatedKernels()
                                : tier == "avx2-plain"   ? cpu::Avx2Kernels()
                                : tier == "avx512-plain" ? cpu::Avx512Kernels()
                                                         : nullptr;
  if (kernels != nullptr) {
    backend = std::make_unique<CpuBackend>(*kernels, threads, operand_dtype);
  } else {
    backend =
        MakeBackend(
            {.device = "cpu", .cpu_isa = tier, .threads = threads, .operand_dtype = operand_dtype})
            .value();
  }
  const bool reserved = backend
                            ->Reserve({.max_rows = 1024,
                                       .widest = 4096,
                                       .max_heads = 32,
                                       .max_head_dim = 256,
                                       .max_dense_keys = 512,
                                       .vocab = 4096})
                            .has_value();
  TESSERA_CHECK(reserved, "out of memory");
  return backend;
}

std::vector<BackendUnderTest> BackendsUnderTest() {
  std::vector<BackendUnderTest> all;
  for (const std::string& tier : AvailableCpuTiers()) {
    all.push_back({tier + "_fp32", tier, DType::kF32});
    all.push_back({tier + "_bf16", tier, DType::kBF16});
  }
  all.push_back({"amx_emulated_bf16", "amx-emulated", DType::kBF16});
  return all;
}

std::vector<BackendUnderTest> QuantBackendsUnderTest() {
  std::vector<BackendUnderTest> all;
  for (const std::string& tier : AvailableCpuTiers()) all.push_back({tier, tier, DType::kF32});
  all.push_back({"amx_emulated", "amx-emulated", DType::kF32});
  const CpuFeatures features = UsableCpuFeatures();
  if (features.avx2 && features.avx_vnni) all.push_back({"avx2_plain", "avx2-plain", DType::kF32});
  if (features.avx512 && features.avx512_vnni)
    all.push_back({"avx512_plain", "avx512-plain", DType::kF32});
  return all;
}

BackendTest::BackendTest() : backend_(GetParam().Make()) {}

Floats Random(int64_t count, uint64_t seed, float scale) {
  std::mt19937_64 bits(seed * 0x9E3779B97F4A7C15u + 1);
  Floats values(static_cast<size_t>(count));
  // Sums of uniforms: near normal, and the same numbers with every standard library.
  for (float& value : values) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits() >> 11) * 0x1p-53 - 0.5;
    value = static_cast<float>(sum * 1.7320508) * scale;
  }
  return values;
}

float RoundTo(DType dtype, float value) {
  if (dtype == DType::kBF16) return BF16ToFloat(FloatToBF16(value));
  if (dtype == DType::kF16) return F16ToFloat(FloatToF16(value));
  return value;
}

GuardedRows::GuardedRows(Backend& backend, int64_t rows, int64_t columns, int64_t row_gap)
    : backend_(backend), rows_(rows), columns_(columns), stride_(columns + row_gap) {
  const int64_t size = rows_ * stride_ + 2 * kGuard;
  storage_ = std::move(backend.AllocateTensor(DType::kF32, {size}).value());
  const std::vector<unsigned char> pattern(static_cast<size_t>(size) * sizeof(float), kPattern);
  backend.CopyToDevice(storage_.view(), pattern.data());
  view_ = TensorView::Of(static_cast<float*>(storage_.view().data) + kGuard, DType::kF32,
                         {rows, columns});
  view_.stride[0] = stride_;
}

void GuardedRows::Set(const Floats& values) {
  TESSERA_CHECK(std::ssize(values) == rows_ * columns_, "test bug");
  for (int64_t row = 0; row < rows_; ++row)
    backend_.CopyToDevice(view_.Rows(row, 1), values.data() + row * columns_);
}

Floats GuardedRows::Get() const {
  Floats values(static_cast<size_t>(rows_ * columns_));
  for (int64_t row = 0; row < rows_; ++row)
    backend_.CopyToHost(values.data() + row * columns_, view_.Rows(row, 1));
  return values;
}

void GuardedRows::CheckGuards() const {
  Floats all(static_cast<size_t>(storage_.view().size()));
  backend_.CopyToHost(all.data(), storage_.view());
  float pattern;
  std::memset(&pattern, kPattern, sizeof pattern);
  for (int64_t i = 0; i < std::ssize(all); ++i) {
    const int64_t at = i - kGuard;
    const bool inside = at >= 0 && at < rows_ * stride_ && at % stride_ < columns_;
    if (!inside && std::memcmp(&all[static_cast<size_t>(i)], &pattern, sizeof pattern) != 0) {
      ADD_FAILURE() << "guard overwritten at element " << at << " of " << rows_ << " x " << columns_
                    << ", stride " << stride_;
      return;
    }
  }
}

DeviceFloats::DeviceFloats(Backend& backend, const Floats& values) {
  storage_ = std::move(backend.AllocateTensor(DType::kF32, {std::ssize(values)}).value());
  backend.CopyToDevice(storage_.view(), values.data());
}

KvPages::KvPages(Backend& backend, const KvGeometry& geometry, int pages) : backend_(backend) {
  const int64_t bytes =
      pages * geometry.page_elements() * static_cast<int64_t>(SizeOf(geometry.dtype));
  const std::vector<unsigned char> nan(static_cast<size_t>(bytes), 0xff);
  for (Tensor* pool : {&k_, &v_}) {
    *pool = std::move(backend.AllocateTensor(DType::kU8, {bytes}).value());
    backend.CopyToDevice(pool->view(), nan.data());
  }
  layer_ = {.k = k_.view().data, .v = v_.view().data, .geometry = geometry};
}

void KvPages::Write(const Floats& k, const Floats& v, std::span<const int64_t> slots) {
  const int64_t columns = int64_t{layer_.geometry.kv_heads} * layer_.geometry.head_dim;
  const GuardedRows k_rows(backend_, std::ssize(slots), columns, 0, k),
      v_rows(backend_, std::ssize(slots), columns, 0, v);
  backend_.RopeWriteKv({.k = k_rows.view(), .v = v_rows.view(), .slots = slots, .kv = layer_});
}

std::unique_ptr<PackedMatrix> PackFloats(Backend& backend, const Floats& values, int64_t n,
                                         int64_t k, const PackSpec& spec) {
  const SourceMatrix source{.data = values.data(), .dtype = DType::kF32, .rows = n, .columns = k};
  return std::move(backend.Pack({&source, 1}, spec).value());
}

void ExpectWithin(const Floats& got, const std::vector<Bounded>& want, int64_t columns,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double worst = 0;
  size_t worst_at = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(got[i] - want[i].value);
    if (error == 0) continue;
    const double ratio =
        error / want[i].bound;  // NaN, and any error where none is allowed, count as infinite
    if (!(ratio <= worst))
      worst = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio, worst_at = i;
  }
  EXPECT_LE(worst, 1.0) << what << ": worst at [" << static_cast<int64_t>(worst_at) / columns
                        << ", " << static_cast<int64_t>(worst_at) % columns << "]: got "
                        << got[worst_at] << ", want " << want[worst_at].value << " within "
                        << want[worst_at].bound;
}

void ExpectSameBits(std::span<const float> got, std::span<const float> want,
                    const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    if (std::memcmp(&got[i], &want[i], sizeof(float)) != 0) {
      ADD_FAILURE() << what << ": first difference at element " << i << ": " << std::hexfloat
                    << got[i] << " against " << want[i];
      return;
    }
}

}  // namespace tessera::ops_test
