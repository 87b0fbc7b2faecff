// A golden as make_golden.py writes it (docs/fidelity.md), read for tests of the model alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/batch.h"
#include "model/safetensors.h"

namespace tessera::test {

struct GoldenCase {
  std::string id;
  std::vector<int32_t> input_ids;   // [T]
  int images = 0, tiles = 0;        // tiles: of the model
  std::vector<int64_t> cross_mask;  // [T, images, tiles]
  std::vector<MediaPixels>
      pixels;  // one an image; empty where no case of the golden keeps its pixel_values
  bool seen(size_t row, int image) const;  // whether a prompt row sees the picture
};

class Golden {
 public:
  static Result<std::unique_ptr<Golden>> Open(const std::filesystem::path& directory);

  const std::vector<GoldenCase>& cases() const { return cases_; }
  int max_new_tokens() const { return max_new_tokens_; }
  bool unseen_zero() const { return unseen_zero_; }

  bool Has(const std::string& name) const { return file_tensors_.contains(name); }
  std::vector<int64_t> Shape(const std::string& name) const;
  std::vector<float> Floats(const std::string& name) const;
  std::vector<int64_t> Ints(const std::string& name) const;

 private:
  Result<void> ReadCases(const std::filesystem::path& directory);
  void ReadPixels(GoldenCase& c) const;
  void SharePixels(const std::vector<std::vector<std::string>>& paths);

  std::unique_ptr<SafetensorsFile> file_;
  std::map<std::string, const TensorEntry*> file_tensors_;
  std::vector<GoldenCase> cases_;
  int max_new_tokens_ = 0;
  bool unseen_zero_ = false;
};

}  // namespace tessera::test
