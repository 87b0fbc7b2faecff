// Ops that move rows: Embedding, GatherRows, ScatterRows, AddRows.
#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/pack.h"

namespace tessera {

void CpuBackend::Embedding(const EmbeddingArgs& args) {
  ShapeCheck check("Embedding");
  check.NotNull("table", args.table);
  const auto& table = static_cast<const cpu::CpuPackedMatrix&>(*args.table);
  check.Extent("table", 'C', table.k());
  check.Extent("ids", 'R', std::ssize(args.ids));
  check.View("out", args.out, "RC", DType::kF32);
  check.Ids("ids", args.ids, table.n(), std::ssize(drawn_));
  ForRows(check['R'], check['C'], [&](int64_t row) {
    float* out = static_cast<float*>(args.out.data) + row * args.out.stride[0];
    int64_t id = args.ids[static_cast<size_t>(row)];
    if (id < 0) id = std::max(0, drawn_[static_cast<size_t>(-1 - id)]);
    if (table.layout() == cpu::Layout::kQuant)
      return cpu::DequantizeRow(table.quant(), table.panel(id / cpu::kLanes),
                                static_cast<int>(id % cpu::kLanes), table.k(), out);
    const auto copy = [&](const auto* data, auto convert) {
      for (int64_t c = 0; c < table.k(); ++c) out[c] = convert(data[table.IndexOf(id, c)]);
    };
    switch (table.format()) {
      case WeightFormat::kF32:
        copy(static_cast<const float*>(table.data()), [](float value) { return value; });
        break;
      case WeightFormat::kF16: copy(static_cast<const uint16_t*>(table.data()), F16ToFloat); break;
      default: copy(static_cast<const uint16_t*>(table.data()), BF16ToFloat); break;
    }
  });
}

void CpuBackend::GatherRows(const GatherRowsArgs& args) {
  ShapeCheck check("GatherRows");
  check.View("x", args.x, "RC", DType::kF32);
  check.Extent("rows", 'I', std::ssize(args.rows));
  check.View("out", args.out, "IC", DType::kF32);
  check.Below("rows", args.rows, check['R']);
  ForRows(check['I'], check['C'], [&](int64_t row) {
    std::memcpy(static_cast<float*>(args.out.data) + row * args.out.stride[0],
                static_cast<const float*>(args.x.data) +
                    args.rows[static_cast<size_t>(row)] * args.x.stride[0],
                static_cast<size_t>(check['C']) * sizeof(float));
  });
}

void CpuBackend::ScatterRows(const ScatterRowsArgs& args) {
  ShapeCheck check("ScatterRows");
  check.View("x", args.x, "IC", DType::kF32);
  check.Extent("rows", 'I', std::ssize(args.rows));
  check.View("out", args.out, "RC", DType::kF32);
  check.Below("rows", args.rows, check['R']);
  ForRows(check['I'], check['C'], [&](int64_t row) {
    std::memcpy(static_cast<float*>(args.out.data) +
                    args.rows[static_cast<size_t>(row)] * args.out.stride[0],
                static_cast<const float*>(args.x.data) + row * args.x.stride[0],
                static_cast<size_t>(check['C']) * sizeof(float));
  });
}

void CpuBackend::AddRows(const AddRowsArgs& args) {
  ShapeCheck check("AddRows");
  check.View("table", args.table, "MC", DType::kF32);
  check.View("x", args.x, "RC", DType::kF32);
  if (check['R'] == 0) return;
  if (!args.rows.empty()) check.Extent("rows", 'R', std::ssize(args.rows));
  check.Below("rows", args.rows, check['M']);
  check.True(check['M'] > 0, "table", "at least one row", check['M']);
  ForRows(check['R'], check['C'], [&](int64_t row) {
    const int64_t from = args.rows.empty() ? row % check['M'] : args.rows[static_cast<size_t>(row)];
    const float* add = static_cast<const float*>(args.table.data) + from * args.table.stride[0];
    float* x = static_cast<float*>(args.x.data) + row * args.x.stride[0];
    for (int64_t c = 0; c < check['C']; ++c) x[c] += add[c] * args.scale;
  });
}

}  // namespace tessera
