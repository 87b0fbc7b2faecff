// Pack for sources that are codes already: they are laid out in panels as they are, not chosen
// again.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/code_source.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/pack.h"

namespace tessera {
namespace cpu {
namespace {

// Codes, scales and zeros of the rows of one panel, one byte a code.
struct PanelCodes {
  std::vector<uint8_t> codes = {};
  std::vector<uint16_t> zeros = {};
  std::vector<float> scales = {};
  int64_t columns = 0;
  int64_t group[kLanes] = {};   // of each row's source
  int64_t groups[kLanes] = {};  // 0: no such row
  int64_t at[kLanes] = {};      // of its first scale
};

PanelCodes ReadPanel(std::span<const SourceMatrix> sources, int64_t row) {
  PanelCodes panel{.columns = sources[0].columns};
  panel.codes.resize(static_cast<size_t>(kLanes * panel.columns));
  int lane = 0;
  for (const SourceMatrix& source : sources) {
    if (row >= source.rows) {
      row -= source.rows;
      continue;
    }
    const int64_t count = std::min<int64_t>(kLanes - lane, source.rows - row);
    const CodeSource& from = *source.codes;
    const size_t begin = panel.scales.size();
    const auto metas = static_cast<size_t>(count * from.groups());
    panel.scales.resize(begin + metas);
    panel.zeros.resize(begin + metas);
    from.Read(row, count, panel.codes.data() + lane * panel.columns, panel.scales.data() + begin,
              panel.zeros.data() + begin);
    for (int64_t i = 0; i < count; ++i, ++lane) {
      panel.group[lane] = from.group();
      panel.groups[lane] = from.groups();
      panel.at[lane] = static_cast<int64_t>(begin) + i * from.groups();
    }
    row = 0;
    if (lane == kLanes) break;
  }
  return panel;
}

void StoreBF16(uint8_t* to, float value) {
  const uint16_t bits = FloatToBF16(value);
  std::memcpy(to, &bits, sizeof bits);
}

void StoreCodes(const QuantLayout& layout, const PanelCodes& from, uint8_t* to) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool there = from.groups[lane] > 0;
    const uint8_t* codes = from.codes.data() + lane * from.columns;
    uint8_t* block = to;
    for (int64_t begin = 0; begin < layout.stored_k;
         begin += layout.group, block += layout.block_bytes()) {
      if (!layout.per_channel) {
        const int64_t g =
            there ? from.at[lane] + std::min(begin / from.group[lane], from.groups[lane] - 1) : 0;
        const float scale = there ? from.scales[static_cast<size_t>(g)] : 0.0f;
        const int zero = there ? from.zeros[static_cast<size_t>(g)] : 0;
        StoreBF16(block + lane * 2, scale);
        if (layout.minimum)
          StoreBF16(block + 2 * kLanes + lane * 2, -scale * static_cast<float>(zero));
      }
      uint8_t* out = block + layout.meta_bytes() + lane * 4;
      const int64_t count = std::min<int64_t>(layout.group, layout.stored_k - begin);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t k = begin + i;
        const uint8_t code =
            there && k < from.columns ? codes[k] : static_cast<uint8_t>(layout.offset());
        if (layout.bits == 8) {
          out[i / 4 * 64 + i % 4] = code;
        } else if (uint8_t& both = out[i / 8 * 64 + i % 4]; i % 8 < 4) {
          both = code;
        } else {
          both = static_cast<uint8_t>(both | code << 4);
        }
      }
    }
    if (layout.per_channel) {
      const float scale = there ? from.scales[static_cast<size_t>(from.at[lane])] : 0.0f;
      std::memcpy(to + layout.scales_at() + lane * 4, &scale, sizeof scale);
    }
  }
}

}  // namespace
}  // namespace cpu

Result<std::unique_ptr<PackedMatrix>> CpuBackend::PackCodes(std::span<const SourceMatrix> sources,
                                                            const QuantFormat& format, int64_t n,
                                                            int64_t k) {
  const cpu::QuantLayout layout = cpu::LayoutOf(format, k);
  const int64_t panels = (n + cpu::kLanes - 1) / cpu::kLanes;
  const auto bytes = static_cast<size_t>(panels * layout.panel_bytes());
  TESSERA_TRY(Storage storage, AllocateAligned(bytes, false));
  auto packed = std::make_unique<cpu::CpuPackedMatrix>(
      n, k, format.bits == 8 ? WeightFormat::kInt8 : WeightFormat::kInt4, layout, bytes,
      std::move(storage));
  TESSERA_RETURN_IF_ERROR(shared_.Reserve(cpu::QuantSharedScratchBytes(layout)));
  pool_.Run(panels, [&](int64_t item, int) {
    cpu::StoreCodes(layout, cpu::ReadPanel(sources, item * cpu::kLanes),
                    static_cast<uint8_t*>(packed->data()) + item * layout.panel_bytes());
  });
  return packed;
}

}  // namespace tessera
