// Checks at the launcher: every op matches its arguments against a symbolic shape before it touches
// memory.
//
//   ShapeCheck check("MatMul");
//   check.View("x", args.x, "RK", DType::kF32);      // binds R and K
//   check.View("out", args.out, "RN", DType::kF32);  // R must agree, binds N
//
// A letter is bound where it is first seen. A mismatch is a programmer error: op, argument,
// expected and got are printed and the process ends. Nothing is allocated while all is well.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "kernels/kv_view.h"
#include "kernels/ops.h"
#include "kernels/tensor.h"

namespace tessera {

class ShapeCheck {
 public:
  explicit ShapeCheck(const char* op) : op_(op) { bound_.fill(-1); }

  // `letters`: one a dimension, outermost first. The last axis is contiguous; outer axes may be
  // strided but not overlap.
  void View(const char* argument, const TensorView& view, const char* letters, DType dtype);
  // Binds a letter, or compares it with what it was bound to.
  void Extent(const char* argument, char letter, int64_t value);
  // Each of `values` in [0, limit).
  void Below(const char* argument, std::span<const int32_t> values, int64_t limit) const;
  void Below(const char* argument, std::span<const int64_t> values, int64_t limit) const;
  // Each of `values` in [0, limit), or IdOfDraw of a row below `drawn`.
  void Ids(const char* argument, std::span<const int32_t> values, int64_t limit,
           int64_t drawn) const;
  void NotNull(const char* argument, const void* pointer) const;
  void Kv(const KvLayerView& kv) const;
  // logits and rows of a draw: binds L, V and I.
  void Sample(const SampleArgs& args);
  void True(bool condition, const char* argument, const char* expected, int64_t got) const;

  int64_t operator[](char letter) const { return bound_[letter - 'A']; }

 private:
  const char* op_;
  std::array<int64_t, 26> bound_;
};

}  // namespace tessera
