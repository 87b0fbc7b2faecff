// Tensor: move-only storage. TensorView: a trivially copyable, typed shape over somebody else's
// storage.
//
// A view never owns and is passed by value; whoever allocated the storage keeps it alive. Shapes
// are in elements, row-major unless strides say otherwise; the last axis is always contiguous.
// Letters: kernels/README.md.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "base/check.h"
#include "kernels/dtype.h"

namespace tessera {

struct TensorView {
  static constexpr int kMaxRank = 4;

  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  std::array<int64_t, kMaxRank> stride{};  // in elements; stride[rank - 1] == 1

  static TensorView Of(void* data, DType dtype, std::initializer_list<int64_t> shape) {
    TESSERA_CHECK(shape.size() <= kMaxRank, "tensor rank: expected at most {}, got {}", kMaxRank,
                  shape.size());
    TensorView view{.data = data, .dtype = dtype, .rank = static_cast<int>(shape.size())};
    int axis = 0;
    for (int64_t extent : shape) view.shape[axis++] = extent;
    int64_t step = 1;
    for (axis = view.rank - 1; axis >= 0; --axis) {
      view.stride[axis] = step;
      step *= view.shape[axis];
    }
    return view;
  }

  int64_t dim(int axis) const { return shape[axis]; }
  int64_t size() const {
    int64_t n = 1;
    for (int axis = 0; axis < rank; ++axis) n *= shape[axis];
    return n;
  }
  bool contiguous() const {
    int64_t step = 1;
    for (int axis = rank - 1; axis >= 0; --axis) {
      if (shape[axis] != 1 && stride[axis] != step) return false;
      step *= shape[axis];
    }
    return true;
  }

  // The storage as T; the dtype must agree (uint16_t for fp16 and bf16).
  template <typename T>
  T* As() const {
    constexpr bool known = std::is_same_v<T, float> || std::is_same_v<T, int32_t> ||
                           std::is_same_v<T, uint16_t> || std::is_same_v<T, uint8_t>;
    static_assert(known, "no tensor has this element type");
    const bool agrees =
        (std::is_same_v<T, float> && dtype == DType::kF32) ||
        (std::is_same_v<T, int32_t> && dtype == DType::kI32) ||
        (std::is_same_v<T, uint16_t> && (dtype == DType::kF16 || dtype == DType::kBF16)) ||
        (std::is_same_v<T, uint8_t> && dtype == DType::kU8);
    TESSERA_CHECK(agrees, "tensor element type: view is {}", Name(dtype));
    return static_cast<T*>(data);
  }

  // Rows [begin, begin + count) of axis 0, columns [begin, begin + count) of the last axis.
  TensorView Rows(int64_t begin, int64_t count) const {
    TESSERA_CHECK(rank >= 1 && begin >= 0 && count >= 0 && begin + count <= shape[0],
                  "rows {}+{} of {}", begin, count, shape[0]);
    TensorView view = *this;
    view.data = static_cast<char*>(data) + begin * stride[0] * static_cast<int64_t>(SizeOf(dtype));
    view.shape[0] = count;
    return view;
  }
  TensorView Columns(int64_t begin, int64_t count) const {
    TESSERA_CHECK(rank >= 1 && begin >= 0 && count >= 0 && begin + count <= shape[rank - 1],
                  "columns {}+{} of {}", begin, count, shape[rank - 1]);
    TensorView view = *this;
    view.data = static_cast<char*>(data) + begin * static_cast<int64_t>(SizeOf(dtype));
    view.shape[rank - 1] = count;
    return view;
  }
  // The same contiguous elements under another shape.
  TensorView Reshape(std::initializer_list<int64_t> new_shape) const {
    TESSERA_CHECK(contiguous(), "reshape of a strided view");
    TensorView view = Of(data, dtype, new_shape);
    TESSERA_CHECK(view.size() == size(), "reshape: {} elements into {}", size(), view.size());
    return view;
  }

  std::string ShapeString() const;  // "[3, 16] fp32"
};

// Bytes owned on a device, released by the deleter of the backend that made them. 64-byte aligned.
using Storage = std::unique_ptr<void, std::function<void(void*)>>;

class Tensor {
 public:
  Tensor() = default;
  Tensor(Storage storage, TensorView view) : storage_(std::move(storage)), view_(view) {}
  Tensor(Tensor&&) = default;
  Tensor& operator=(Tensor&&) = default;

  const TensorView& view() const { return view_; }
  operator TensorView() const {
    return view_;
  }  // NOLINT(google-explicit-constructor): a view is what ops take
  bool empty() const { return view_.data == nullptr; }
  size_t bytes() const { return static_cast<size_t>(view_.size()) * SizeOf(view_.dtype); }

 private:
  Storage storage_;
  TensorView view_;
};

}  // namespace tessera
