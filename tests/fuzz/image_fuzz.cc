// Any bytes as a picture: an error or a whole picture, probing and decoding agree, and no byte of
// the budget is lost.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "media/decode.h"
#include "media/image_processor.h"

namespace {

using namespace tessera;  // NOLINT(google-build-using-namespace): a file of one function

std::unique_ptr<ImageProcessor> MakeProcessor(const char* type) {
  auto processor = MakeImageProcessor(
      nlohmann::ordered_json{{"image_processor_type", type}, {"size", 28}, {"crop_size", 28}});
  TESSERA_CHECK(processor.has_value(), "{}", processor.error().Describe());
  return *std::move(processor);
}

void CheckError(const Error& error) {
  TESSERA_CHECK(error.code == ErrorCode::kInvalidArgument, "{}", error.Describe());
  TESSERA_CHECK(error.field == "image" && !error.limit.empty() && !error.value.empty(), "{}",
                error.Describe());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto mllama = MakeProcessor("MllamaImageProcessor"),
                    clip = MakeProcessor("CLIPImageProcessor");
  // Small, so that most time goes into parsing and not into pixels.
  constexpr DecodeLimits kLimits{.max_pixels = 1 << 18, .max_progressive_scans = 20};
  DecodeBudget budget(int64_t{64} << 20);
  const auto info = ProbeImage({data, size}, kLimits);
  auto image = DecodeImage({data, size}, kLimits, budget);
  if (!info) {
    CheckError(info.error());
    TESSERA_CHECK(!image, "refused by its headers, yet decoded");
  }
  if (!image) {
    CheckError(image.error());
    TESSERA_CHECK(budget.in_use() == 0, "{} bytes lost", budget.in_use());
    return 0;
  }
  TESSERA_CHECK(info->width == image->width && info->height == image->height,
                "{}x{} probed, {}x{} decoded", info->width, info->height, image->width,
                image->height);
  TESSERA_CHECK(image->rgb.size() == size_t{3} * static_cast<size_t>(image->width) *
                                         static_cast<size_t>(image->height),
                "rgb of {} bytes", image->rgb.size());
  TESSERA_CHECK(budget.peak() == info->decode_bytes, "{} bytes taken, {} said", budget.peak(),
                info->decode_bytes);
  for (const auto* processor : {mllama.get(), clip.get()}) {
    const auto processed = processor->Process({image->width, image->height, image->rgb});
    if (!processed)
      CheckError(processed.error());
    else
      TESSERA_CHECK(processed->PixelValues().size() >= processed->tiles.size(), "{} tiles",
                    processed->tiles_used());
  }
  image->memory.Release();
  TESSERA_CHECK(budget.in_use() == 0, "{} bytes lost", budget.in_use());
  return 0;
}
