#include "model/quantized_tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <utility>

namespace tessera {
namespace {

using Layout = QuantizationConfig::Layout;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <typename T>
T At(const TensorEntry& entry, int64_t index) {
  T value;
  std::memcpy(&value, entry.data + index * static_cast<int64_t>(sizeof(T)), sizeof value);
  return value;
}

float NumberAt(const TensorEntry& entry, int64_t index) {
  if (entry.dtype == "F32") return At<float>(entry, index);
  const auto bits = At<uint16_t>(entry, index);
  return entry.dtype == "F16" ? F16ToFloat(bits) : BF16ToFloat(bits);
}

int64_t Elements(const TensorEntry& entry) {
  int64_t count = 1;
  for (const int64_t extent : entry.shape) count *= extent;
  return count;
}

// Shape and dtype of one part, into the lists.
class Checker {
 public:
  explicit Checker(BindProblems& problems) : problems_(problems) {}
  void Hold(const TensorEntry* entry, std::initializer_list<std::vector<int64_t>> shapes,
            std::initializer_list<std::string_view> dtypes) {
    if (entry == nullptr) return;
    if (std::find(shapes.begin(), shapes.end(), entry->shape) == shapes.end()) {
      problems_.misshaped.push_back(fmt::format("{} is [{}], expected [{}]", entry->name,
                                                fmt::join(entry->shape, ", "),
                                                fmt::join(*shapes.begin(), ", ")));
    }
    if (std::find(dtypes.begin(), dtypes.end(), entry->dtype) == dtypes.end()) {
      problems_.mistyped.push_back(
          fmt::format("{} is {}, expected {}", entry->name, entry->dtype, *dtypes.begin()));
    }
  }

 private:
  BindProblems& problems_;
};

// Columns of a word of AWQ, from its lowest bits on (AutoAWQ's order_map).
constexpr std::array<int, 8> kAwqColumns = {0, 2, 4, 6, 1, 3, 5, 7};

class FileCodes final : public CodeSource {
 public:
  FileCodes(const Shape& shape, std::vector<int32_t> order, const QuantizedParts& parts,
            const QuantizationConfig& config)
      : CodeSource(shape, std::move(order)), parts_(parts), config_(config) {}

  static Shape ShapeOf(int64_t rows, int64_t columns, const QuantizationConfig& config) {
    return {.bits = config.bits,
            .rows = rows,
            .columns = columns,
            .group = config.group == 0 ? columns : std::min(config.group, columns)};
  }
  static FileCodes Make(Shape shape, std::vector<int32_t> order, const QuantizedParts& parts,
                        const QuantizationConfig& config) {
    const FileCodes probe(shape, {}, parts, config);
    const int middle = 1 << (config.bits - 1);
    for (int64_t row = 0; row < shape.rows && shape.symmetric; ++row)
      for (int64_t g = 0; g < probe.groups(); ++g)
        if (probe.Zero(row, g) != middle) shape.symmetric = false;
    return FileCodes(shape, std::move(order), parts, config);
  }

  void Read(int64_t row, int64_t count, uint8_t* codes, float* scales,
            uint16_t* zeros) const override {
    switch (config_.layout) {
      case Layout::kPackQuantized: ReadPacked(row, count, codes); break;
      case Layout::kIntQuantized: ReadBytes(row, count, codes); break;
      case Layout::kGptq: ReadGptq(row, count, codes); break;
      case Layout::kAwq: ReadAwq(row, count, codes); break;
    }
    for (int64_t r = 0; r < count; ++r)
      for (int64_t g = 0; g < groups(); ++g) {
        *scales++ = Scale(row + r, g);
        *zeros++ = static_cast<uint16_t>(Zero(row + r, g));
      }
  }

  // In the units of codes; only an I8 zero point can be out of range.
  int Zero(int64_t row, int64_t g) const {
    const int middle = 1 << (bits() - 1);
    if (parts_.zeros == nullptr) return middle;
    const TensorEntry& zeros = *parts_.zeros;
    const int per_word = 32 / bits();
    switch (config_.layout) {
      case Layout::kPackQuantized:
        if (zeros.dtype == "I32")
          return Nibble(At<uint32_t>(zeros, row / per_word * groups() + g),
                        static_cast<int>(row % per_word));
        [[fallthrough]];
      case Layout::kIntQuantized: {
        const bool one = Elements(zeros) == 1;
        return middle + At<int8_t>(zeros, one ? 0 : row * groups() + g);
      }
      case Layout::kGptq: {
        const int stored =
            Nibble(At<uint32_t>(zeros, g * CeilDiv(rows(), per_word) + row / per_word),
                   static_cast<int>(row % per_word));
        return stored + (config_.zeros_less_one ? 1 : 0);
      }
      case Layout::kAwq: {
        const auto* const place =
            std::find(kAwqColumns.begin(), kAwqColumns.end(), static_cast<int>(row % 8));
        return Nibble(At<uint32_t>(zeros, g * CeilDiv(rows(), 8) + row / 8),
                      static_cast<int>(place - kAwqColumns.begin()));
      }
    }
    return middle;
  }

 private:
  int Nibble(uint32_t word, int place) const {
    return static_cast<int>(word >> (place * bits()) & ((1u << bits()) - 1));
  }
  float Scale(int64_t row, int64_t g) const {
    const TensorEntry& scales = *parts_.scales;
    const bool transposed = config_.layout == Layout::kGptq || config_.layout == Layout::kAwq;
    if (transposed) return NumberAt(scales, g * rows() + row);
    return NumberAt(scales, Elements(scales) == 1 ? 0 : row * groups() + g);
  }
  void ReadPacked(int64_t row, int64_t count, uint8_t* codes) const {
    const int per_word = 32 / bits();
    const int64_t words = CeilDiv(columns(), per_word);
    for (int64_t r = row; r < row + count; ++r, codes += columns())
      for (int64_t w = 0; w < words; ++w) {
        const auto word = At<uint32_t>(*parts_.codes, r * words + w);
        const int64_t begin = w * per_word, most = std::min<int64_t>(per_word, columns() - begin);
        for (int i = 0; i < most; ++i) codes[begin + i] = static_cast<uint8_t>(Nibble(word, i));
      }
  }
  void ReadBytes(int64_t row, int64_t count, uint8_t* codes) const {
    const std::byte* from = parts_.codes->data + row * columns();
    for (int64_t i = 0; i < count * columns(); ++i)
      codes[i] = static_cast<uint8_t>(std::to_integer<uint8_t>(from[i]) ^ 0x80u);  // + 128
  }
  void ReadGptq(int64_t row, int64_t count, uint8_t* codes) const {
    const int per_word = 32 / bits();
    for (int64_t k = 0; k < columns(); k += per_word) {
      const int64_t most = std::min<int64_t>(per_word, columns() - k);
      for (int64_t r = 0; r < count; ++r) {
        const auto word = At<uint32_t>(*parts_.codes, k / per_word * rows() + row + r);
        for (int i = 0; i < most; ++i)
          codes[r * columns() + k + i] = static_cast<uint8_t>(Nibble(word, i));
      }
    }
  }
  void ReadAwq(int64_t row, int64_t count, uint8_t* codes) const {
    const int64_t words = CeilDiv(rows(), 8);
    for (int64_t k = 0; k < columns(); ++k)
      for (int64_t w = row / 8; w <= (row + count - 1) / 8; ++w) {
        const auto word = At<uint32_t>(*parts_.codes, k * words + w);
        for (int i = 0; i < 8; ++i) {
          const int64_t r = w * 8 + kAwqColumns[static_cast<size_t>(i)] - row;
          if (r >= 0 && r < count) codes[r * columns() + k] = static_cast<uint8_t>(Nibble(word, i));
        }
      }
  }

  const QuantizedParts parts_;
  const QuantizationConfig config_;
};

tl::unexpected<Error> BadPart(const TensorEntry& entry, std::string limit, std::string value) {
  return Invalid("a quantised weight cannot be read",
                 {.field = entry.name, .limit = std::move(limit), .value = std::move(value)});
}

}  // namespace

std::vector<const TensorEntry*> QuantizedParts::all() const {
  std::vector<const TensorEntry*> there;
  for (const TensorEntry* part : {codes, scales, zeros, order, shape})
    if (part != nullptr) there.push_back(part);
  return there;
}

QuantizedParts BindQuantized(std::string_view name, int64_t rows, int64_t columns,
                             const QuantizationConfig& config,
                             const std::function<const TensorEntry*(const std::string&)>& find,
                             BindProblems& problems) {
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return {};
  const std::string stem(name.substr(0, name.size() - kWeight.size()));
  const auto part = [&](std::string_view suffix) { return find(stem + std::string(suffix)); };
  const bool ours =
      config.layout == Layout::kPackQuantized || config.layout == Layout::kIntQuantized;
  QuantizedParts parts;
  if (config.layout == Layout::kIntQuantized) {
    parts.codes = part(kWeight);
    if (parts.codes != nullptr && parts.codes->dtype != "I8") return {};  // left as it was
  } else {
    parts.codes = part(ours ? ".weight_packed" : ".qweight");
  }
  const bool zeros_needed = !ours || !config.symmetric;
  const std::string scales = ours ? ".weight_scale" : ".scales";
  const std::string zeros = ours ? ".weight_zero_point" : ".qzeros";
  parts.scales = part(scales);
  if (parts.codes == nullptr && (parts.scales == nullptr || part(kWeight) != nullptr)) return {};
  parts.zeros = part(zeros);
  if (config.layout == Layout::kPackQuantized) {
    parts.order = part(".weight_g_idx");
    parts.shape = part(".weight_shape");
  } else if (config.layout == Layout::kGptq) {
    parts.order = part(".g_idx");
  }
  if (parts.codes == nullptr) {
    problems.missing.push_back(stem + (ours ? ".weight_packed" : ".qweight"));
    parts.codes = parts.scales;  // so that the matrix counts as found
    return parts;
  }
  if (parts.scales == nullptr) problems.missing.push_back(stem + scales);
  if (parts.zeros == nullptr && zeros_needed) problems.missing.push_back(stem + zeros);
  if (parts.order == nullptr && config.activation_order && config.layout == Layout::kGptq)
    problems.missing.push_back(stem + ".g_idx");

  Checker checker(problems);
  const int64_t per_word = 32 / config.bits;
  const int64_t groups = config.group == 0 ? 1 : CeilDiv(columns, config.group);
  switch (config.layout) {
    case Layout::kPackQuantized:
      checker.Hold(parts.codes, {{rows, CeilDiv(columns, per_word)}}, {"I32"});
      checker.Hold(parts.scales, {{rows, groups}}, {"BF16", "F16", "F32"});
      if (parts.zeros != nullptr && parts.zeros->dtype == "I8") {
        checker.Hold(parts.zeros, {{rows, groups}}, {"I8"});
      } else {
        checker.Hold(parts.zeros, {{CeilDiv(rows, per_word), groups}}, {"I32"});
      }
      checker.Hold(parts.shape, {{2}}, {"I64", "I32"});
      break;
    case Layout::kIntQuantized:
      checker.Hold(parts.codes, {{rows, columns}}, {"I8"});
      if (groups == 1) {
        checker.Hold(parts.scales, {{rows, 1}, {1}, {}, {1, 1}, {rows}}, {"BF16", "F16", "F32"});
        checker.Hold(parts.zeros, {{rows, 1}, {1}, {}, {1, 1}, {rows}}, {"I8"});
      } else {
        checker.Hold(parts.scales, {{rows, groups}}, {"BF16", "F16", "F32"});
        checker.Hold(parts.zeros, {{rows, groups}}, {"I8"});
      }
      break;
    case Layout::kGptq:
      checker.Hold(parts.codes, {{CeilDiv(columns, per_word), rows}}, {"I32"});
      checker.Hold(parts.scales, {{groups, rows}}, {"F16", "BF16", "F32"});
      checker.Hold(parts.zeros, {{groups, CeilDiv(rows, per_word)}}, {"I32"});
      break;
    case Layout::kAwq:
      checker.Hold(parts.codes, {{columns, CeilDiv(rows, 8)}}, {"I32"});
      checker.Hold(parts.scales, {{groups, rows}}, {"F16", "BF16", "F32"});
      checker.Hold(parts.zeros, {{groups, CeilDiv(rows, 8)}}, {"I32"});
      break;
  }
  checker.Hold(parts.order, {{columns}}, {"I32"});
  return parts;
}

Result<std::unique_ptr<const CodeSource>> MakeCodeSource(const QuantizedParts& parts, int64_t rows,
                                                         int64_t columns,
                                                         const QuantizationConfig& config) {
  const auto shape = FileCodes::ShapeOf(rows, columns, config);
  const int64_t groups = CeilDiv(columns, shape.group);
  const float most = kQuantMost / 256;
  for (int64_t i = 0; i < Elements(*parts.scales); ++i) {
    const float scale = NumberAt(*parts.scales, i);
    if (!(std::fabs(scale) <= most))
      return BadPart(*parts.scales, fmt::format("finite scales, magnitudes up to {}", most),
                     fmt::format("{} at {}", scale, i));
  }
  if (parts.zeros != nullptr && parts.zeros->dtype == "I8") {
    const int middle = 1 << (config.bits - 1);
    for (int64_t i = 0; i < Elements(*parts.zeros); ++i) {
      const int zero = At<int8_t>(*parts.zeros, i);
      if (zero < -middle || zero >= middle)
        return BadPart(*parts.zeros, fmt::format("zero points in [{}, {}]", -middle, middle - 1),
                       fmt::format("{} at {}", zero, i));
    }
  }
  if (parts.shape != nullptr) {
    const bool wide = parts.shape->dtype == "I64";
    const int64_t n = wide ? At<int64_t>(*parts.shape, 0) : At<int32_t>(*parts.shape, 0);
    const int64_t k = wide ? At<int64_t>(*parts.shape, 1) : At<int32_t>(*parts.shape, 1);
    if (n != rows || k != columns)
      return BadPart(*parts.shape, fmt::format("[{}, {}]", rows, columns),
                     fmt::format("[{}, {}]", n, k));
  }
  std::vector<int32_t> order;
  if (parts.order != nullptr) {
    bool regular = true;
    for (int64_t k = 0; k < columns; ++k) {
      const auto g = At<int32_t>(*parts.order, k);
      if (g < 0 || g >= groups)
        return BadPart(*parts.order, fmt::format("groups in [0, {}]", groups - 1),
                       fmt::format("{} at {}", g, k));
      regular &= g == k / shape.group;
      order.push_back(g);
    }
    if (regular) order.clear();
  }
  return std::make_unique<const FileCodes>(FileCodes::Make(shape, std::move(order), parts, config));
}

}  // namespace tessera
