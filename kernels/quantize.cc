#include "kernels/quantize.h"

#include <string>
#include <vector>

#include "kernels/quantize_lanes.h"

namespace tessera {
namespace {

constexpr int kInt4Group = 32;

}  // namespace

Result<QuantFormat> QuantFormatOf(const PackSpec& spec) {
  TESSERA_CHECK(spec.format == WeightFormat::kInt8 || spec.format == WeightFormat::kInt4,
                "quantised format: expected int8 or int4, got {}", Name(spec.format));
  if (spec.group != 0 && spec.group != 32 && spec.group != 64 && spec.group != 128)
    return Fail(
        ErrorCode::kInvalidArgument, "unknown group size of quantised weights",
        {.field = "group", .limit = "one of 32, 64, 128", .value = std::to_string(spec.group)});
  if (spec.format == WeightFormat::kInt8) return QuantFormat{.bits = 8, .group = spec.group};
  return QuantFormat{.bits = 4,
                     .group = spec.group != 0 ? spec.group : kInt4Group,
                     .minimum = spec.minimum || spec.group == 0};
}

int RowScalesOf16(const float* w, int64_t k, float* scales) {
  float zeros[kQuantLanes] = {}, most[kQuantLanes] = {};
  for (int64_t i = 0; i < k; ++i)
    for (int lane = 0; lane < kQuantLanes; ++lane) {
      const float x = w[i * kQuantLanes + lane];
      most[lane] = std::max(most[lane], std::fabs(x));
      zeros[lane] += x * 0.0f;  // NaN for an infinity or a NaN
    }
  for (int lane = 0; lane < kQuantLanes; ++lane) {
    if (!(most[lane] + zeros[lane] <= kQuantMost)) return lane;
    scales[lane] = most[lane] < kQuantLeast ? 0.0f : most[lane] / 127.0f;
  }
  return -1;
}

int64_t QuantizeRows(const QuantFormat& format, const float* w, int64_t rows, int64_t k,
                     std::span<const float> importance, const QuantizedRows& to) {
  using V = PlainLanes;
  TESSERA_CHECK(importance.empty() || std::ssize(importance) == k,
                "QuantizeRows: importance: expected {} columns, got {}", k, importance.size());
  TESSERA_CHECK(!format.minimum || to.minima != nullptr,
                "QuantizeRows: minima: expected storage, got null");
  const int64_t groups = format.groups(k), group = format.group == 0 ? k : format.group;
  std::vector<float> lanes(static_cast<size_t>(k * kQuantLanes));
  for (int64_t first = 0; first < rows; first += kQuantLanes) {
    const int count = static_cast<int>(std::min<int64_t>(kQuantLanes, rows - first));
    for (int64_t i = 0; i < k; ++i)
      for (int lane = 0; lane < kQuantLanes; ++lane)
        lanes[static_cast<size_t>(i * kQuantLanes + lane)] =
            lane < count ? w[(first + lane) * k + i] : 0.0f;
    V row_scale;
    const int bad = RowScalesOf16(lanes.data(), k, row_scale.v);
    if (bad >= 0) return first + bad;
    for (int64_t g = 0; g < groups; ++g) {
      const float* part = lanes.data() + g * group * kQuantLanes;
      const int64_t count_k = std::min(group, k - g * group);
      const QuantSteps<V> steps =
          format.group == 0
              ? QuantSteps<V>{row_scale, V::Zero()}
              : StepsOf<V>(format, {part, count_k,
                                    importance.empty() ? nullptr : importance.data() + g * group});
      const V inverse = InverseOrZero(steps.scale);
      for (int lane = 0; lane < count; ++lane) {
        to.scales[(first + lane) * groups + g] = steps.scale.v[lane];
        if (format.minimum) to.minima[(first + lane) * groups + g] = steps.minimum.v[lane];
      }
      for (int64_t i = 0; i < count_k; ++i) {
        const V codes = CodeOf(V::Load(part + i * kQuantLanes), inverse, steps.minimum, format);
        for (int lane = 0; lane < count; ++lane)
          to.codes[(first + lane) * k + g * group + i] = static_cast<uint8_t>(codes.v[lane]);
      }
    }
  }
  return -1;
}

}  // namespace tessera
