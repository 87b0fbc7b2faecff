#include "tests/model/golden_data.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"
#include "model/json.h"

namespace tessera::test {
namespace {

template <typename T>
std::vector<T> Read(const TensorEntry& entry, std::string_view dtype) {
  TESSERA_CHECK(entry.dtype == dtype, "golden {}: expected {}, got {}", entry.name, dtype,
                entry.dtype);
  std::vector<T> values(entry.bytes() / sizeof(T));
  std::memcpy(values.data(), entry.data, entry.bytes());
  return values;
}

}  // namespace

bool GoldenCase::seen(size_t row, int image) const {
  const auto* mask =
      cross_mask.data() +
      (row * static_cast<size_t>(images) + static_cast<size_t>(image)) * static_cast<size_t>(tiles);
  return std::any_of(mask, mask + tiles, [](int64_t bit) { return bit != 0; });
}

Result<std::unique_ptr<Golden>> Golden::Open(const std::filesystem::path& directory) {
  auto golden = std::make_unique<Golden>();
  TESSERA_TRY(golden->file_, SafetensorsFile::Open(directory / "golden.safetensors"));
  for (const TensorEntry& entry : golden->file_->tensors())
    golden->file_tensors_[entry.name] = &entry;
  TESSERA_RETURN_IF_ERROR(golden->ReadCases(directory));
  return golden;
}

std::vector<int64_t> Golden::Shape(const std::string& name) const {
  return file_tensors_.at(name)->shape;
}
std::vector<float> Golden::Floats(const std::string& name) const {
  return Read<float>(*file_tensors_.at(name), "F32");
}
std::vector<int64_t> Golden::Ints(const std::string& name) const {
  return Read<int64_t>(*file_tensors_.at(name), "I64");
}

Result<void> Golden::ReadCases(const std::filesystem::path& directory) {
  TESSERA_TRY(const Json spec, ReadJsonFile(directory / "cases.json", 16u << 20));
  max_new_tokens_ = spec.at("max_new_tokens").get<int>();
  unseen_zero_ = spec.value("unseen_rows", "attend") == "zero";
  std::vector<std::vector<std::string>> paths;  // of each case's pictures
  for (const Json& json : spec.at("cases")) {
    paths.push_back(json.value("images", std::vector<std::string>{}));
    GoldenCase c{.id = json.at("id").get<std::string>()};
    for (const int64_t id : Ints(c.id + ".input_ids"))
      c.input_ids.push_back(static_cast<int32_t>(id));
    if (Has(c.id + ".cross_attention_mask")) {
      const std::vector<int64_t> shape = Shape(c.id + ".cross_attention_mask");
      c.images = static_cast<int>(shape[1]);
      c.tiles = static_cast<int>(shape[2]);
      c.cross_mask = Ints(c.id + ".cross_attention_mask");
      if (Has(c.id + ".pixel_values")) ReadPixels(c);
    }
    cases_.push_back(std::move(c));
  }
  SharePixels(paths);
  return {};
}

// A golden may keep pixel_values for some cases only; the same picture has the same pixels in the
// others.
void Golden::SharePixels(const std::vector<std::vector<std::string>>& paths) {
  std::map<std::string, const MediaPixels*> known;
  for (size_t i = 0; i < cases_.size(); ++i) {
    for (size_t image = 0; image < cases_[i].pixels.size(); ++image)
      known[paths[i][image]] = &cases_[i].pixels[image];
  }
  for (size_t i = 0; i < cases_.size(); ++i) {
    GoldenCase& c = cases_[i];
    if (!c.pixels.empty() || c.images == 0) continue;
    std::vector<MediaPixels> shared;
    for (const std::string& path : paths[i]) {
      if (known.contains(path)) shared.push_back(*known[path]);
    }
    if (shared.size() == static_cast<size_t>(c.images)) c.pixels = std::move(shared);
  }
}

// The golden has the pixels after normalisation; the model takes levels and a table of their
// values. At most 256 different values stand in a channel, and any order of them is a table.
void Golden::ReadPixels(GoldenCase& c) const {
  const std::vector<int64_t> shape = Shape(c.id + ".pixel_values");  // [images, tiles, 3, H, W]
  const std::vector<float> values = Floats(c.id + ".pixel_values");
  const std::vector<int64_t> ids = Ints(c.id + ".aspect_ratio_ids"),
                             mask = Ints(c.id + ".aspect_ratio_mask");
  const auto plane = static_cast<size_t>(shape[3] * shape[4]);
  for (int image = 0; image < c.images; ++image) {
    MediaPixels pixels{.height = static_cast<int>(shape[3]), .width = static_cast<int>(shape[4])};
    pixels.aspect_ratio_id = static_cast<int>(ids[static_cast<size_t>(image)]);
    for (int tile = 0; tile < c.tiles; ++tile)
      pixels.used_tiles += mask[static_cast<size_t>(image * c.tiles + tile)] != 0;
    const float* from = values.data() + static_cast<size_t>(image * c.tiles) * 3 * plane;
    pixels.tiles.resize(static_cast<size_t>(pixels.used_tiles) * 3 * plane);
    for (size_t channel = 0; channel < 3; ++channel) {
      std::set<float> distinct;
      for (int tile = 0; tile < pixels.used_tiles; ++tile) {
        const float* at = from + (static_cast<size_t>(tile) * 3 + channel) * plane;
        distinct.insert(at, at + plane);
      }
      TESSERA_CHECK(distinct.size() <= 256, "golden {}: {} pixel values in a channel", c.id,
                    distinct.size());
      std::copy(distinct.begin(), distinct.end(), pixels.lut[channel].begin());
      for (int tile = 0; tile < pixels.used_tiles; ++tile) {
        const size_t at = (static_cast<size_t>(tile) * 3 + channel) * plane;
        for (size_t i = 0; i < plane; ++i) {
          pixels.tiles[at + i] =
              static_cast<uint8_t>(std::distance(distinct.begin(), distinct.find(from[at + i])));
        }
      }
    }
    c.pixels.push_back(std::move(pixels));
  }
}

}  // namespace tessera::test
