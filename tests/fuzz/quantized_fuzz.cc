// A quantization_config and a file of tensors: an error, or codes that can be read to the last row
// and that give numbers.
//
// An input is a line of JSON (config.json with `quantization_config`), a line "ROWS COLUMNS", and a
// safetensors file with the parts of the matrix "m.weight".
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "model/json.h"
#include "model/quantized_tensor.h"

using namespace tessera;  // NOLINT(google-build-using-namespace): a file of few functions

namespace {

constexpr int64_t kMostElements = 1 << 14;

std::string_view TakeLine(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

void ReadAll(const CodeSource& source, const QuantizationConfig& config) {
  const auto columns = static_cast<size_t>(source.columns());
  const auto groups = static_cast<size_t>(source.groups());
  std::vector<uint8_t> codes(columns);
  std::vector<float> scales(groups), numbers(columns);
  std::vector<uint16_t> zeros(groups);
  for (int64_t row = 0; row < source.rows(); ++row) {
    source.Read(row, 1, codes.data(), scales.data(), zeros.data());
    for (const uint8_t code : codes)
      TESSERA_CHECK(code < 1 << config.bits, "code {} of {} bits", code, config.bits);
    for (const uint16_t zero : zeros)
      TESSERA_CHECK(zero <= 1 << config.bits, "zero point {} of {} bits", zero, config.bits);
    source.Dequantize(row, 1, numbers.data());
    for (const float number : numbers) TESSERA_CHECK(std::isfinite(number), "{}", number);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = ParseJson(TakeLine(text), "config.json");
  if (!json || !json->is_object()) return 0;
  const auto config = QuantizationConfig::Read(ObjectReader(*json, ""));
  if (!config || !*config) return 0;
  TESSERA_CHECK(!(*config)->Describe().empty(), "no name");

  const std::string shape(TakeLine(text));
  long long rows = 0, columns = 0;
  if (std::sscanf(shape.c_str(), "%9lld %9lld", &rows, &columns) != 2) return 0;
  if (rows < 1 || columns < 1 || rows > kMostElements / columns) return 0;
  // As loading does: what the file holds is known before any of it is read.
  const auto file = SafetensorsFile::FromBytes(std::as_bytes(std::span(text)));
  if (!file) return 0;
  const auto find = [&](const std::string& name) -> const TensorEntry* {
    for (const TensorEntry& entry : (*file)->tensors())
      if (entry.name == name) return &entry;
    return nullptr;
  };
  BindProblems problems;
  const QuantizedParts parts = BindQuantized("m.weight", rows, columns, **config, find, problems);
  if (!parts || !problems.missing.empty() || !problems.misshaped.empty() ||
      !problems.mistyped.empty())
    return 0;
  const auto source = MakeCodeSource(parts, rows, columns, **config);
  if (!source) {
    TESSERA_CHECK(
        source.error().code == ErrorCode::kInvalidArgument && !source.error().field.empty(), "{}",
        source.error().Describe());
    return 0;
  }
  ReadAll(**source, **config);
  return 0;
}
