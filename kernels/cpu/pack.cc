// Pack: file tensors to panels, once at load.
#include "kernels/cpu/pack.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/code_source.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matmul.h"

namespace tessera {
namespace cpu {

int64_t CpuPackedMatrix::IndexOf(int64_t row, int64_t column) const {
  const int64_t panel = row / kLanes * panel_elements();
  switch (layout_) {
    case Layout::kPanels: return panel + column * kLanes + row % kLanes;
    case Layout::kVnniPanels:
      return panel + column / 2 * 2 * kLanes + row % kLanes * 2 + column % 2;
    case Layout::kRows:
    case Layout::kQuant: break;
  }
  return row * stored_k_ + column;
}

void LoadPanel(std::span<const SourceMatrix> sources, int64_t row, float* to) {
  constexpr int64_t kRun =
      256;  // columns at a time, so that [columns][16] is filled within a cache
  const int64_t columns = sources[0].columns;
  const char* rows[kLanes] = {};
  DType dtypes[kLanes] = {};
  std::vector<float> numbers;  // of lanes that come as codes
  for (int lane = 0; lane < kLanes; ++lane) {
    int64_t in_source = row + lane;
    size_t s = 0;
    while (s < sources.size() && in_source >= sources[s].rows) in_source -= sources[s++].rows;
    if (s == sources.size()) continue;
    if (sources[s].codes != nullptr) {
      numbers.resize(static_cast<size_t>(kLanes * columns));
      float* at = numbers.data() + lane * columns;
      LoadSourceRows(sources[s], in_source, 1, at);
      dtypes[lane] = DType::kF32;
      rows[lane] = reinterpret_cast<const char*>(at);
      continue;
    }
    dtypes[lane] = sources[s].dtype;
    rows[lane] = static_cast<const char*>(sources[s].data) +
                 in_source * columns * static_cast<int64_t>(SizeOf(dtypes[lane]));
  }
  for (int64_t begin = 0; begin < columns; begin += kRun) {
    const int64_t end = std::min(columns, begin + kRun);
    for (int lane = 0; lane < kLanes; ++lane) {
      const char* from = rows[lane];
      const auto store = [&](auto convert) {
        for (int64_t c = begin; c < end; ++c) to[c * kLanes + lane] = convert(c);
      };
      const auto half = [&](int64_t c) {
        uint16_t bits;
        std::memcpy(&bits, from + c * 2, 2);
        return bits;
      };
      if (from == nullptr) {
        store([](int64_t) { return 0.0f; });
      } else if (dtypes[lane] == DType::kBF16) {
        store([&](int64_t c) { return BF16ToFloat(half(c)); });
      } else if (dtypes[lane] == DType::kF16) {
        store([&](int64_t c) { return F16ToFloat(half(c)); });
      } else {
        store([&](int64_t c) {
          float value;
          std::memcpy(&value, from + c * 4, 4);
          return value;
        });
      }
    }
  }
}

namespace {

Result<WeightFormat> ChooseFormat(std::span<const SourceMatrix> sources, WeightFormat wanted) {
  bool f16 = false, bf16 = false, f32 = false;
  for (const SourceMatrix& source : sources) {
    f32 |= source.dtype == DType::kF32;
    f16 |= source.dtype == DType::kF16;
    bf16 |= source.dtype == DType::kBF16;
    TESSERA_CHECK(source.dtype != DType::kI32 && source.dtype != DType::kU8,
                  "Pack: source: expected fp32, fp16 or bf16, got {}", Name(source.dtype));
  }
  if (wanted != WeightFormat::kAuto) return wanted;
  if (f32 || (f16 && bf16))
    return WeightFormat::kF32;  // neither half type holds the other's numbers
  return f16 ? WeightFormat::kF16 : WeightFormat::kBF16;
}

}  // namespace
}  // namespace cpu

Result<std::unique_ptr<PackedMatrix>> CpuBackend::Pack(std::span<const SourceMatrix> sources,
                                                       const PackSpec& spec) {
  TESSERA_CHECK(!sources.empty(), "Pack: sources: expected at least 1, got 0");
  TESSERA_TRY(const WeightFormat format, cpu::ChooseFormat(sources, spec.format));
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

  if (const auto kept = FormatKept(sources, spec)) return PackCodes(sources, *kept, n, k);
  if (format == WeightFormat::kInt8 || format == WeightFormat::kInt4)
    return PackQuant(sources, spec, n, k);
  cpu::Layout layout = cpu::Layout::kPanels;
  if (spec.role == PackSpec::Role::kTable) {
    layout = cpu::Layout::kRows;
  } else if (kernels_.amx_tile != nullptr && operand_dtype_ == DType::kBF16 &&
             format == WeightFormat::kBF16) {
    layout = cpu::Layout::kVnniPanels;
  }
  const int64_t stored_k = layout == cpu::Layout::kVnniPanels ? (k + 31) / 32 * 32 : k;
  const int64_t stored_n =
      layout == cpu::Layout::kRows ? n : (n + cpu::kLanes - 1) / cpu::kLanes * cpu::kLanes;
  const size_t element = format == WeightFormat::kF32 ? 4 : 2;
  const size_t bytes = static_cast<size_t>(stored_n) * static_cast<size_t>(stored_k) * element;
  TESSERA_TRY(Storage storage, AllocateAligned(bytes, false));
  auto packed = std::make_unique<cpu::CpuPackedMatrix>(n, k, format, layout, stored_k, bytes,
                                                       std::move(storage));
  if (layout != cpu::Layout::kRows)
    TESSERA_RETURN_IF_ERROR(shared_.Reserve(cpu::MatMulSharedScratchBytes(kernels_, k)));

  // One item is 16 rows (a panel), so threads write apart from each other. Row r of the stack is in
  // source `s`.
  std::atomic<bool> overflow{false};
  TESSERA_TRY(Storage rows_storage,
              AllocateAligned(static_cast<size_t>(pool_.threads()) * columns * 4, false));
  pool_.Run((stored_n + cpu::kLanes - 1) / cpu::kLanes, [&](int64_t item, int worker) {
    float* row_values = static_cast<float*>(rows_storage.get()) + worker * columns;
    for (int64_t row = item * cpu::kLanes; row < std::min(stored_n, (item + 1) * cpu::kLanes);
         ++row) {
      int64_t in_source = row;
      size_t s = 0;
      while (s < sources.size() && in_source >= sources[s].rows) in_source -= sources[s++].rows;
      const int64_t filled = s < sources.size() ? columns : 0;
      if (filled > 0) LoadSourceRows(sources[s], in_source, 1, row_values);
      const auto store = [&](auto* to, auto convert) {
        // Columns come in runs of `run` neighbours, `step` elements from one run to the next.
        const int64_t run = layout == cpu::Layout::kVnniPanels ? 2 : 1;
        const int64_t step = layout == cpu::Layout::kRows ? 1 : cpu::kLanes * run;
        to += packed->IndexOf(row, 0);
        for (int64_t c = 0; c < filled; ++c) to[c / run * step + c % run] = convert(row_values[c]);
        for (int64_t c = filled; c < stored_k; ++c) to[c / run * step + c % run] = convert(0.0f);
      };
      if (format == WeightFormat::kF32) {
        store(static_cast<float*>(packed->data()), [](float value) { return value; });
      } else if (format == WeightFormat::kBF16) {
        store(static_cast<uint16_t*>(packed->data()),
              [](float value) { return FloatToBF16(value); });
      } else {
        for (int64_t c = 0; c < filled; ++c)
          if (std::fabs(row_values[c]) >= 65520.0f && std::isfinite(row_values[c])) overflow = true;
        store(static_cast<uint16_t*>(packed->data()),
              [](float value) { return FloatToF16(value); });
      }
    }
  });
  if (overflow)
    return Fail(ErrorCode::kInvalidArgument, "a weight is too large for fp16",
                {.field = "weights",
                 .limit = "magnitudes below 65520, or another of auto, fp32, bf16",
                 .value = "fp16"});
  return packed;
}

}  // namespace tessera
