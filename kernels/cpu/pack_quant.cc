// Pack for int8 and int4: file tensors to codes and scales, one panel of 16 outputs an item.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/pack.h"
#include "kernels/quantize_lanes.h"

namespace tessera {
namespace cpu {

QuantLayout LayoutOf(const QuantFormat& format, int64_t k) {
  return {.bits = format.bits,
          .group = format.group == 0 ? kChannelGroup : format.group,
          .per_channel = format.group == 0,
          .minimum = format.minimum,
          .stored_k = (k + kQuantAlign - 1) / kQuantAlign * kQuantAlign};
}

namespace {

// Packs 16 outputs, w [stored_k][16]. Returns the lane of an output that cannot be, or -1.
int QuantPanel(const QuantKernels& kernels, const QuantFormat& format, const QuantLayout& layout,
               const float* w, std::span<const float> importance, uint8_t* panel) {
  alignas(64) float scales[kLanes];
  const int bad = RowScalesOf16(w, layout.stored_k, scales);
  if (bad >= 0) return bad;
  for (int64_t begin = 0; begin < layout.stored_k; begin += layout.group) {
    uint8_t* block = panel + begin / layout.group * layout.block_bytes();
    kernels.pack({.w = w + begin * kLanes,
                  .k = std::min<int64_t>(layout.group, layout.stored_k - begin),
                  .format = format,
                  .scales = scales,
                  .importance = importance.empty() ? nullptr : importance.data() + begin,
                  .meta = block,
                  .codes = block + layout.meta_bytes()});
  }
  if (layout.per_channel) std::memcpy(panel + layout.scales_at(), scales, sizeof scales);
  return -1;
}

}  // namespace

void DequantizeRow(const QuantLayout& layout, const uint8_t* panel, int lane, int64_t k,
                   float* to) {
  const auto bf16 = [](const uint8_t* at) {
    uint16_t bits;
    std::memcpy(&bits, at, 2);
    return BF16ToFloat(bits);
  };
  float channel = 0;
  if (layout.per_channel)
    std::memcpy(&channel, panel + layout.scales_at() + lane * 4, sizeof channel);
  for (int64_t begin = 0; begin < k; begin += layout.group, panel += layout.block_bytes()) {
    const int64_t count = std::min<int64_t>(layout.group, k - begin);
    const uint8_t* codes = panel + layout.meta_bytes() + lane * 4;
    const float scale = layout.per_channel ? channel : bf16(panel + lane * 2);
    const float minimum = layout.minimum ? bf16(panel + 32 + lane * 2) : 0.0f;
    for (int64_t i = 0; i < count; ++i) {
      int code;
      if (layout.bits == 8) {
        code = codes[i / 4 * 64 + i % 4];
      } else {
        const uint8_t both = codes[i / 8 * 64 + i % 4];
        code = i % 8 < 4 ? both & 15 : both >> 4;
      }
      to[begin + i] = scale * static_cast<float>(code - layout.offset()) + minimum;
    }
  }
}

}  // namespace cpu

Result<std::unique_ptr<PackedMatrix>> CpuBackend::PackQuant(std::span<const SourceMatrix> sources,
                                                            const PackSpec& spec, int64_t n,
                                                            int64_t k) {
  using cpu::kLanes;
  TESSERA_TRY(const QuantFormat format, QuantFormatOf(spec));
  const cpu::QuantLayout layout = cpu::LayoutOf(format, k);
  TESSERA_CHECK(spec.importance.empty() || std::ssize(spec.importance) == k,
                "Pack: importance: expected {} columns, got {}", k, spec.importance.size());
  const int64_t panels = (n + kLanes - 1) / kLanes;
  const size_t bytes = static_cast<size_t>(panels * layout.panel_bytes());
  TESSERA_TRY(Storage storage, AllocateAligned(bytes, false));
  auto packed =
      std::make_unique<cpu::CpuPackedMatrix>(n, k, spec.format, layout, bytes, std::move(storage));
  TESSERA_RETURN_IF_ERROR(shared_.Reserve(cpu::QuantSharedScratchBytes(layout)));

  std::vector<float> importance(spec.importance.begin(), spec.importance.end());
  if (!importance.empty()) importance.resize(static_cast<size_t>(layout.stored_k), 0.0f);
  const int64_t columns = sources[0].columns;
  const int64_t floats = (layout.stored_k + 1) * kLanes;
  TESSERA_TRY(Storage scratch,
              AllocateAligned(static_cast<size_t>(pool_.threads() * floats) * 4, false));
  std::atomic<int64_t> bad_row{-1};
  pool_.Run(panels, [&](int64_t item, int worker) {
    float* w = static_cast<float*>(scratch.get()) + worker * floats;
    std::fill_n(w + columns * kLanes, (layout.stored_k - columns) * kLanes, 0.0f);
    cpu::LoadPanel(sources, item * kLanes, w);
    const int lane =
        cpu::QuantPanel(kernels_.quant, format, layout, w, importance,
                        static_cast<uint8_t*>(packed->data()) + item * layout.panel_bytes());
    if (lane >= 0) bad_row = item * kLanes + lane;
  });
  if (bad_row >= 0)
    return Invalid("a weight that is to be quantised is not finite or too large",
                   {.field = "weights",
                    .limit = "magnitudes up to 1e37",
                    .value = fmt::format("row {}", bad_row.load())});
  return packed;
}

}  // namespace tessera
