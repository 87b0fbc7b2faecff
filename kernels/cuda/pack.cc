// Pack: sources of any float type, or codes that are not kept, to row-major bf16 or fp16, converted
// on the host through a piece of pinned memory; else to codes (pack_int.cc).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/check.h"
#include "kernels/code_source.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/int_matrix.h"

namespace tessera::cuda {
namespace {

constexpr int64_t kColumnStep = 8;  // 16 bytes of a half type

float ElementOf(const SourceMatrix& source, int64_t index) {
  const char* from =
      static_cast<const char*>(source.data) + index * static_cast<int64_t>(SizeOf(source.dtype));
  if (source.dtype == DType::kF32) {
    float value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return source.dtype == DType::kBF16 ? BF16ToFloat(bits) : F16ToFloat(bits);
}

// fp32 is kept where only Embedding reads it; matmul operands have the activations' type.
Result<DType> ChooseDType(const PackSpec& spec, DType activations) {
  switch (spec.format) {
    case WeightFormat::kAuto: return activations;
    case WeightFormat::kF32:
      if (spec.role == PackSpec::Role::kTable) return DType::kF32;
      break;
    case WeightFormat::kF16:
      if (activations == DType::kF16) return DType::kF16;
      break;
    case WeightFormat::kBF16:
      if (activations == DType::kBF16) return DType::kBF16;
      break;
    case WeightFormat::kInt8:
    case WeightFormat::kInt4: break;  // not here
  }
  return Fail(ErrorCode::kUnimplemented, "the cuda backend has no such weight format",
              {.field = "weights",
               .limit = "auto, int8, int4, or the type of the activations: " +
                        std::string(Name(activations)),
               .value = std::string(Name(spec.format))});
}

// One row as `dtype`, zeros behind the source's columns. False: a number does not fit.
bool ConvertRow(const SourceMatrix& source, int64_t row, DType dtype, int64_t stored_k, void* to) {
  const int64_t columns = source.columns;
  const size_t size = SizeOf(dtype);
  std::memset(to, 0, static_cast<size_t>(stored_k) * size);
  if (source.dtype == dtype) {
    std::memcpy(to, static_cast<const char*>(source.data) + row * columns * int64_t(size),
                static_cast<size_t>(columns) * size);
    return true;
  }
  bool fits = true;
  for (int64_t c = 0; c < columns; ++c) {
    const float value = ElementOf(source, row * columns + c);
    if (dtype == DType::kF32) {
      static_cast<float*>(to)[c] = value;
    } else if (dtype == DType::kBF16) {
      static_cast<uint16_t*>(to)[c] = FloatToBF16(value);
    } else {
      fits &= std::fabs(value) < 65520.0f || !std::isfinite(value);
      static_cast<uint16_t*>(to)[c] = FloatToF16(value);
    }
  }
  return fits;
}

}  // namespace

Result<std::unique_ptr<PackedMatrix>> CudaBackend::Pack(std::span<const SourceMatrix> sources,
                                                        const PackSpec& spec) {
  TESSERA_CHECK(!sources.empty(), "Pack: sources: expected at least 1, got 0");
  const int64_t columns = sources[0].columns;
  const int64_t k = spec.padded_columns == 0 ? columns : spec.padded_columns;
  int64_t n = 0;
  for (const SourceMatrix& source : sources) {
    TESSERA_CHECK(source.columns == columns && source.rows >= 0,
                  "Pack: sources: expected {} columns, got {}", columns, source.columns);
    TESSERA_CHECK(source.data != nullptr || source.codes != nullptr || source.rows == 0,
                  "Pack: source: expected storage, got null");
    TESSERA_CHECK(source.codes == nullptr || (source.codes->rows() == source.rows &&
                                              source.codes->columns() == source.columns),
                  "Pack: codes: expected {} x {}, got {} x {}", source.rows, source.columns,
                  source.codes->rows(), source.codes->columns());
    n += source.rows;
  }
  TESSERA_CHECK(k >= columns && columns > 0 && n > 0,
                "Pack: expected N > 0 and padded_columns >= {}, got {} x {}", columns, n, k);

  if (IsInt(spec.format) || FormatKept(sources, spec)) {
    TESSERA_TRY(const PackedInts ints, PackInts(sources, spec, n, k, dtype_));
    TESSERA_TRY(Storage storage, Allocate(ints.bytes.size()));
    CopyToDevice(TensorView::Of(storage.get(), DType::kU8, {std::ssize(ints.bytes)}),
                 ints.bytes.data());
    if (std::optional<Error> error = lost()) return tl::unexpected(*std::move(error));
    return std::make_unique<CudaIntMatrix>(ints.layout, ints.format(), std::move(storage));
  }
  TESSERA_TRY(const DType dtype, ChooseDType(spec, dtype_));
  const int64_t stored_k = (k + kColumnStep - 1) / kColumnStep * kColumnStep;
  const size_t row_bytes = static_cast<size_t>(stored_k) * SizeOf(dtype);
  const size_t bytes = static_cast<size_t>(n) * row_bytes;
  TESSERA_TRY(Storage storage, Allocate(bytes));
  std::vector<char> rows(std::max<size_t>(row_bytes, std::min(bytes, size_t{4} << 20)));
  const auto most = static_cast<int64_t>(rows.size() / row_bytes);
  bool fits = true;
  int64_t done = 0, held = 0;
  const auto flush = [&] {
    CopyToDevice(TensorView::Of(static_cast<char*>(storage.get()) + done * int64_t(row_bytes),
                                DType::kU8, {held * static_cast<int64_t>(row_bytes)}),
                 rows.data());
    done += held;
    held = 0;
  };
  std::vector<float> numbers(static_cast<size_t>(columns));  // of a row of codes
  for (const SourceMatrix& source : sources) {
    for (int64_t row = 0; row < source.rows; ++row) {
      char* to = rows.data() + held * static_cast<int64_t>(row_bytes);
      if (source.codes != nullptr) {
        LoadSourceRows(source, row, 1, numbers.data());
        fits &= ConvertRow({numbers.data(), DType::kF32, 1, columns}, 0, dtype, stored_k, to);
      } else {
        fits &= ConvertRow(source, row, dtype, stored_k, to);
      }
      if (++held == most) flush();
    }
  }
  flush();
  if (!fits)
    return Fail(ErrorCode::kInvalidArgument, "a weight is too large for fp16",
                {.field = "weights",
                 .limit = "magnitudes below 65520, or activations of bf16",
                 .value = "fp16"});
  if (std::optional<Error> error = lost()) return tl::unexpected(*std::move(error));
  const WeightFormat format = dtype == DType::kF32   ? WeightFormat::kF32
                              : dtype == DType::kF16 ? WeightFormat::kF16
                                                     : WeightFormat::kBF16;
  return std::make_unique<CudaPackedMatrix>(n, k, stored_k, format, bytes, std::move(storage));
}

}  // namespace tessera::cuda
