#include "media/processor_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "media/planes.h"

namespace tessera::media {
namespace {

// What stands at a key, for an error.
std::string Found(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 100);
}

const Json* Find(const Json& settings, const char* key) {
  const auto at = settings.find(key);
  return at == settings.end() || at->is_null() ? nullptr : &*at;
}

Result<int> PositiveInt(const Json& value, const std::string& key, int64_t most) {
  const bool fits =
      value.is_number_integer() && !value.is_boolean() &&
      (!value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(most)) &&
      value.get<int64_t>() >= 1 && value.get<int64_t>() <= most;
  if (!fits) {
    return Invalid("bad value in the image processor's settings",
                   {.field = key,
                    .limit = fmt::format("an integer from 1 to {}", most),
                    .value = Found(value)});
  }
  return static_cast<int>(value.get<int64_t>());
}

Result<std::array<double, 3>> ReadChannels(const Json& settings, const char* key,
                                           const std::array<double, 3>& fallback) {
  const Json* value = Find(settings, key);
  if (value == nullptr) return fallback;
  const auto refused = [&] {
    return Invalid(
        "bad value in the image processor's settings",
        {.field = key, .limit = "a number or three, all finite", .value = Found(*value)});
  };
  const auto finite = [](const Json& number) {
    return number.is_number() && std::isfinite(static_cast<float>(number.get<double>()));
  };
  std::array<double, 3> out{};
  if (value->is_number()) {
    if (!finite(*value)) return refused();
    out.fill(value->get<double>());
    return out;
  }
  if (!value->is_array() || value->size() != 3) return refused();
  for (size_t i = 0; i < 3; ++i) {
    if (!finite((*value)[i])) return refused();
    out[i] = (*value)[i].get<double>();
  }
  return out;
}

}  // namespace

Result<bool> ReadFlag(const Json& settings, const char* key, bool fallback) {
  const Json* value = Find(settings, key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    return Invalid("bad value in the image processor's settings",
                   {.field = key, .limit = "true or false", .value = Found(*value)});
  }
  return value->get<bool>();
}

Result<int> ReadCount(const Json& settings, const char* key, int fallback, int64_t most) {
  const Json* value = Find(settings, key);
  if (value == nullptr) return fallback;
  return PositiveInt(*value, key, most);
}

Result<double> ReadNumber(const Json& settings, const char* key, double fallback) {
  const Json* value = Find(settings, key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    return Invalid("bad value in the image processor's settings",
                   {.field = key, .limit = "a finite number", .value = Found(*value)});
  }
  return value->get<double>();
}

Result<Resample> ReadResample(const Json& settings, Resample fallback) {
  const Json* value = Find(settings, "resample");
  if (value == nullptr) return fallback;
  const auto resample = value->is_number_integer() && !value->is_number_unsigned() ? std::nullopt
                        : value->is_number_unsigned() && value->get<uint64_t>() <= 5
                            ? ResampleFromId(value->get<int64_t>())
                            : std::nullopt;
  if (!resample) {
    return Invalid("bad value in the image processor's settings",
                   {.field = "resample",
                    .limit = "0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box or 5 hamming",
                    .value = Found(*value)});
  }
  return *resample;
}

Result<SizeSetting> ReadSize(const Json& settings, const char* key, bool square,
                             const SizeSetting& fallback) {
  const Json* value = Find(settings, key);
  if (value == nullptr) return fallback;
  SizeSetting out;
  if (value->is_number()) {
    TESSERA_TRY(const int side, PositiveInt(*value, key, kMostSide));
    if (square)
      out.height = out.width = side;
    else
      out.shortest_edge = side;
    return out;
  }
  const auto refused = [&] {
    return Invalid(
        "bad value in the image processor's settings",
        {.field = key,
         .limit = "a number, [height, width], or an object of height and width, shortest_edge, or "
                  "shortest_edge and longest_edge",
         .value = Found(*value)});
  };
  if (value->is_array()) {
    if (value->size() != 2) return refused();
    TESSERA_TRY(out.height, PositiveInt((*value)[0], fmt::format("{}[0]", key), kMostSide));
    TESSERA_TRY(out.width, PositiveInt((*value)[1], fmt::format("{}[1]", key), kMostSide));
    return out;
  }
  if (!value->is_object()) return refused();
  for (const auto& [name, number] : value->items()) {
    if (number.is_null()) continue;
    std::optional<int>* const member = name == "height"          ? &out.height
                                       : name == "width"         ? &out.width
                                       : name == "shortest_edge" ? &out.shortest_edge
                                       : name == "longest_edge"  ? &out.longest_edge
                                                                 : nullptr;
    if (member == nullptr) return refused();
    TESSERA_TRY(*member, PositiveInt(number, fmt::format("{}.{}", key, name), kMostSide));
  }
  const bool sides = out.height && out.width && !out.shortest_edge && !out.longest_edge;
  const bool edges = out.shortest_edge && !out.height && !out.width;
  if (!sides && !edges) return refused();
  return out;
}

PixelLut PixelSettings::MakeLut() const {
  PixelLut lut{};
  for (size_t channel = 0; channel < 3; ++channel) {
    for (int level = 0; level < 256; ++level) {
      float value =
          do_rescale ? static_cast<float>(level * rescale_factor) : static_cast<float>(level);
      if (do_normalize)
        value = (value - static_cast<float>(mean[channel])) / static_cast<float>(std[channel]);
      lut[channel][static_cast<size_t>(level)] = value;
    }
  }
  return lut;
}

void PixelSettings::AddTo(DigestBuilder& digest) const {
  digest.Add(int64_t{do_rescale})
      .Add(std::bit_cast<int64_t>(rescale_factor))
      .Add(int64_t{do_normalize});
  for (const double value : mean) digest.Add(std::bit_cast<int64_t>(value));
  for (const double value : std) digest.Add(std::bit_cast<int64_t>(value));
}

Result<PixelSettings> ReadPixelSettings(const Json& settings, const PixelSettings& defaults) {
  PixelSettings out;
  TESSERA_TRY(out.do_rescale, ReadFlag(settings, "do_rescale", defaults.do_rescale));
  TESSERA_TRY(out.rescale_factor, ReadNumber(settings, "rescale_factor", defaults.rescale_factor));
  TESSERA_TRY(out.do_normalize, ReadFlag(settings, "do_normalize", defaults.do_normalize));
  TESSERA_TRY(out.mean, ReadChannels(settings, "image_mean", defaults.mean));
  TESSERA_TRY(out.std, ReadChannels(settings, "image_std", defaults.std));
  for (const double value : out.std) {
    if (out.do_normalize && static_cast<float>(value) == 0) {
      return Invalid("bad value in the image processor's settings",
                     {.field = "image_std", .limit = "not zero", .value = "0"});
    }
  }
  // Settings that change nothing do not change the fingerprint.
  if (!out.do_rescale) out.rescale_factor = defaults.rescale_factor;
  if (!out.do_normalize) {
    out.mean = defaults.mean;
    out.std = defaults.std;
  }
  for (const auto& channel : out.MakeLut()) {
    for (const float value : channel) {
      if (!std::isfinite(value)) {
        return Invalid("the image processor's settings give pixels that are not finite",
                       {.field = "rescale_factor",
                        .limit = "finite pixel values",
                        .value = fmt::format("{}", out.rescale_factor)});
      }
    }
  }
  return out;
}

TileWriter::TileWriter(int tiles_high, int tiles_wide, int tile_height, int tile_width,
                       MediaTier tier)
    : tiles_wide_(tiles_wide),
      tile_height_(tile_height),
      tile_width_(tile_width),
      tier_(tier),
      tiles_(size_t{3} * static_cast<size_t>(tile_height) * static_cast<size_t>(tile_width) *
             static_cast<size_t>(tiles_high) * static_cast<size_t>(tiles_wide)) {}

void TileWriter::Write(int y, const uint8_t* rgb, int width) {
  const size_t plane = static_cast<size_t>(tile_height_) * static_cast<size_t>(tile_width_);
  const int tile_row = y / tile_height_, row = y % tile_height_;
  for (int tile_column = 0; tile_column * tile_width_ < width; ++tile_column) {
    const int columns = std::min(tile_width_, width - tile_column * tile_width_);
    const size_t tile = static_cast<size_t>(tile_row) * static_cast<size_t>(tiles_wide_) +
                        static_cast<size_t>(tile_column);
    uint8_t* red = tiles_.data() + tile * 3 * plane +
                   static_cast<size_t>(row) * static_cast<size_t>(tile_width_);
    SplitChannels(rgb, static_cast<size_t>(columns), red, red + plane, red + 2 * plane, tier_);
    rgb += 3 * static_cast<size_t>(columns);
  }
}

}  // namespace tessera::media
