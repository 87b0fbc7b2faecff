#include "server/golden/golden_file.h"

#include <cstring>

#include "base/check.h"
#include "model/json.h"

namespace tessera::verify {

Result<GoldenFile> GoldenFile::Open(const std::filesystem::path& directory) {
  GoldenFile golden;
  golden.directory_ = directory;
  const std::filesystem::path cases = directory / "cases.json";
  TESSERA_TRY(const std::string text, ReadSmallFile(cases, 64u << 20));
  golden.spec_ = nlohmann::ordered_json::parse(text, nullptr, false);
  if (!golden.spec_.is_object() || !golden.spec_.contains("cases") ||
      !golden.spec_["cases"].is_array()) {
    return Invalid("this is no list of golden cases", {.field = "cases", .detail = cases.string()});
  }
  TESSERA_TRY(golden.file_, SafetensorsFile::Open(directory / "golden.safetensors"));
  for (const TensorEntry& entry : golden.file_->tensors()) golden.tensors_[entry.name] = &entry;
  return golden;
}

std::vector<int64_t> GoldenFile::Shape(const std::string& name) const {
  return tensors_.at(name)->shape;
}

Result<std::vector<float>> GoldenFile::Floats(const std::string& name) const {
  const TensorEntry& entry = *tensors_.at(name);
  if (entry.dtype != "F32")
    return Invalid("a golden tensor has another type",
                   {.field = name, .limit = "F32", .value = entry.dtype});
  std::vector<float> values(entry.bytes() / sizeof(float));
  std::memcpy(values.data(), entry.data, values.size() * sizeof(float));
  return values;
}

Result<std::vector<int64_t>> GoldenFile::Ints(const std::string& name) const {
  const TensorEntry& entry = *tensors_.at(name);
  if (entry.dtype != "I64")
    return Invalid("a golden tensor has another type",
                   {.field = name, .limit = "I64", .value = entry.dtype});
  std::vector<int64_t> values(entry.bytes() / sizeof(int64_t));
  std::memcpy(values.data(), entry.data, values.size() * sizeof(int64_t));
  return values;
}

}  // namespace tessera::verify
