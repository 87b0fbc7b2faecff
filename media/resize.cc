#include "media/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>

#include "base/check.h"
#include "media/resize_avx2.h"

namespace tessera {
namespace {

// 8 bits of the result and 2 of headroom for negative lobes leave 22 for the fraction.
constexpr int kFractionBits = 32 - 8 - 2;
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

double Box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double Triangle(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double Hamming(double x) {
  x = std::fabs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= std::numbers::pi;
  return std::sin(x) / x *
         (0.54f + 0.46f * std::cos(x));  // the window's constants are floats in Pillow
}

double Cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double Sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double Lanczos(double x) { return -3.0 <= x && x < 3.0 ? Sinc(x) * Sinc(x / 3) : 0.0; }

struct Filter {
  double (*weight)(double);
  double support;  // at scale 1
};

Filter FilterOf(Resample resample) {
  switch (resample) {
    case Resample::kLanczos: return {Lanczos, 3.0};
    case Resample::kBilinear: return {Triangle, 1.0};
    case Resample::kBicubic: return {Cubic, 2.0};
    case Resample::kBox: return {Box, 0.5};
    case Resample::kHamming: return {Hamming, 1.0};
    case Resample::kNearest: break;
  }
  return {Box, 0.5};
}

// For each output position the input positions that it reads, and their fixed-point weights.
struct Taps {
  struct Span {
    int first;  // input position
    int count;
    size_t weights;  // index of its first weight
  };
  std::vector<Span> spans;
  std::vector<int32_t> weights;
};

Taps MakeTaps(int in_size, int out_size, const Filter& filter) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  Taps taps;
  taps.spans.reserve(static_cast<size_t>(out_size));
  std::vector<double> exact;
  for (int out = 0; out < out_size; ++out) {
    const double centre = (out + 0.5) * scale;
    // NOLINTBEGIN(bugprone-incorrect-roundings): Pillow's own rounding, which lround is not
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int last = std::min(static_cast<int>(centre + support + 0.5), in_size);
    // NOLINTEND(bugprone-incorrect-roundings)
    exact.clear();
    double sum = 0.0;
    for (int x = first; x < last; ++x) {
      exact.push_back(filter.weight((x - centre + 0.5) * inverse));
      sum += exact.back();
    }
    taps.spans.push_back({first, last - first, taps.weights.size()});
    for (double weight : exact) {
      if (sum != 0.0) weight /= sum;
      taps.weights.push_back(
          static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kFractionBits)));
    }
  }
  return taps;
}

inline uint8_t Clip(int32_t sum) {
  return static_cast<uint8_t>(
      std::clamp(sum >> kFractionBits, 0, 255));  // the shift rounds down, as Pillow's does
}

// `kLanes` sums at once: out[i] = clip(sum over j of weights[j] * in[j * stride + i]).
template <int kLanes>
[[gnu::always_inline]] inline void Convolve(const uint8_t* in, size_t stride,
                                            const int32_t* weights, int count, uint8_t* out) {
  int32_t sums[kLanes];
  for (int i = 0; i < kLanes; ++i) sums[i] = kHalf;
  for (int j = 0; j < count; ++j, in += stride) {
    const int32_t weight = weights[j];
    for (int i = 0; i < kLanes; ++i) sums[i] += weight * in[i];
  }
  for (int i = 0; i < kLanes; ++i) out[i] = Clip(sums[i]);
}

struct Pass {
  const Taps* taps;
  const uint8_t* in;
  size_t in_stride;
  uint8_t* out;
  size_t out_stride;
  int rows;  // horizontal: of the picture; vertical: unused
};

void HorizontalRows(const Pass& pass) {
  for (int y = 0; y < pass.rows; ++y) {
    uint8_t* out = pass.out + static_cast<size_t>(y) * pass.out_stride;
    for (const Taps::Span& span : pass.taps->spans) {
      Convolve<3>(
          pass.in + static_cast<size_t>(y) * pass.in_stride + static_cast<size_t>(span.first) * 3,
          3, pass.taps->weights.data() + span.weights, span.count, out);
      out += 3;
    }
  }
}

[[gnu::always_inline]] inline void VerticalBody(const Pass& pass) {
  constexpr size_t kLanes = 64;
  const size_t row_bytes = pass.out_stride;
  uint8_t* out = pass.out;
  for (const Taps::Span& span : pass.taps->spans) {
    const uint8_t* in = pass.in + static_cast<size_t>(span.first) * pass.in_stride;
    const int32_t* weights = pass.taps->weights.data() + span.weights;
    size_t i = 0;
    for (; i + kLanes <= row_bytes; i += kLanes)
      Convolve<kLanes>(in + i, pass.in_stride, weights, span.count, out + i);
    for (; i + 8 <= row_bytes; i += 8)
      Convolve<8>(in + i, pass.in_stride, weights, span.count, out + i);
    for (; i < row_bytes; ++i) Convolve<1>(in + i, pass.in_stride, weights, span.count, out + i);
    out += pass.out_stride;
  }
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] void VerticalAvx2(const Pass& pass) { VerticalBody(pass); }
// An array of 64 sums, or of 8, is whole registers of any width; the compiler is told the widest.
[[gnu::target("avx512f,avx512bw,avx512vl")]] void VerticalAvx512(const Pass& pass) {
  VerticalBody(pass);
}
#endif

// What is left of the rows goes to the plain code, at least the last one: behind it there is
// nothing to read.
void HorizontalPacked(const Pass& pass) {
  media::PackedTaps packed;
  for (const Taps::Span& span : pass.taps->spans)
    packed.Add(
        span.first,
        std::span(pass.taps->weights).subspan(span.weights, static_cast<size_t>(span.count)));
  Pass rest = pass;
  constexpr int kStep = media::PackedTaps::kRows;
  for (; rest.rows > kStep; rest.rows -= kStep) {
    packed.Run({rest.in, rest.in_stride, rest.out, rest.out_stride}, kHalf, kFractionBits);
    rest.in += kStep * rest.in_stride;
    rest.out += kStep * rest.out_stride;
  }
  HorizontalRows(rest);
}

void Horizontal(const Pass& pass) {
  const bool packed = pass.rows > static_cast<int>(media::PackedTaps::kRows) &&
                      pass.in_stride >= media::PackedTaps::kBytesBehind &&
                      media::PackedTaps::Usable();
  packed ? HorizontalPacked(pass) : HorizontalRows(pass);
}

void Vertical(const Pass& pass) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return VerticalAvx512(pass);
  if (__builtin_cpu_supports("avx2")) return VerticalAvx2(pass);
#endif
  VerticalBody(pass);
}

// Pillow steps through the source by repeated addition in double, which a multiplication would not
// reproduce; where the sum runs past the edge the pixel stays black.
std::vector<int> NearestPositions(int in_size, int out_size) {
  const double step = static_cast<double>(in_size) / out_size;
  std::vector<int> positions(static_cast<size_t>(out_size));
  double at = step * 0.5;
  for (int& position : positions) {
    position = static_cast<int>(at) < in_size ? static_cast<int>(at) : -1;
    at += step;
  }
  return positions;
}

std::vector<uint8_t> Nearest(const RgbView& image, int width, int height) {
  const std::vector<int> columns = NearestPositions(image.width, width),
                         rows = NearestPositions(image.height, height);
  std::vector<uint8_t> out(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  uint8_t* pixel = out.data();
  for (const int y : rows) {
    for (const int x : columns) {
      if (x >= 0 && y >= 0) {
        const size_t at =
            (static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x)) *
            3;
        std::memcpy(pixel, image.pixels.data() + at, 3);
      }
      pixel += 3;
    }
  }
  return out;
}

}  // namespace

std::optional<Resample> ResampleFromId(int64_t id) {
  if (id < 0 || id > 5) return std::nullopt;
  return static_cast<Resample>(id);
}

std::vector<uint8_t> Resize(RgbView image, int width, int height, Resample resample) {
  TESSERA_CHECK(image.width >= 1 && image.height >= 1 && width >= 1 && height >= 1,
                "resize {}x{} to {}x{}", image.width, image.height, width, height);
  const size_t in_stride = static_cast<size_t>(image.width) * 3,
               out_stride = static_cast<size_t>(width) * 3;
  TESSERA_CHECK(image.pixels.size() == in_stride * static_cast<size_t>(image.height),
                "{} bytes for {}x{}", image.pixels.size(), image.width, image.height);
  if (width == image.width && height == image.height)
    return {image.pixels.begin(), image.pixels.end()};
  if (resample == Resample::kNearest) return Nearest(image, width, height);
  const Filter filter = FilterOf(resample);
  const uint8_t* const pixels = image.pixels.data();
  const auto horizontal = [&](const uint8_t* source, uint8_t* out, int rows) {
    const Taps taps = MakeTaps(image.width, width, filter);
    Horizontal({&taps, source, in_stride, out, out_stride, rows});
  };
  const auto vertical = [&](const uint8_t* source, uint8_t* out, size_t stride) {
    const Taps taps = MakeTaps(image.height, height, filter);
    Vertical({&taps, source, stride, out, stride, 0});
  };
  std::vector<uint8_t> result(out_stride * static_cast<size_t>(height));
  if (width == image.width) {
    vertical(pixels, result.data(), in_stride);
    return result;
  }
  if (height == image.height) {
    horizontal(pixels, result.data(), height);
    return result;
  }
  const int64_t fewer_rows = int64_t{image.height} - height,
                fewer_columns = int64_t{image.width} - width;
  // Between the passes nothing is read before it is written.
  if (fewer_rows > 0 && fewer_rows > 2 * fewer_columns) {
    const auto middle =
        std::make_unique_for_overwrite<uint8_t[]>(in_stride * static_cast<size_t>(height));
    vertical(pixels, middle.get(), in_stride);
    horizontal(middle.get(), result.data(), height);
  } else {
    const auto middle =
        std::make_unique_for_overwrite<uint8_t[]>(out_stride * static_cast<size_t>(image.height));
    horizontal(pixels, middle.get(), image.height);
    vertical(middle.get(), result.data(), out_stride);
  }
  return result;
}

}  // namespace tessera
