// What the op tests need around a backend: the list of backends under test, guarded tensors, seeded
// numbers.
//
// All memory goes through Backend::Allocate and its copies, and K/V through RopeWriteKv, so that
// the same tests run on a device whose memory and layouts the host cannot see.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/ops/reference.h"

namespace tessera::ops_test {

// A way to make a backend: tier and operand dtype.
struct BackendUnderTest {
  std::string name;  // letters, digits and _: "avx512_bf16"
  std::string tier;
  DType operand_dtype = DType::kF32;
  std::unique_ptr<Backend> Make(int threads = 2) const;
};
// Every tier of this machine x operand dtype, and the AMX kernels over their software tiles.
std::vector<BackendUnderTest> BackendsUnderTest();
// Those of fp32 operands, AMX emulated, and the kernels that a tier has for processors without the
// products of bytes that this one may have: what int8 and int4 weights go through.
std::vector<BackendUnderTest> QuantBackendsUnderTest();
inline void PrintTo(const BackendUnderTest& backend, std::ostream* out) { *out << backend.name; }
inline std::string NameOf(const testing::TestParamInfo<BackendUnderTest>& info) {
  return info.param.name;
}

class BackendTest : public testing::TestWithParam<BackendUnderTest> {
 protected:
  BackendTest();
  Backend& backend() { return *backend_; }
  // x as a matmul sees it.
  float Operand(float x) const {
    return backend_->operand_dtype() == DType::kBF16 ? BF16ToFloat(FloatToBF16(x)) : x;
  }

 private:
  std::unique_ptr<Backend> backend_;
};

using Floats = std::vector<float>;
Floats Random(int64_t count, uint64_t seed, float scale = 1.0f);
float RoundTo(DType dtype, float value);
inline float RoundTo(WeightFormat format, float value) {
  return RoundTo(format == WeightFormat::kF16    ? DType::kF16
                 : format == WeightFormat::kBF16 ? DType::kBF16
                                                 : DType::kF32,
                 value);
}

// Rows of fp32 on the device with a known pattern before, between and after them.
class GuardedRows {
 public:
  GuardedRows(Backend& backend, int64_t rows, int64_t columns, int64_t row_gap = 0);
  GuardedRows(Backend& backend, int64_t rows, int64_t columns, int64_t row_gap,
              const Floats& values)
      : GuardedRows(backend, rows, columns, row_gap) {
    Set(values);
  }
  const TensorView& view() const { return view_; }
  void Set(const Floats& values);
  Floats Get() const;
  void CheckGuards() const;  // an EXPECT a broken guard, with the element it stands at

 private:
  Backend& backend_;
  const int64_t rows_, columns_, stride_;
  Tensor storage_;
  TensorView view_;
};

// fp32 on the device: norm weights, biases, tables.
class DeviceFloats {
 public:
  DeviceFloats(Backend& backend, const Floats& values);
  const float* data() const { return static_cast<const float*>(storage_.view().data); }

 private:
  Tensor storage_;
};

// A pool of K/V pages whose memory starts as NaN: what was never written must never be read.
class KvPages {
 public:
  KvPages(Backend& backend, const KvGeometry& geometry, int pages);
  const KvLayerView& layer() const { return layer_; }
  // k, v: [slots, G * D].
  void Write(const Floats& k, const Floats& v, std::span<const int64_t> slots);

 private:
  Backend& backend_;
  Tensor k_, v_;
  KvLayerView layer_;
};

std::unique_ptr<PackedMatrix> PackFloats(Backend& backend, const Floats& values, int64_t n,
                                         int64_t k, const PackSpec& spec = {});

// Every element within its bound, else the worst one is printed.
void ExpectWithin(const Floats& got, const std::vector<Bounded>& want, int64_t columns,
                  const std::string& what);
// The same bits, else the first difference is printed.
void ExpectSameBits(std::span<const float> got, std::span<const float> want,
                    const std::string& what);

}  // namespace tessera::ops_test
