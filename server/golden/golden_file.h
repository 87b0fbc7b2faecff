// cases.json and golden.safetensors of one golden (docs/fidelity.md), as files: nothing about
// models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/safetensors.h"

namespace tessera::verify {

class GoldenFile {
 public:
  // Errors name file and key.
  static Result<GoldenFile> Open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  // Keys in the file's order.
  const nlohmann::ordered_json& spec() const { return spec_; }

  bool Has(const std::string& name) const { return tensors_.contains(name); }
  // Of tensors that are there; a dtype that goldens do not have is an error that names the tensor.
  std::vector<int64_t> Shape(const std::string& name) const;
  Result<std::vector<float>> Floats(const std::string& name) const;
  Result<std::vector<int64_t>> Ints(const std::string& name) const;

 private:
  GoldenFile() = default;
  std::filesystem::path directory_;
  nlohmann::ordered_json spec_;
  std::unique_ptr<SafetensorsFile> file_;
  std::map<std::string, const TensorEntry*> tensors_;
};

}  // namespace tessera::verify
