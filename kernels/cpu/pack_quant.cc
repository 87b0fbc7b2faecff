// Pack for int8 and int4: file tensors to codes and scales, one panel of 16 outputs an item.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/pack.h"

namespace tessera {
namespace cpu {
namespace {

constexpr int kInt4Group = 32;
constexpr float kMostMagnitude = 1e37f;  // so that no step times a code overflows

Result<QuantLayout> ChooseQuantLayout(const PackSpec& spec, int64_t k) {
  const bool int8 = spec.format == WeightFormat::kInt8;
  QuantLayout layout;
  layout.bits = int8 ? 8 : 4;
  layout.per_channel = int8 && spec.group == 0;
  layout.minimum = !int8 && (spec.minimum || spec.group == 0);
  layout.group = spec.group != 0 ? spec.group : int8 ? kChannelGroup : kInt4Group;
  layout.stored_k = (k + kQuantAlign - 1) / kQuantAlign * kQuantAlign;
  const bool known = spec.group == 0 || spec.group == 32 || spec.group == 64 || spec.group == 128;
  if (!known)
    return Invalid(
        "unknown group size of quantised weights",
        {.field = "group", .limit = "one of 32, 64, 128", .value = std::to_string(spec.group)});
  return layout;
}

// The largest magnitude of each of 16 outputs over [k][16], NaN where one is not finite.
void Magnitudes(const float* w, int64_t k, float* most) {
  float zeros[kLanes] = {};
  std::fill_n(most, kLanes, 0.0f);
  for (int64_t i = 0; i < k; ++i)
    for (int lane = 0; lane < kLanes; ++lane) {
      const float x = w[i * kLanes + lane];
      most[lane] = std::max(most[lane], std::fabs(x));
      zeros[lane] += x * 0.0f;  // NaN for an infinity or a NaN
    }
  for (int lane = 0; lane < kLanes; ++lane) most[lane] += zeros[lane];
}

// Packs 16 outputs, w [stored_k][16]. Returns the lane of an output that cannot be, or -1.
int QuantPanel(const QuantKernels& kernels, const QuantLayout& layout, const float* w, int64_t k,
               std::span<const float> importance, uint8_t* panel) {
  alignas(64) float magnitude[kLanes], scales[kLanes];
  Magnitudes(w, k, magnitude);
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(magnitude[lane] <= kMostMagnitude)) return lane;
    scales[lane] = magnitude[lane] < kQuantLeast ? 0.0f : magnitude[lane] / 127.0f;
  }
  for (int64_t begin = 0; begin < layout.stored_k; begin += layout.group) {
    uint8_t* block = panel + begin / layout.group * layout.block_bytes();
    kernels.pack({.w = w + begin * kLanes,
                  .k = std::min<int64_t>(layout.group, layout.stored_k - begin),
                  .bits = layout.bits,
                  .per_channel = layout.per_channel,
                  .minimum = layout.minimum,
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
  TESSERA_TRY(const cpu::QuantLayout layout, cpu::ChooseQuantLayout(spec, k));
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
        cpu::QuantPanel(kernels_.quant, layout, w, layout.stored_k, importance,
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
