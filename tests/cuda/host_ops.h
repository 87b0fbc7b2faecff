// The same op on CudaBackend and on the CPU's plain one: what the CUDA host side hands to its
// kernels (strides, types, plans, metadata) shows in the results. The kernels' own arithmetic has
// its tests in rows_*_test.cc and attention_*_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/factory.h"
#include "tests/cuda/backend_device.h"

namespace tessera::cuda_test {

using HostFloats = std::vector<float>;

// One backend and how numbers come to it. `rounding`: the half type both sides' inputs have.
class Side {
 public:
  Side(Backend& backend, DType rounding) : backend_(backend), rounding_(rounding) {}
  Backend& backend() const { return backend_; }
  DType dtype() const { return backend_.activation_dtype(); }

  float Round(float value) const {
    return rounding_ == DType::kBF16 ? BF16ToFloat(FloatToBF16(value))
                                     : F16ToFloat(FloatToF16(value));
  }
  // Seeded numbers that both types hold exactly, rows apart by `gap` elements.
  TensorView Upload(int64_t rows, int64_t columns, uint64_t seed, int64_t gap = 0) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    HostFloats values(static_cast<size_t>(rows * (columns + gap)));
    for (float& value : values) value = Round(normal(random));
    return Put(values, rows, columns + gap, dtype()).Columns(0, columns);
  }
  TensorView Fp32(const HostFloats& values, int64_t rows) {
    return Put(values, rows, std::ssize(values) / rows, DType::kF32);
  }
  TensorView Fp32(int64_t rows, int64_t columns, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    HostFloats values(static_cast<size_t>(rows * columns));
    for (float& value : values) value = normal(random);
    return Fp32(values, rows);
  }
  TensorView Pool(int64_t elements) {
    return Put(HostFloats(static_cast<size_t>(elements), 0.0f), 1, elements, dtype());
  }
  // With the elements between rows, which no op may touch.
  HostFloats Get(const TensorView& view) const {
    TensorView all = view;
    all.shape[1] = all.stride[0];
    HostFloats values(static_cast<size_t>(all.size()));
    if (view.dtype == DType::kF32) {
      backend_.CopyToHost(values.data(), all);
      return values;
    }
    std::vector<uint16_t> half(values.size());
    backend_.CopyToHost(half.data(), all);
    for (size_t i = 0; i < half.size(); ++i)
      values[i] = view.dtype == DType::kBF16 ? BF16ToFloat(half[i]) : F16ToFloat(half[i]);
    return values;
  }

 private:
  TensorView Put(const HostFloats& values, int64_t rows, int64_t columns, DType dtype) {
    tensors_.push_back(std::move(backend_.AllocateTensor(dtype, {rows, columns}).value()));
    std::vector<uint16_t> half;
    if (dtype != DType::kF32)
      for (float value : values)
        half.push_back(dtype == DType::kBF16 ? FloatToBF16(value) : FloatToF16(value));
    backend_.CopyToDevice(tensors_.back(), dtype == DType::kF32
                                               ? static_cast<const void*>(values.data())
                                               : half.data());
    return tensors_.back();
  }

  Backend& backend_;
  const DType rounding_;
  std::vector<Tensor> tensors_;
};

class HostOps : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    BeginDevice();
    cuda_ = std::move(
        cuda::CudaBackend::Make({.device = DeviceName(), .operand_dtype = GetParam()}).value());
    cpu_ = std::move(MakeBackend({.device = "cpu", .cpu_isa = "reference", .threads = 1}).value());
    const ScratchLimits limits{.max_rows = 64,
                               .widest = 512,
                               .max_heads = 8,
                               .max_head_dim = 64,
                               .max_dense_keys = 256,
                               .vocab = 4096};
    ASSERT_TRUE(cuda_->Reserve(limits));
    ASSERT_TRUE(cpu_->Reserve(limits));
  }
  void TearDown() override {
    EXPECT_FALSE(cuda_->lost()) << cuda_->lost()->Describe();
    cuda_.reset();
    ExpectDeviceAsAtBegin();
    ExpectNoDefects();
  }
  // Results agree up to `roundings` to the half type of numbers no larger than `size` or the
  // result.
  void Compare(const std::string& what, double roundings, double size,
               const std::function<HostFloats(Side&)>& op) {
    HostFloats got, want;
    {
      Side cuda(*cuda_, GetParam()), cpu(*cpu_, GetParam());
      got = op(cuda);
      want = op(cpu);
    }
    ASSERT_EQ(got.size(), want.size()) << what;
    const double unit = GetParam() == DType::kBF16 ? 0x1p-8 : 0x1p-11;
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i],
                  roundings * unit * std::max<double>(std::fabs(want[i]), size) + 1e-6)
          << what << ": element " << i;
  }
  Backend& backend() { return *cuda_; }

 private:
  std::unique_ptr<Backend> cuda_, cpu_;
};

}  // namespace tessera::cuda_test
