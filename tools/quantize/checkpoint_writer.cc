#include "tools/quantize/checkpoint_writer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace tessera::quantize {
namespace {

using Json = nlohmann::ordered_json;

Result<void> Failed(const std::filesystem::path& path) {
  return Fail(ErrorCode::kResourceExhausted, "the result cannot be written",
              {.field = "out", .value = path.string()});
}

}  // namespace

CheckpointWriter::CheckpointWriter(std::filesystem::path directory,
                                   std::vector<PlannedTensor> tensors, uint64_t shard_bytes)
    : directory_(std::move(directory)), tensors_(std::move(tensors)), shard_begin_{0} {
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (bytes > 0 && bytes + tensors_[i].bytes > shard_bytes) {
      shard_begin_.push_back(i);
      bytes = 0;
    }
    bytes += tensors_[i].bytes;
  }
  shard_begin_.push_back(tensors_.size());
}

uint64_t CheckpointWriter::bytes() const {
  uint64_t sum = 0;
  for (const PlannedTensor& tensor : tensors_) sum += tensor.bytes;
  return sum;
}

std::string CheckpointWriter::FileOf(size_t shard) const {
  const size_t shards = shard_begin_.size() - 1;
  return shards == 1 ? "model.safetensors"
                     : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
}

Result<void> CheckpointWriter::Open() {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t at = 0;
  for (size_t i = shard_begin_[shard_]; i < shard_begin_[shard_ + 1]; ++i) {
    const PlannedTensor& tensor = tensors_[i];
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {at, at + tensor.bytes}}};
    at += tensor.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  file_ = std::ofstream(directory_ / FileOf(shard_), std::ios::binary | std::ios::trunc);
  file_.write(reinterpret_cast<const char*>(&length), sizeof length);
  file_.write(text.data(), static_cast<std::streamsize>(length));
  return file_ ? Result<void>{} : Failed(directory_ / FileOf(shard_));
}

Result<void> CheckpointWriter::Write(std::span<const char> piece) {
  TESSERA_CHECK(tensor_ < tensors_.size(), "checkpoint: more tensors than planned");
  if (written_ == 0 && tensor_ == shard_begin_[shard_]) TESSERA_RETURN_IF_ERROR(Open());
  written_ += piece.size();
  TESSERA_CHECK(written_ <= tensors_[tensor_].bytes, "checkpoint: {}: expected {} bytes, got {}",
                tensors_[tensor_].name, tensors_[tensor_].bytes, written_);
  file_.write(piece.data(), static_cast<std::streamsize>(piece.size()));
  if (!file_) return Failed(directory_ / FileOf(shard_));
  if (written_ < tensors_[tensor_].bytes) return {};
  written_ = 0;
  if (++tensor_ < shard_begin_[shard_ + 1]) return {};
  file_.close();
  if (!file_) return Failed(directory_ / FileOf(shard_));
  ++shard_;
  return {};
}

Result<void> CheckpointWriter::Finish() {
  TESSERA_CHECK(tensor_ == tensors_.size(), "checkpoint: expected {} tensors, got {}",
                tensors_.size(), tensor_);
  if (shard_begin_.size() == 2) return {};
  Json map = Json::object();
  for (size_t shard = 0; shard + 1 < shard_begin_.size(); ++shard)
    for (size_t i = shard_begin_[shard]; i < shard_begin_[shard + 1]; ++i)
      map[tensors_[i].name] = FileOf(shard);
  std::ofstream index(directory_ / "model.safetensors.index.json");
  index << Json{{"metadata", {{"total_size", bytes()}}}, {"weight_map", map}}.dump(1) << '\n';
  return index.flush() ? Result<void>{} : Failed(directory_ / "model.safetensors.index.json");
}

}  // namespace tessera::quantize
