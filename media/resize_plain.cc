#include <algorithm>

#include "media/resize_pass.h"
#include "media/resize_vertical.h"

namespace tessera::media {
namespace {

class Plain final : public HorizontalPass {
 public:
  explicit Plain(const Taps& taps) : taps_(taps) {}

  void Run(const PassRows& rows) const override {
    for (size_t y = 0; y < kPassRows; ++y) {
      uint8_t* out = rows.out + y * rows.out_stride;
      for (const Taps::Span& span : taps_.spans) {
        const uint8_t* in = rows.in + y * rows.in_stride + static_cast<size_t>(span.first) * 3;
        int32_t sums[3] = {kHalf, kHalf, kHalf};
        for (const int32_t weight : taps_.WeightsOf(span)) {
          for (int c = 0; c < 3; ++c) sums[c] += weight * in[c];
          in += 3;
        }
        for (int c = 0; c < 3; ++c) *out++ = Clip(sums[c]);
      }
    }
  }

 private:
  const Taps taps_;
};

}  // namespace

std::unique_ptr<HorizontalPass> PlainHorizontal(const Taps& taps) {
  return std::make_unique<Plain>(taps);
}

void PlainVertical(std::span<const uint8_t* const> rows, const int32_t* weights, size_t bytes,
                   uint8_t* out) {
  VerticalBody(rows, weights, bytes, out);
}

}  // namespace tessera::media
