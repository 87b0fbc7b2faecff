#include "media/resize.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "media/resize_pass.h"

namespace tessera {
namespace {

using media::kBytesBehind;
using media::kPassRows;
using media::Taps;

constexpr size_t kBatch = kPassRows;

std::unique_ptr<media::HorizontalPass> MakeHorizontal(const Taps& taps, MediaTier tier) {
  if (tier == MediaTier::kAvx512 && media::Avx512Takes(taps)) {
    if (auto pass = media::Avx512Horizontal(taps)) return pass;
  }
  if (tier != MediaTier::kPlain) return media::Avx2Horizontal(taps);
  return media::PlainHorizontal(taps);
}

media::VerticalPass MakeVertical(const Taps& taps, MediaTier tier) {
  if (tier == MediaTier::kAvx512 && media::Avx512Takes(taps)) return media::Avx512Vertical;
  return tier != MediaTier::kPlain ? media::Avx2Vertical : media::PlainVertical;
}

// Some rows of one length, each with room behind it.
class Rows {
 public:
  Rows(size_t count, size_t bytes)
      : stride_((bytes + kBytesBehind + 63) / 64 * 64), bytes_(count * stride_) {}
  uint8_t* at(size_t row) { return bytes_.data() + row * stride_; }
  size_t stride() const { return stride_; }

 private:
  const size_t stride_;
  std::vector<uint8_t> bytes_;
};

class Resizer {
 public:
  Resizer(RgbView image, int width, int height, Resample resample, MediaTier tier)
      : image_(image),
        in_bytes_(static_cast<size_t>(image.width) * 3),
        out_bytes_(static_cast<size_t>(width) * 3),
        out_rows_(static_cast<size_t>(height)),
        edge_(kBatch, in_bytes_) {
    if (width != image.width)
      horizontal_ = MakeHorizontal(media::MakeTaps(image.width, width, resample), tier);
    if (height != image.height) {
      taps_ = media::MakeTaps(image.height, height, resample);
      vertical_ = MakeVertical(taps_, tier);
    }
  }

  void Run(const ResizedRow& take) {
    if (vertical_ == nullptr) {
      HorizontalOnly(take);
    } else if (horizontal_ == nullptr) {
      VerticalOnly(take);
    } else {
      const int64_t fewer_rows = int64_t{image_.height} - static_cast<int64_t>(out_rows_);
      const int64_t fewer_columns =
          (static_cast<int64_t>(in_bytes_) - static_cast<int64_t>(out_bytes_)) / 3;
      fewer_rows > 0 && fewer_rows > 2 * fewer_columns ? VerticalFirst(take)
                                                       : HorizontalFirst(take);
    }
  }

 private:
  const uint8_t* Source(size_t row) const { return image_.pixels.data() + row * in_bytes_; }

  // kBatch rows of the picture from `row` on, shortened. Rows beyond its end are anything.
  void Horizontal(size_t row, uint8_t* out, size_t out_stride) {
    const auto height = static_cast<size_t>(image_.height);
    if (row + kBatch < height && in_bytes_ >= kBytesBehind)
      return horizontal_->Run({Source(row), in_bytes_, out, out_stride});
    // Behind the last row there is nothing to read.
    for (size_t r = 0; r < std::min(kBatch, height - row); ++r)
      std::memcpy(edge_.at(r), Source(row + r), in_bytes_);
    horizontal_->Run({edge_.at(0), edge_.stride(), out, out_stride});
  }

  void Vertical(const Taps::Span& span, std::span<const uint8_t* const> rows, size_t bytes,
                uint8_t* out) const {
    vertical_(rows, taps_.weights.data() + span.weights, bytes, out);
  }

  std::span<const uint8_t* const> SourcesOf(const Taps::Span& span) {
    pointers_.clear();
    for (int j = 0; j < span.count; ++j)
      pointers_.push_back(Source(static_cast<size_t>(span.first) + static_cast<size_t>(j)));
    return pointers_;
  }

  void HorizontalOnly(const ResizedRow& take) {
    Rows out(kBatch, out_bytes_);
    for (size_t y = 0; y < out_rows_; y += kBatch) {
      Horizontal(y, out.at(0), out.stride());
      for (size_t r = 0; r < std::min(kBatch, out_rows_ - y); ++r)
        take(static_cast<int>(y + r), out.at(r));
    }
  }

  void VerticalOnly(const ResizedRow& take) {
    Rows out(1, out_bytes_);
    for (size_t y = 0; y < out_rows_; ++y) {
      const Taps::Span& span = taps_.spans[y];
      Vertical(span, SourcesOf(span), out_bytes_, out.at(0));
      take(static_cast<int>(y), out.at(0));
    }
  }

  void VerticalFirst(const ResizedRow& take) {
    Rows middle(kBatch, in_bytes_), out(kBatch, out_bytes_);
    for (size_t y = 0; y < out_rows_; y += kBatch) {
      const size_t count = std::min(kBatch, out_rows_ - y);
      for (size_t r = 0; r < count; ++r) {
        const Taps::Span& span = taps_.spans[y + r];
        Vertical(span, SourcesOf(span), in_bytes_, middle.at(r));
      }
      horizontal_->Run({middle.at(0), middle.stride(), out.at(0), out.stride()});
      for (size_t r = 0; r < count; ++r) take(static_cast<int>(y + r), out.at(r));
    }
  }

  // Shortened rows wait in a ring until no row of the result reads them any more. Batches start at
  // multiples of kBatch, so that a batch never wraps.
  void HorizontalFirst(const ResizedRow& take) {
    const size_t ring =
        (static_cast<size_t>(taps_.most) + kBatch - 1 + kBatch - 1) / kBatch * kBatch;
    Rows middle(ring, out_bytes_), out(1, out_bytes_);
    size_t next = 0;  // the first row that is not in the ring
    for (size_t y = 0; y < out_rows_; ++y) {
      const Taps::Span& span = taps_.spans[y];
      const auto first = static_cast<size_t>(span.first), count = static_cast<size_t>(span.count);
      next = std::max(next, first / kBatch * kBatch);
      for (; next < first + count; next += kBatch)
        Horizontal(next, middle.at(next % ring), middle.stride());
      pointers_.clear();
      for (size_t j = 0; j < count; ++j) pointers_.push_back(middle.at((first + j) % ring));
      Vertical(span, pointers_, out_bytes_, out.at(0));
      take(static_cast<int>(y), out.at(0));
    }
  }

  const RgbView image_;
  const size_t in_bytes_;  // of a row
  const size_t out_bytes_;
  const size_t out_rows_;
  Rows edge_;
  std::unique_ptr<media::HorizontalPass> horizontal_;  // null: the width stays
  Taps taps_;                                          // of the vertical pass
  media::VerticalPass vertical_ = nullptr;             // null: the height stays
  std::vector<const uint8_t*> pointers_;
};

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

void NearestRows(const RgbView& image, int width, int height, const ResizedRow& take) {
  const std::vector<int> columns = NearestPositions(image.width, width),
                         rows = NearestPositions(image.height, height);
  std::vector<uint8_t> out(static_cast<size_t>(width) * 3);
  for (size_t y = 0; y < rows.size(); ++y) {
    uint8_t* pixel = out.data();
    for (const int x : columns) {
      if (x >= 0 && rows[y] >= 0) {
        const size_t at = (static_cast<size_t>(rows[y]) * static_cast<size_t>(image.width) +
                           static_cast<size_t>(x)) *
                          3;
        std::memcpy(pixel, image.pixels.data() + at, 3);
      } else {
        std::memset(pixel, 0, 3);
      }
      pixel += 3;
    }
    take(static_cast<int>(y), out.data());
  }
}

}  // namespace

std::optional<Resample> ResampleFromId(int64_t id) {
  if (id < 0 || id > 5) return std::nullopt;
  return static_cast<Resample>(id);
}

void ResizeRows(RgbView image, int width, int height, Resample resample, const ResizedRow& take,
                MediaTier tier) {
  TESSERA_CHECK(image.width >= 1 && image.height >= 1 && width >= 1 && height >= 1,
                "resize {}x{} to {}x{}", image.width, image.height, width, height);
  const size_t in_bytes = static_cast<size_t>(image.width) * 3;
  TESSERA_CHECK(image.pixels.size() == in_bytes * static_cast<size_t>(image.height),
                "{} bytes for {}x{}", image.pixels.size(), image.width, image.height);
  if (width == image.width && height == image.height) {
    for (int y = 0; y < height; ++y)
      take(y, image.pixels.data() + static_cast<size_t>(y) * in_bytes);
    return;
  }
  if (resample == Resample::kNearest) return NearestRows(image, width, height, take);
  Resizer(image, width, height, resample, tier).Run(take);
}

std::vector<uint8_t> Resize(RgbView image, int width, int height, Resample resample,
                            MediaTier tier) {
  TESSERA_CHECK(width >= 1 && height >= 1, "resize to {}x{}", width, height);
  const size_t row_bytes = static_cast<size_t>(width) * 3;
  std::vector<uint8_t> out(row_bytes * static_cast<size_t>(height));
  ResizeRows(
      image, width, height, resample,
      [&](int y, const uint8_t* row) {
        std::memcpy(out.data() + static_cast<size_t>(y) * row_bytes, row, row_bytes);
      },
      tier);
  return out;
}

}  // namespace tessera
