// --image-cases: decoders against decoded.json, image processors against expected.json
// (docs/fidelity.md).
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "media/decode.h"
#include "media/image_processor.h"
#include "tools/verify/cases.h"

namespace tessera::verify {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Bounds of docs/fidelity.md.
constexpr double kPixelBound = 1e-5;
constexpr double kSummaryBound =
    1e-4;  // means and deviations, whose own rounding depends on the order of the sum
constexpr int kDecodedLevels = 3;      // a lossy picture decoded by another library
constexpr int kProcessedLevels = 4;    // the same, after resizing
constexpr double kMostOutside = 0.01;  // of the samples
constexpr double kDecodedMeanBound = 1.0;

std::optional<std::vector<uint8_t>> ReadBytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::vector<uint8_t>(std::istreambuf_iterator<char>(file), {});
}

std::optional<Json> ReadJson(const fs::path& path) {
  const auto bytes = ReadBytes(path);
  if (!bytes) return std::nullopt;
  Json json = Json::parse(bytes->begin(), bytes->end(), nullptr, false);
  if (json.is_discarded()) return std::nullopt;
  return json;
}

// The uint8 tensors of a safetensors file; this tool's own files, so only bounds are checked.
class Uint8Tensors {
 public:
  explicit Uint8Tensors(const fs::path& path) {
    auto bytes = ReadBytes(path);
    if (!bytes || bytes->size() < 8) return;
    uint64_t size;
    std::memcpy(&size, bytes->data(), 8);
    if (size > bytes->size() - 8) return;
    header_ = Json::parse(bytes->begin() + 8, bytes->begin() + 8 + static_cast<int64_t>(size),
                          nullptr, false);
    data_.assign(bytes->begin() + 8 + static_cast<int64_t>(size), bytes->end());
  }
  std::optional<std::span<const uint8_t>> Find(const std::string& key) const {
    if (!header_.is_object() || !header_.contains(key)) return std::nullopt;
    const auto offsets = header_[key].at("data_offsets").get<std::vector<uint64_t>>();
    if (header_[key].at("dtype") != "U8" || offsets.size() != 2 || offsets[0] > offsets[1] ||
        offsets[1] > data_.size()) {
      return std::nullopt;
    }
    return std::span(data_).subspan(offsets[0], offsets[1] - offsets[0]);
  }

 private:
  Json header_;
  std::vector<uint8_t> data_;
};

// A picture of the cases and how it compares with the reference's decoding.
struct Picture {
  Result<DecodedImage> image = Invalid("not decoded yet");
  bool exact = false;   // equal, or lossless: what follows must be exact
  bool grey16 = false;  // Pillow clips these to white; only shapes are compared
};

class ImageCases {
 public:
  ImageCases(fs::path expected_dir, fs::path images_dir, MediaTier tier, Report& report)
      : expected_dir_(std::move(expected_dir)),
        images_dir_(std::move(images_dir)),
        tier_(tier),
        report_(report),
        tensors_(expected_dir_ / "expected_u8.safetensors") {}

  void Run();

 private:
  Picture& Load(const std::string& file);
  void CheckDecoded(const std::string& file, const Json& golden);
  void CheckProcessor(const std::string& name, const Json& golden);
  void CheckProcessed(const ImageProcessor& processor, const std::string& id,
                      const std::string& file, const Json& golden, double level_size);
  void CheckUint8(const ProcessedImage& image, const std::string& id, const std::string& key,
                  bool exact);
  void CheckValues(const ProcessedImage& image, const std::string& id, const Json& golden,
                   bool exact, double level_size);
  // Fails unless `found` is `golden[key]`; a key that is absent is not compared.
  bool Same(const std::string& id, const Json& golden, const char* key, const Json& found);
  void Compare(const std::string& id, const std::string& stage, bool passed, std::string detail);

  const fs::path expected_dir_;
  const fs::path images_dir_;
  const MediaTier tier_;
  Report& report_;
  const Uint8Tensors tensors_;
  Json decoded_;
  DecodeBudget budget_;
  std::map<std::string, Picture> pictures_;
};

bool IsGrey16(const std::vector<uint8_t>& file) {
  return file.size() > 26 && file[0] == 0x89 && file[24] == 16 && file[25] == 0;
}

// The reference is good until the next call.
Picture& ImageCases::Load(const std::string& file) {
  constexpr int64_t kMostKept = int64_t{512} << 20;
  if (budget_.in_use() > kMostKept) pictures_.clear();
  const auto [at, is_new] = pictures_.try_emplace(file);
  Picture& picture = at->second;
  if (!is_new) return picture;
  const auto bytes = ReadBytes(images_dir_ / file);
  if (!bytes) {
    picture.image = Fail(ErrorCode::kNotFound, "picture cannot be read", {.field = file});
    return picture;
  }
  picture.grey16 = IsGrey16(*bytes);
  picture.image = DecodeImage(*bytes, DecodeLimits{}, budget_);
  if (!picture.image) return picture;
  picture.exact = picture.image->format == ImageFormat::kPng;
  const auto golden = decoded_.find(file);
  if (golden != decoded_.end() && golden->contains("crc32_rgb")) {
    const uLong crc =
        crc32(0, picture.image->rgb.data(), static_cast<uInt>(picture.image->rgb.size()));
    picture.exact = picture.exact || crc == golden->at("crc32_rgb").get<uint64_t>() ||
                    golden->value("lossless", false);
  }
  return picture;
}

void ImageCases::Compare(const std::string& id, const std::string& stage, bool passed,
                         std::string detail) {
  if (passed)
    report_.Pass(id, stage, std::move(detail));
  else
    report_.Fail(id, stage, std::move(detail));
}

// Other formats than ours may be refused, by name.
bool RefusedByName(const Error& error) {
  return error.what.view() == "image format is not supported";
}

void ImageCases::CheckDecoded(const std::string& file, const Json& golden) {
  const Picture& picture = Load(file);
  const std::string format = golden.value("format", "");
  if (!picture.image) {
    const bool other = format != "JPEG" && format != "PNG" && format != "WEBP";
    Compare(file, "decoded", other && RefusedByName(picture.image.error()),
            picture.image.error().Describe());
    return;
  }
  const DecodedImage& image = *picture.image;
  if (golden.at("wh") != Json::array({image.width, image.height})) {
    return report_.Fail(
        file, "decoded",
        fmt::format("size {}x{}, expected {}", image.width, image.height, golden.at("wh").dump()));
  }
  if (golden.value("pil_mode", "") == "I;16") return report_.Pass(file, "decoded", "size only");
  const uLong crc = crc32(0, image.rgb.data(), static_cast<uInt>(image.rgb.size()));
  if (!golden.contains("crc32_rgb") || crc == golden["crc32_rgb"].get<uint64_t>())
    return report_.Pass(file, "decoded");
  if (golden.value("lossless", false))
    return report_.Fail(file, "decoded", "samples differ from the reference's");
  std::array<double, 3> sums{};
  for (size_t i = 0; i < image.rgb.size(); ++i) sums[i % 3] += image.rgb[i];
  const double pixels = static_cast<double>(image.rgb.size() / 3);
  double mean_error = 0;
  for (size_t channel = 0; channel < 3 && golden.contains("mean_rgb"); ++channel) {
    mean_error = std::max(
        mean_error, std::fabs(sums[channel] / pixels - golden["mean_rgb"][channel].get<double>()));
  }
  size_t samples = 0, outside = 0;
  if (golden.contains("sample_xy")) {
    const Json& places = golden["sample_xy"];
    for (size_t i = 0; i < places.size(); ++i) {
      const size_t x = places[i][0].get<size_t>(), y = places[i][1].get<size_t>();
      if (x >= static_cast<size_t>(image.width) || y >= static_cast<size_t>(image.height)) continue;
      for (size_t channel = 0; channel < 3; ++channel) {
        const int found = image.rgb[(y * static_cast<size_t>(image.width) + x) * 3 + channel];
        ++samples;
        outside += std::abs(found - golden["sample_rgb"][i][channel].get<int>()) > kDecodedLevels;
      }
    }
  }
  Compare(file, "decoded",
          mean_error <= kDecodedMeanBound &&
              static_cast<double>(outside) <= kMostOutside * static_cast<double>(samples),
          fmt::format("not equal: mean off by {:.3g}, {} of {} samples off by more than {}",
                      mean_error, outside, samples, kDecodedLevels));
}

bool ImageCases::Same(const std::string& id, const Json& golden, const char* key,
                      const Json& found) {
  if (!golden.contains(key) || golden[key] == found) return true;
  report_.Fail(id, key, fmt::format("got {}, expected {}", found.dump(), golden[key].dump()));
  return false;
}

void ImageCases::CheckUint8(const ProcessedImage& image, const std::string& id,
                            const std::string& key, bool exact) {
  const auto golden = tensors_.Find(key);
  if (!golden) return report_.Fail(id, "u8", "no tensor " + key);
  if (golden->size() != image.tiles.size()) {
    return report_.Fail(id, "u8",
                        fmt::format("{} bytes, expected {}", image.tiles.size(), golden->size()));
  }
  size_t outside = 0, different = 0, worst_at = 0;
  int worst = 0;
  for (size_t i = 0; i < golden->size(); ++i) {
    const int error = std::abs(image.tiles[i] - (*golden)[i]);
    different += error > 0;
    outside += error > kProcessedLevels;
    if (error > worst) {
      worst = error;
      worst_at = i;
    }
  }
  const double most = kMostOutside * static_cast<double>(golden->size());
  const bool passed = exact ? different == 0 : static_cast<double>(outside) <= most;
  Compare(id, "u8", passed,
          worst == 0 ? ""
                     : fmt::format("{} of {} differ, worst by {} at {}", different, golden->size(),
                                   worst, worst_at));
}

void ImageCases::CheckValues(const ProcessedImage& image, const std::string& id, const Json& golden,
                             bool exact, double level_size) {
  const std::vector<float> values = image.PixelValues();
  const double bound = exact ? kPixelBound : kProcessedLevels * level_size + kPixelBound;
  size_t outside = 0, compared = 0, worst_at = 0;
  double worst = 0;
  if (golden.contains("index")) {
    for (size_t i = 0; i < golden["index"].size(); ++i) {
      const size_t at = golden["index"][i].get<size_t>();
      if (at >= values.size())
        return report_.Fail(id, "pixel_values", fmt::format("index {} of {}", at, values.size()));
      const double error = std::fabs(values[at] - golden["value"][i].get<double>());
      ++compared;
      outside += !(error <= bound);
      if (!(error <= worst)) {
        worst = error;
        worst_at = at;
      }
    }
  }
  std::string detail = worst == 0 ? "" : fmt::format("worst {:.3g} at {}", worst, worst_at);
  bool passed = exact
                    ? outside == 0
                    : static_cast<double>(outside) <= kMostOutside * static_cast<double>(compared);
  if (exact) {
    double sum = 0, squares = 0;
    float least = values[0], most = values[0];
    for (const float value : values) {
      sum += value;
      least = std::min(least, value);
      most = std::max(most, value);
    }
    const double mean = sum / static_cast<double>(values.size());
    for (const float value : values) squares += (value - mean) * (value - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(values.size()));
    const auto near = [&](const char* key, double found) {
      if (!golden.contains(key)) return;
      const double expected = golden[key].get<double>();
      if (std::fabs(found - expected) <= kSummaryBound * std::max(1.0, std::fabs(expected))) return;
      passed = false;
      detail += fmt::format("; {} is {:.7g}, expected {:.7g}", key, found, expected);
    };
    near("mean", mean);
    near("std", deviation);
    near("min", least);
    near("max", most);
  }
  Compare(id, "pixel_values", passed, std::move(detail));
}

void ImageCases::CheckProcessed(const ImageProcessor& processor, const std::string& id,
                                const std::string& file, const Json& golden, double level_size) {
  const Picture& picture = Load(file);
  const bool either =
      golden.contains("skipped");  // the reference has no answer; any but a crash is right
  if (!picture.image) {
    const bool passed = either || RefusedByName(picture.image.error());
    return Compare(id, "pixel_values", passed, picture.image.error().Describe());
  }
  const DecodedImage& image = *picture.image;
  const auto processed = processor.Process({image.width, image.height, image.rgb});
  if (!processed) return Compare(id, "pixel_values", either, processed.error().Describe());
  if (either) return report_.Pass(id, "pixel_values", "answered");
  const bool tiled = processor.type() == "MllamaImageProcessor";
  Json shape = Json::array({1, 3, processed->tile_height, processed->tile_width});
  if (tiled)
    shape =
        Json::array({1, 1, processed->max_tiles, 3, processed->tile_height, processed->tile_width});
  bool same = Same(id, golden, "shape", shape);
  if (tiled) {
    same &= Same(id, golden, "aspect_ratio_ids",
                 Json::array({Json::array({processed->aspect_ratio_id})}));
    same &= Same(id, golden, "aspect_ratio_mask",
                 Json::array({Json::array({processed->AspectRatioMask()})}));
    same &= Same(id, golden, "num_tiles", Json::array({Json::array({processed->tiles_used()})}));
  }
  if (!same) return;
  if (picture.grey16) return report_.Pass(id, "pixel_values", "shapes only");
  if (golden.contains("u8"))
    CheckUint8(*processed, id, golden["u8"].get<std::string>(), picture.exact);
  CheckValues(*processed, id, golden, picture.exact, level_size);
}

// How far a pixel value moves for one level of uint8.
double LevelSize(const ProcessedImage& image) {
  double size = 0;
  for (const auto& channel : image.lut)
    size = std::max(size, std::fabs(double{channel[1]} - double{channel[0]}));
  return size;
}

void ImageCases::CheckProcessor(const std::string& name, const Json& golden) {
  const std::string config = golden.value("config", "");
  auto settings = ReadJson(expected_dir_ / config);
  if (!settings || !settings->is_object())
    return report_.Fail(name, "config", "cannot read " + config);
  if (settings->contains("image_processor")) settings = Json((*settings)["image_processor"]);
  const std::string hf_class = golden.value("hf_class", "");
  // The class that made the golden is the one to compare with, whatever the file says.
  if (!hf_class.empty()) (*settings)["image_processor_type"] = hf_class;
  const auto processor = MakeImageProcessor(*settings);
  if (!processor) {
    if (processor.error().code == ErrorCode::kUnimplemented)
      return report_.Skip(name, "processor", processor.error().Describe());
    return report_.Fail(name, "processor", processor.error().Describe());
  }
  (*processor)->use_tier(tier_);
  const std::array<uint8_t, 3> pixel{};
  double level_size = 1;
  if (const auto probe = (*processor)->Process({1, 1, pixel})) level_size = LevelSize(*probe);
  for (const auto& [file, image] : golden.at("images").items()) {
    CheckProcessed(**processor, name + "/" + file, file, image, level_size);
  }
}

void ImageCases::Run() {
  const auto decoded = ReadJson(expected_dir_ / "decoded.json");
  const auto expected = ReadJson(expected_dir_ / "expected.json");
  if (!decoded && !expected)
    return report_.Fail("image cases", "read",
                        "neither decoded.json nor expected.json can be read");
  if (decoded) {
    decoded_ = decoded->at("images");
    for (const auto& [file, golden] : decoded_.items()) CheckDecoded(file, golden);
  }
  if (expected) {
    for (const auto& [name, golden] : expected->items()) CheckProcessor(name, golden);
  }
}

}  // namespace

void CheckImageCases(const fs::path& expected_dir, const fs::path& images_dir, MediaTier tier,
                     Report& report) {
  try {
    ImageCases(expected_dir, images_dir, tier, report).Run();
  } catch (const Json::exception& error) {
    report.Fail("image cases", "read",
                fmt::format("a golden file is not of the documented form: {}", error.what()));
  }
}

}  // namespace tessera::verify
