#include "media/image_processor.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "media/planes.h"
#include "media/processor_settings.h"

namespace tessera {
namespace {

using media::Json;

struct RegistryRow {
  std::string_view type;
  Result<std::unique_ptr<ImageProcessor>> (*make)(std::string_view type, const Json& settings);
};
constexpr RegistryRow kRegistry[] = {
    {"MllamaImageProcessor", media::MakeMllamaProcessor},
    {"CLIPImageProcessor", media::MakeClipProcessor},
    {"ViTImageProcessor", media::MakeVitProcessor},
};

// What transformers' auto class takes for a model whose settings name no processor.
struct ModelRow {
  std::string_view model_type;
  std::string_view type;
};
constexpr ModelRow kModels[] = {
    {"mllama", "MllamaImageProcessor"},   {"llava", "CLIPImageProcessor"},
    {"clip", "CLIPImageProcessor"},       {"vit", "ViTImageProcessor"},
    {"idefics", "IdeficsImageProcessor"},
};

// A header of a model's settings is a page of text; a file of gigabytes is none.
constexpr std::streamoff kMostBytes = std::streamoff{4} << 20;

std::string_view WithoutSuffix(std::string_view text, std::string_view suffix) {
  if (text.ends_with(suffix)) text.remove_suffix(suffix.size());
  return text;
}

// "CLIPImageProcessorFast", "ViTImageProcessorPil", "CLIPFeatureExtractor" -> "CLIPImageProcessor",
// "ViTImageProcessor".
std::string CanonicalType(std::string_view type) {
  type = WithoutSuffix(WithoutSuffix(type, "Fast"), "Pil");
  if (type.ends_with("FeatureExtractor"))
    return std::string(WithoutSuffix(type, "FeatureExtractor")) + "ImageProcessor";
  return std::string(type);
}

Result<Json> ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) {
    return Fail(ErrorCode::kNotFound, "file cannot be read",
                {.field = path.filename().string(), .detail = path.string()});
  }
  if (size > kMostBytes) {
    return Invalid("file is too large", {.field = path.filename().string(),
                                         .limit = fmt::format("{} bytes", kMostBytes),
                                         .value = fmt::format("{} bytes", size),
                                         .detail = path.string()});
  }
  std::string text(static_cast<size_t>(size), '\0');
  file.seekg(0);
  file.read(text.data(), size);
  // Settings are flat; the callback keeps a hostile file of brackets from nesting without end.
  bool too_deep = false;
  Json json = Json::parse(
      text,
      [&](int depth, Json::parse_event_t, Json&) {
        too_deep |= depth > 32;
        return depth <= 32;
      },
      false);
  if (json.is_discarded() || too_deep || !json.is_object()) {
    return Invalid("file is not a JSON object", {.field = path.filename().string(),
                                                 .limit = "a JSON object",
                                                 .value = "something else",
                                                 .detail = path.string()});
  }
  return json;
}

}  // namespace

std::vector<int64_t> ProcessedImage::AspectRatioMask() const {
  std::vector<int64_t> mask(static_cast<size_t>(max_tiles), 0);
  std::fill_n(mask.begin(), std::min(tiles_used(), max_tiles), 1);
  return mask;
}

void ProcessedImage::PixelValues(std::span<float> out) const {
  const size_t plane = static_cast<size_t>(tile_height) * static_cast<size_t>(tile_width);
  TESSERA_CHECK(out.size() == plane * 3 * static_cast<size_t>(max_tiles), "{} pixel values",
                out.size());
  for (size_t channel = 0; channel * plane < tiles.size(); ++channel) {
    const size_t at = channel * plane;
    media::LookUp(lut[channel % 3], tiles.data() + at, plane, out.data() + at, tier);
  }
  std::fill(out.begin() + static_cast<ptrdiff_t>(tiles.size()), out.end(), 0.0f);
}

std::vector<float> ProcessedImage::PixelValues() const {
  std::vector<float> out(static_cast<size_t>(tile_height) * static_cast<size_t>(tile_width) * 3 *
                         static_cast<size_t>(max_tiles));
  PixelValues(out);
  return out;
}

Result<std::unique_ptr<ImageProcessor>> MakeImageProcessor(const Json& settings,
                                                           std::string_view model_type) {
  if (!settings.is_object()) {
    return Invalid("image processor's settings are not an object",
                   {.field = "preprocessor_config.json", .limit = "a JSON object"});
  }
  std::string type;
  for (const char* key : {"image_processor_type", "feature_extractor_type"}) {
    const auto at = settings.find(key);
    if (!type.empty() || at == settings.end() || at->is_null()) continue;
    if (!at->is_string()) {
      return Invalid("bad value in the image processor's settings",
                     {.field = key, .limit = "a text", .value = at->dump()});
    }
    type = CanonicalType(at->get<std::string>());
  }
  if (type.empty()) {
    for (const ModelRow& row : kModels) {
      if (row.model_type == model_type) type = row.type;
    }
  }
  std::string known;
  for (const RegistryRow& row : kRegistry) {
    if (row.type == type) return row.make(row.type, settings);
    known += known.empty() ? "" : ", ";
    known += row.type;
  }
  return Fail(
      ErrorCode::kUnimplemented, "image processor is unknown",
      {.field = "image_processor_type", .limit = known, .value = type.empty() ? "none" : type});
}

Result<std::unique_ptr<ImageProcessor>> LoadImageProcessor(const std::filesystem::path& model_dir) {
  std::error_code ignored;
  std::string model_type;
  if (std::filesystem::exists(model_dir / "config.json", ignored)) {
    TESSERA_TRY(const Json config, ReadJson(model_dir / "config.json"));
    const auto at = config.find("model_type");
    if (at != config.end() && at->is_string()) model_type = at->get<std::string>();
  }
  if (std::filesystem::exists(model_dir / "processor_config.json", ignored)) {
    TESSERA_TRY(const Json config, ReadJson(model_dir / "processor_config.json"));
    const auto at = config.find("image_processor");
    if (at != config.end() && !at->is_null()) return MakeImageProcessor(*at, model_type);
  }
  if (!std::filesystem::exists(model_dir / "preprocessor_config.json", ignored)) {
    return Fail(ErrorCode::kNotFound, "model directory has no image processor's settings",
                {.field = "preprocessor_config.json",
                 .limit = "preprocessor_config.json, or processor_config.json with image_processor",
                 .detail = model_dir.string()});
  }
  TESSERA_TRY(const Json settings, ReadJson(model_dir / "preprocessor_config.json"));
  return MakeImageProcessor(settings, model_type);
}

std::vector<std::string_view> ImageProcessorTypes() {
  std::vector<std::string_view> types;
  for (const RegistryRow& row : kRegistry) types.push_back(row.type);
  return types;
}

}  // namespace tessera
