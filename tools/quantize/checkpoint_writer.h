// Writes a Hugging Face directory tensor by tensor: what a tensor is comes first, its bytes later
// and in order, so that no more than one tensor is held.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace tessera::quantize {

struct PlannedTensor {
  std::string name, dtype;  // "BF16", "I32", ...
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
};

class CheckpointWriter {
 public:
  // Shards of about `shard_bytes`: one is model.safetensors, several have an index. The directory
  // exists and is empty.
  CheckpointWriter(std::filesystem::path directory, std::vector<PlannedTensor> tensors,
                   uint64_t shard_bytes);

  // The next planned tensor's bytes, possibly in several pieces. Error: what the file system says.
  Result<void> Write(std::span<const char> piece);
  // After the last byte: closes the last shard, writes the index.
  Result<void> Finish();

  uint64_t bytes() const;

 private:
  Result<void> Open();  // the shard of the next tensor, with its header
  std::string FileOf(size_t shard) const;

  const std::filesystem::path directory_;
  const std::vector<PlannedTensor> tensors_;
  std::vector<size_t> shard_begin_;  // first tensor of each shard, and the end
  std::ofstream file_;
  size_t shard_ = 0, tensor_ = 0;
  uint64_t written_ = 0;  // of the tensor
};

}  // namespace tessera::quantize
