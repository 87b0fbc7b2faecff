// Any bytes as a file of packed weights, and any text as the index of one whose checksums are
// right: an error, or matrices that lie in the file and that a backend takes or refuses.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "base/check.h"
#include "kernels/factory.h"
#include "model/json.h"
#include "model/weight_cache.h"

using namespace tessera;  // NOLINT(google-build-using-namespace): a file of few functions

namespace {

constexpr size_t kFirstMatrix = 4096, kMatrixBytes = 8192;

// A file of these bytes with a name, in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(::memfd_create("cache", MFD_CLOEXEC)) {
    TESSERA_CHECK(
        fd_ >= 0 && ::write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
        "cannot write {} bytes", bytes.size());
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }

 private:
  const int fd_;
};

Backend& TheBackend() {
  static const std::unique_ptr<Backend> backend =
      std::move(MakeBackend({.device = "cpu", .cpu_isa = "reference", .threads = 1}).value());
  return *backend;
}

std::string MatrixBytes() {
  std::string bytes(kMatrixBytes, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i % 100);
  return bytes;
}

// The text as the index of a file that holds one stretch of bytes. Where it is an index, each
// checksum in it is made right, so that what follows the checksums is reached.
std::string FileOfIndex(std::string_view text) {
  const std::string matrix = MatrixBytes();
  std::string index(text);
  if (auto json = ParseJson(text, "index");
      json && json->is_object() && json->contains("matrices") && (*json)["matrices"].is_array()) {
    for (Json& entry : (*json)["matrices"]) {
      if (!entry.is_object() || !entry.contains("offset") || !entry.contains("bytes")) continue;
      const Json offset = entry["offset"], bytes = entry["bytes"];
      if (!offset.is_number_unsigned() || !bytes.is_number_unsigned()) continue;
      const auto at = offset.get<uint64_t>(), size = bytes.get<uint64_t>();
      if (at < kFirstMatrix || at > kFirstMatrix + kMatrixBytes) continue;
      if (size > kFirstMatrix + kMatrixBytes - at) continue;
      entry["checksum"] = Checksum64(std::as_bytes(std::span(matrix).subspan(
          static_cast<size_t>(at - kFirstMatrix), static_cast<size_t>(size))));
    }
    index = json->dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  const uint32_t words[] = {1, 0};
  const uint64_t numbers[] = {kFirstMatrix + kMatrixBytes, index.size(),
                              Checksum64(std::as_bytes(std::span(index)))};
  std::string file(kFirstMatrix, '\0');
  std::memcpy(file.data(), "TSRCACHE", 8);
  std::memcpy(file.data() + 8, words, sizeof words);
  std::memcpy(file.data() + 16, numbers, sizeof numbers);
  return file + matrix + index;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const MemoryFile file(text.starts_with("{") ? FileOfIndex(text) : std::string(text));
  const auto cache = WeightCacheFile::Open(file.path(), "fuzz");
  if (!cache) {
    TESSERA_CHECK(cache.error().code == ErrorCode::kInvalidArgument, "{}",
                  cache.error().Describe());
    return 0;
  }
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    const auto image = (*cache)->Read(name);
    if (!image) continue;
    const auto matrix = TheBackend().Restore(*image);
    if (matrix) {
      TESSERA_CHECK((*matrix)->n() == image->n && (*matrix)->k() == image->k &&
                        (*matrix)->bytes() == image->bytes.size(),
                    "{}: {} x {} of {} bytes", name, image->n, image->k, image->bytes.size());
    } else {
      TESSERA_CHECK(matrix.error().code == ErrorCode::kInvalidArgument, "{}",
                    matrix.error().Describe());
    }
    (*cache)->Release(*image);
  }
  return 0;
}
