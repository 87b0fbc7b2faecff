// Reads safetensors checkpoints: one file, or shards with an index. Own reader over a read-only
// mapping.
//
// Format (huggingface/safetensors, "Format"): u64 little-endian length of the header; the header, a
// JSON object {name: {dtype, shape, data_offsets: [begin, end)}, "__metadata__": {string: string}};
// then the data. Offsets count from the end of the header. What this reader demands of a file:
//  1. the header is at most 16 MiB, lies in the file, names at most 100,000 tensors of rank at most
//  8, no name twice;
//  2. end - begin == product of the shape x size of the dtype, computed without overflow;
//  3. the tensors cover the data from its first byte to its last, without holes and without
//  overlaps.
// Data may start at any byte: nothing is read through a typed pointer.
//
// Immutable after Open; any thread may read. Reading pages of a file that another process truncates
// is not defended.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"

namespace tessera {

inline constexpr size_t kMaxSafetensorsHeader = 16u << 20;
inline constexpr size_t kMaxTensors = 100'000;
inline constexpr size_t kMaxTensorRank = 8;

struct TensorEntry {
  std::string name;
  std::string dtype;  // as the file writes it: "F32", "BF16", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes, from the start of the data
  uint64_t end = 0;
  const std::byte* data = nullptr;  // in the mapping; unaligned

  uint64_t bytes() const { return end - begin; }
};

// "[4, 16] BF16"
std::string ShapeAndType(const TensorEntry& entry);

// Checks a header against the number of data bytes that follow it. Entries have no data pointer
// yet. `file` names it in errors.
Result<std::vector<TensorEntry>> ParseSafetensorsHeader(std::string_view header,
                                                        uint64_t data_bytes, std::string_view file);

class SafetensorsFile {
 public:
  static Result<std::unique_ptr<SafetensorsFile>> Open(const std::filesystem::path& path);
  // The same checks over bytes in memory, which must outlive the result (fuzzing, tests).
  static Result<std::unique_ptr<SafetensorsFile>> FromBytes(std::span<const std::byte> bytes);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  // Name, size, time of the last change and header in one line: another file has another.
  const std::string& fingerprint() const { return fingerprint_; }
  // Gives the pages that lie wholly inside the tensor back to the system; they can be read again
  // from the file.
  void Release(const TensorEntry& entry) const;

 private:
  SafetensorsFile(std::span<const std::byte> bytes, bool mapped) : bytes_(bytes), mapped_(mapped) {}
  Result<void> Parse(std::string_view file);
  uint64_t data_bytes() const {  // the tensors cover the data
    uint64_t end = 0;
    for (const TensorEntry& entry : tensors_) end = end > entry.end ? end : entry.end;
    return end;
  }

  const std::span<const std::byte> bytes_;
  const bool mapped_;
  std::vector<TensorEntry> tensors_;
  std::string fingerprint_;
};

// All tensors of a model's directory: `model.safetensors` if it is there, else the shards that
// `model.safetensors.index.json` lists. Shard names may not leave the directory, and index and
// shards must agree.
class Checkpoint {
 public:
  static Result<Checkpoint> Open(const std::filesystem::path& directory);

  const TensorEntry* Find(std::string_view name) const;  // null where there is none
  std::vector<const TensorEntry*> tensors() const;       // by file, in file order
  void Release(const TensorEntry& entry) const;
  std::string fingerprint() const;  // of all files, a line each

 private:
  struct Located {
    const TensorEntry* entry = nullptr;
    const SafetensorsFile* file = nullptr;
  };
  Result<void> AddFile(std::unique_ptr<SafetensorsFile> file, std::string_view name);

  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::unordered_map<std::string_view, Located> by_name_;
};

}  // namespace tessera
