#include "model/weight_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "model/json.h"

namespace tessera {
namespace {

constexpr std::string_view kMagic = "TSRCACHE";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kAlign = 4096, kHeaderBytes = 64, kMaxIndex = 64u << 20;
constexpr WeightFormat kFormats[] = {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16,
                                     WeightFormat::kInt8, WeightFormat::kInt4};

struct Header {
  char magic[8];
  uint32_t version = kVersion;
  uint32_t zero = 0;
  uint64_t index_offset = 0, index_bytes = 0, index_checksum = 0;
  char rest[24] = {};
};
static_assert(sizeof(Header) == kHeaderBytes);

tl::unexpected<Error> Damaged(std::string detail) {
  return Invalid("damaged", {.detail = std::move(detail)});
}

tl::unexpected<Error> SystemFailure(const std::filesystem::path& path, int number) {
  return Fail(number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kInvalidArgument,
              "cannot be used",
              {.detail = fmt::format("{}: {}", path.string(), std::strerror(number))});
}

// Closes, and removes the file under its temporary name unless it was renamed.
class TemporaryFile {
 public:
  TemporaryFile(int fd, std::filesystem::path path) : fd_(fd), path_(std::move(path)) {}
  ~TemporaryFile() {
    if (!kept_) ::unlink(path_.c_str());
    ::close(fd_);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  Result<void> WriteAt(std::span<const std::byte> bytes, uint64_t offset) {
    while (!bytes.empty()) {
      constexpr size_t kPiece = size_t{64} << 20;
      const ssize_t done =
          ::pwrite(fd_, bytes.data(), std::min(bytes.size(), kPiece), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return SystemFailure(path_, done == 0 ? ENOSPC : errno);
      bytes = bytes.subspan(static_cast<size_t>(done));
      offset += static_cast<uint64_t>(done);
    }
    return {};
  }
  Result<void> RenameTo(const std::filesystem::path& path) {
    if (::fdatasync(fd_) != 0 || ::rename(path_.c_str(), path.c_str()) != 0)
      return SystemFailure(path, errno);
    kept_ = true;
    return {};
  }

 private:
  const int fd_;
  const std::filesystem::path path_;
  bool kept_ = false;
};

template <typename T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

uint64_t Checksum64(std::span<const std::byte> bytes) {
  // Four chains of multiply and fold, so that a core reads as fast as memory gives.
  constexpr uint64_t kPrime = 0x9e3779b97f4a7c15u;
  constexpr size_t kLanes = 4, kLine = kLanes * 8;
  std::array<uint64_t, kLanes> lanes = {1, 2, 3, 4};
  const auto mix = [](uint64_t state, uint64_t word) {
    state = (state ^ word) * kPrime;
    return state ^ state >> 32;
  };
  size_t at = 0;
  for (; at + kLine <= bytes.size(); at += kLine) {
    uint64_t words[kLanes];
    std::memcpy(words, bytes.data() + at, kLine);
    for (size_t i = 0; i < kLanes; ++i) lanes[i] = mix(lanes[i], words[i]);
  }
  uint64_t rest[kLanes] = {};
  if (at < bytes.size()) std::memcpy(rest, bytes.data() + at, bytes.size() - at);
  uint64_t sum = bytes.size();
  for (size_t i = 0; i < kLanes; ++i) sum = mix(sum, mix(lanes[i], rest[i]));
  return sum;
}

Result<std::unique_ptr<WeightCacheFile>> WeightCacheFile::Open(const std::filesystem::path& path,
                                                               const std::string& key) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemFailure(path, errno);
  struct stat info {};
  const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  const size_t size = regular ? static_cast<size_t>(info.st_size) : 0;
  void* mapping =
      size >= kHeaderBytes ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  ::close(fd);
  if (mapping == MAP_FAILED) return Damaged("too short, or not a file that can be mapped");
  std::unique_ptr<WeightCacheFile> file(
      new WeightCacheFile({static_cast<const std::byte*>(mapping), size}));
  TESSERA_RETURN_IF_ERROR(file->Parse(key));
  return file;
}

WeightCacheFile::~WeightCacheFile() {
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Result<void> WeightCacheFile::Parse(const std::string& key) {
  Header header;
  std::memcpy(&header, bytes_.data(), sizeof header);
  if (std::string_view(header.magic, sizeof header.magic) != kMagic) return Damaged("no cache");
  if (header.version != kVersion) return Invalid("of another version");
  if (header.index_offset > bytes_.size() || header.index_bytes > kMaxIndex ||
      header.index_bytes != bytes_.size() - header.index_offset)
    return Damaged("cut short");
  const auto index = bytes_.subspan(header.index_offset);
  if (Checksum64(index) != header.index_checksum) return Damaged("index");
  TESSERA_TRY(const Json json,
              ParseJson({reinterpret_cast<const char*>(index.data()), index.size()}, "index"));
  try {
    if (json.at("key").get<std::string>() != key) return Invalid("stale");
    for (const Json& matrix : json.at("matrices")) {
      const auto offset = matrix.at("offset").get<uint64_t>();
      const auto bytes = matrix.at("bytes").get<uint64_t>();
      if (offset > header.index_offset || bytes > header.index_offset - offset)
        return Damaged("a matrix beyond the end");
      Entry entry;
      entry.image.n = matrix.at("n").get<int64_t>();
      entry.image.k = matrix.at("k").get<int64_t>();
      entry.image.layout = matrix.at("layout").get<std::string>();
      entry.image.bytes = bytes_.subspan(offset, bytes);
      entry.checksum = matrix.at("checksum").get<uint64_t>();
      const auto name = matrix.at("format").get<std::string>();
      for (const WeightFormat format : kFormats)
        if (Name(format) == name) entry.image.format = format;
      matrices_[matrix.at("name").get<std::string>()] = std::move(entry);
    }
  } catch (const Json::exception& error) {
    return Damaged(error.what());
  }
  return {};
}

Result<PackedImage> WeightCacheFile::Read(const std::string& name) const {
  const auto found = matrices_.find(name);
  if (found == matrices_.end()) return Damaged(name + " is not there");
  const PackedImage& image = found->second.image;
  const size_t before = reinterpret_cast<uintptr_t>(image.bytes.data()) & (kAlign - 1);
  ::madvise(const_cast<std::byte*>(image.bytes.data()) - before, image.bytes.size() + before,
            MADV_WILLNEED);
  if (Checksum64(image.bytes) != found->second.checksum) return Damaged(name);
  return image;
}

void WeightCacheFile::Release(const PackedImage& image) const {
  // Matrices begin at pages; the last page of one may hold the index's first bytes.
  ::madvise(const_cast<std::byte*>(image.bytes.data()), image.bytes.size() / kAlign * kAlign,
            MADV_DONTNEED);
}

Result<void> WriteWeightCache(const std::filesystem::path& path, const std::string& key,
                              const std::map<std::string, PackedImage>& images) {
  const std::filesystem::path partial = path.string() + ".partial";
  const int fd = ::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
  if (fd < 0) return SystemFailure(partial, errno);
  // The lock of a process that died is gone; one that finished has renamed the file away.
  struct stat ours {
  }, there{};
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0 || ::fstat(fd, &ours) != 0 ||
      ::stat(partial.c_str(), &there) != 0 || ours.st_ino != there.st_ino) {
    ::close(fd);
    return Fail(ErrorCode::kUnavailable, "another process is writing it");
  }
  TemporaryFile file(fd, partial);
  if (::ftruncate(fd, 0) != 0) return SystemFailure(partial, errno);
  uint64_t offset = kAlign;
  Json matrices = Json::array();
  for (const auto& [name, image] : images) {
    TESSERA_RETURN_IF_ERROR(file.WriteAt(image.bytes, offset));
    matrices.push_back({{"name", name},
                        {"n", image.n},
                        {"k", image.k},
                        {"format", std::string(Name(image.format))},
                        {"layout", image.layout},
                        {"offset", offset},
                        {"bytes", image.bytes.size()},
                        {"checksum", Checksum64(image.bytes)}});
    offset = (offset + image.bytes.size() + kAlign - 1) / kAlign * kAlign;
  }
  const std::string index = Json{{"key", key}, {"matrices", std::move(matrices)}}.dump();
  const auto index_bytes = std::as_bytes(std::span(index));
  TESSERA_RETURN_IF_ERROR(file.WriteAt(index_bytes, offset));
  Header header{.index_offset = offset,
                .index_bytes = index.size(),
                .index_checksum = Checksum64(index_bytes)};
  std::memcpy(header.magic, kMagic.data(), sizeof header.magic);
  TESSERA_RETURN_IF_ERROR(file.WriteAt(BytesOf(header), 0));
  return file.RenameTo(path);
}

}  // namespace tessera
