// Packed weights in a file, so that the next start copies them instead of packing again.
//
// Format: 64 bytes of header (magic "TSRCACHE", u32 version, u32 0, then u64 offset, size and
// checksum of the index), the matrices, each at a multiple of 4096, and the index: a JSON object
// {key, matrices: [{name, n, k, format, layout, offset, bytes, checksum}]}. Numbers are
// little-endian. The key is text: all that the content depends on; a file with another is stale.
//
// A file is written under another name and renamed when complete; a process that finds another one
// writing leaves it alone. Checksums guard against damage, not against malice: who can write the
// file can write the model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"
#include "kernels/backend.h"

namespace tessera {

// 64 bits over all bytes and their number; the same on every machine.
uint64_t Checksum64(std::span<const std::byte> bytes);

// Thread safe: const.
class WeightCacheFile {
 public:
  // NOT_FOUND: there is no such file. INVALID_ARGUMENT: damaged, of another version, or stale.
  static Result<std::unique_ptr<WeightCacheFile>> Open(const std::filesystem::path& path,
                                                       const std::string& key);
  ~WeightCacheFile();
  WeightCacheFile(const WeightCacheFile&) = delete;
  WeightCacheFile& operator=(const WeightCacheFile&) = delete;

  bool Has(const std::string& name) const { return matrices_.contains(name); }
  // A view of the mapping, its checksum held against it. Error: there is none, or it is damaged.
  Result<PackedImage> Read(const std::string& name) const;
  // Gives the pages of a matrix back to the system.
  void Release(const PackedImage& image) const;

 private:
  struct Entry {
    PackedImage image;
    uint64_t checksum = 0;
  };
  explicit WeightCacheFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  Result<void> Parse(const std::string& key);

  const std::span<const std::byte> bytes_;
  std::map<std::string, Entry> matrices_;
};

// Writes all images, or leaves what was there. Error: full disk, read-only directory, another
// process that is writing.
Result<void> WriteWeightCache(const std::filesystem::path& path, const std::string& key,
                              const std::map<std::string, PackedImage>& images);

}  // namespace tessera
