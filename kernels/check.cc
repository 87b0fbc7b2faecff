#include "kernels/check.h"

#include <cstring>
#include <iterator>

#include "kernels/sampling.h"

namespace tessera {

void ShapeCheck::View(const char* argument, const TensorView& view, const char* letters,
                      DType dtype) {
  const int rank = static_cast<int>(std::strlen(letters));
  TESSERA_CHECK(view.rank == rank, "{}: {}: expected rank {} [{}], got {}", op_, argument, rank,
                letters, view.ShapeString());
  TESSERA_CHECK(view.dtype == dtype, "{}: {}: expected {}, got {}", op_, argument, Name(dtype),
                view.ShapeString());
  int64_t least = 1;
  for (int axis = rank - 1; axis >= 0; --axis) {
    const char letter = letters[axis];
    int64_t& bound = bound_[letter - 'A'];
    if (bound < 0) bound = view.shape[axis];
    TESSERA_CHECK(view.shape[axis] == bound && bound >= 0, "{}: {}: expected {} = {}, got {}", op_,
                  argument, letter, bound, view.ShapeString());
    if (view.shape[axis] > 1 && view.size() > 0) {
      const bool good = axis == rank - 1 ? view.stride[axis] == 1 : view.stride[axis] >= least;
      TESSERA_CHECK(good, "{}: {}: expected a stride of {}{} on axis {}, got {}", op_, argument,
                    axis == rank - 1 ? "" : "at least ", least, axis, view.stride[axis]);
      least = view.stride[axis] * view.shape[axis];
    }
  }
  TESSERA_CHECK(view.data != nullptr || view.size() == 0, "{}: {}: expected storage, got null", op_,
                argument);
}

void ShapeCheck::Extent(const char* argument, char letter, int64_t value) {
  int64_t& bound = bound_[letter - 'A'];
  if (bound < 0) bound = value;
  TESSERA_CHECK(value == bound && value >= 0, "{}: {}: expected {} = {}, got {}", op_, argument,
                letter, bound, value);
}

void ShapeCheck::Below(const char* argument, std::span<const int32_t> values, int64_t limit) const {
  for (size_t i = 0; i < values.size(); ++i)
    TESSERA_CHECK(values[i] >= 0 && values[i] < limit, "{}: {}[{}]: expected 0..{}, got {}", op_,
                  argument, i, limit - 1, values[i]);
}

void ShapeCheck::Below(const char* argument, std::span<const int64_t> values, int64_t limit) const {
  for (size_t i = 0; i < values.size(); ++i)
    TESSERA_CHECK(values[i] >= 0 && values[i] < limit, "{}: {}[{}]: expected 0..{}, got {}", op_,
                  argument, i, limit - 1, values[i]);
}

void ShapeCheck::Ids(const char* argument, std::span<const int32_t> values, int64_t limit,
                     int64_t drawn) const {
  if (drawn == 0) return Below(argument, values, limit);
  for (size_t i = 0; i < values.size(); ++i)
    TESSERA_CHECK(values[i] >= -drawn && values[i] < limit,
                  "{}: {}[{}]: expected 0..{} or one of {} drawn, got {}", op_, argument, i,
                  limit - 1, drawn, values[i]);
}

void ShapeCheck::NotNull(const char* argument, const void* pointer) const {
  TESSERA_CHECK(pointer != nullptr, "{}: {}: expected a pointer, got null", op_, argument);
}

void ShapeCheck::Kv(const KvLayerView& kv) const {
  const KvGeometry& geometry = kv.geometry;
  TESSERA_CHECK(kv.k != nullptr && kv.v != nullptr, "{}: kv: expected storage, got null", op_);
  TESSERA_CHECK(geometry.kv_heads > 0 && geometry.head_dim > 0 && geometry.page_tokens > 0,
                "{}: kv geometry: expected positive G, D and page_tokens, got {}, {}, {}", op_,
                geometry.kv_heads, geometry.head_dim, geometry.page_tokens);
  TESSERA_CHECK(geometry.dtype == DType::kF32 || geometry.dtype == DType::kF16 ||
                    geometry.dtype == DType::kBF16 || geometry.dtype == DType::kI8,
                "{}: kv dtype: expected fp32, fp16, bf16 or int8, got {}", op_,
                Name(geometry.dtype));
}

void ShapeCheck::Sample(const SampleArgs& args) {
  View("logits", args.logits, "LV", DType::kF32);
  Extent("rows", 'I', std::ssize(args.rows));
  const int64_t rows = bound_['L' - 'A'], vocab = bound_['V' - 'A'];
  TESSERA_CHECK(vocab <= kMaxSampleVocab, "{}: logits: expected a vocabulary of at most {}, got {}",
                op_, kMaxSampleVocab, vocab);
  for (const SampleRow& row : args.rows)
    TESSERA_CHECK(row.logits_row >= 0 && row.logits_row < rows,
                  "{}: rows: expected a row of {} of logits, got {}", op_, rows, row.logits_row);
}

void ShapeCheck::True(bool condition, const char* argument, const char* expected,
                      int64_t got) const {
  TESSERA_CHECK(condition, "{}: {}: expected {}, got {}", op_, argument, expected, got);
}

}  // namespace tessera
