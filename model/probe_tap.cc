#include "model/probe_tap.h"

#include <cstring>

namespace tessera {

std::vector<float> ToHost(Backend& backend, const TensorView& view) {
  const int64_t rows = view.dim(0), columns = rows == 0 ? 0 : view.size() / rows;
  std::vector<float> values(static_cast<size_t>(rows * columns));
  std::vector<std::byte> raw(static_cast<size_t>(columns) * SizeOf(view.dtype));
  for (int64_t row = 0; row < rows; ++row) {
    backend.CopyToHost(raw.data(), view.Rows(row, 1));
    float* out = values.data() + row * columns;
    if (view.dtype == DType::kF32) {
      std::memcpy(out, raw.data(), raw.size());
      continue;
    }
    for (int64_t i = 0; i < columns; ++i) {
      uint16_t bits;
      std::memcpy(&bits, raw.data() + 2 * i, sizeof bits);
      out[i] = view.dtype == DType::kBF16 ? BF16ToFloat(bits) : F16ToFloat(bits);
    }
  }
  return values;
}

void Tap(Backend& backend, Probe* probe, std::string_view name, const TensorView& view) {
  if (!Wants(probe, name)) return;
  std::vector<float> values = ToHost(backend, view);
  TensorView host = TensorView::Of(values.data(), DType::kF32,
                                   {view.dim(0), view.size() / std::max<int64_t>(view.dim(0), 1)});
  probe->Take(name, host);
}

}  // namespace tessera
