#include "kernels/code_source.h"

#include <algorithm>
#include <cstring>

namespace tessera {

void CodeSource::Dequantize(int64_t row, int64_t count, float* to) const {
  const auto n = static_cast<size_t>(count);
  std::vector<uint8_t> codes(n * static_cast<size_t>(columns()));
  std::vector<float> scales(n * static_cast<size_t>(groups()));
  std::vector<uint16_t> zeros(scales.size());
  Read(row, count, codes.data(), scales.data(), zeros.data());
  for (int64_t r = 0; r < count; ++r) {
    const float* scale = scales.data() + r * groups();
    const uint16_t* zero = zeros.data() + r * groups();
    const uint8_t* code = codes.data() + r * columns();
    float* out = to + r * columns();
    for (int64_t c = 0; c < columns(); ++c) {
      const int64_t g = regular() ? c / group() : group_of_column_[static_cast<size_t>(c)];
      out[c] = scale[g] * static_cast<float>(int{code[c]} - int{zero[g]});
    }
  }
}

namespace {

// 0: one scale a row; -1: codes of this grouping cannot be kept.
int GroupOf(const CodeSource& codes) {
  if (!codes.regular()) return -1;
  const bool whole = codes.group() == codes.columns();
  if (codes.bits() == 8) {
    if (!codes.symmetric()) return -1;
    if (whole) return 0;
  }
  for (const int group : {128, 64, 32}) {
    if (whole || codes.group() % group == 0) return group;
  }
  return -1;
}

}  // namespace

std::optional<QuantFormat> FormatOfCodes(std::span<const SourceMatrix> sources) {
  if (sources.empty() || sources[0].codes == nullptr) return std::nullopt;
  QuantFormat format{.bits = sources[0].codes->bits(), .group = GroupOf(*sources[0].codes)};
  for (const SourceMatrix& source : sources) {
    if (source.codes == nullptr || source.codes->bits() != format.bits) return std::nullopt;
    const int group = GroupOf(*source.codes);
    // One scale a row is a scale for each of its groups as well, though rounded to bf16 then.
    if (group < 0 || (format.group != group && format.bits == 8)) return std::nullopt;
    format.group = std::min(format.group, group);
    format.minimum |= !source.codes->symmetric();
  }
  return format;
}

std::optional<QuantFormat> FormatKept(std::span<const SourceMatrix> sources, const PackSpec& spec) {
  std::optional<QuantFormat> format = FormatOfCodes(sources);
  if (!format || spec.group != 0) return std::nullopt;
  const WeightFormat theirs = format->bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4;
  if (spec.format != WeightFormat::kAuto && spec.format != theirs) return std::nullopt;
  return format;
}

void LoadSourceRows(const SourceMatrix& source, int64_t row, int64_t count, float* to) {
  if (source.codes != nullptr) return source.codes->Dequantize(row, count, to);
  const size_t element = SizeOf(source.dtype);
  const char* from =
      static_cast<const char*>(source.data) + static_cast<size_t>(row * source.columns) * element;
  const int64_t elements = count * source.columns;
  if (source.dtype == DType::kF32) {
    std::memcpy(to, from, static_cast<size_t>(elements) * element);
    return;
  }
  for (int64_t i = 0; i < elements; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + i * 2, 2);
    to[i] = source.dtype == DType::kBF16 ? BF16ToFloat(bits) : F16ToFloat(bits);
  }
}

}  // namespace tessera
