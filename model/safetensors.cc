#include "model/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include "model/json.h"
#include "model/weight_cache.h"

namespace tessera {
namespace {

constexpr size_t kMaxIndexBytes = 16u << 20;
constexpr size_t kMaxShards = 4096;

// A bare file name: what an index may name. "." and ".." have no letter or digit in front.
bool IsPlainFileName(std::string_view name) {
  if (name.empty() || name.size() > 255 || name[0] == '.') return false;
  return name.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
         std::string_view::npos;
}

}  // namespace

Result<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kInvalidArgument,
                "safetensors: file cannot be opened",
                {.detail = fmt::format("{}: {}", path.string(), std::strerror(errno))});
  }
  struct stat info {};
  const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  const size_t size = regular ? static_cast<size_t>(info.st_size) : 0;
  void* mapping = size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0) : nullptr;
  ::close(fd);
  if (!regular) return Invalid("safetensors: not a regular file", {.detail = path.string()});
  if (mapping == MAP_FAILED) {
    return Invalid("safetensors: file cannot be mapped",
                   {.value = fmt::format("{} bytes", size), .detail = path.string()});
  }
  std::unique_ptr<SafetensorsFile> file(
      new SafetensorsFile({static_cast<const std::byte*>(mapping), size}, mapping != nullptr));
  TESSERA_RETURN_IF_ERROR(file->Parse(path.filename().string()));
  const size_t header = size - file->data_bytes();
  file->fingerprint_ =
      fmt::format("{} {} {}.{:09} {:016x}", path.filename().string(), size, info.st_mtim.tv_sec,
                  info.st_mtim.tv_nsec, Checksum64(file->bytes_.first(header)));
  return file;
}

Result<std::unique_ptr<SafetensorsFile>> SafetensorsFile::FromBytes(
    std::span<const std::byte> bytes) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(bytes, false));
  TESSERA_RETURN_IF_ERROR(file->Parse("memory"));
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (mapped_) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Result<void> SafetensorsFile::Parse(std::string_view file) {
  if (bytes_.size() < 8) {
    return Invalid("safetensors: file is too short",
                   {.limit = "at least 8 bytes",
                    .value = fmt::format("{} bytes", bytes_.size()),
                    .detail = std::string(file)});
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | std::to_integer<uint64_t>(bytes_[static_cast<size_t>(i)]);
  if (length > kMaxSafetensorsHeader || length > bytes_.size() - 8) {
    return Invalid("safetensors: header length",
                   {.field = "header length",
                    .limit = fmt::format("{} bytes and the file's {}", kMaxSafetensorsHeader,
                                         bytes_.size() - 8),
                    .value = std::to_string(length),
                    .detail = std::string(file)});
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes_.data()) + 8, length);
  TESSERA_TRY(tensors_, ParseSafetensorsHeader(header, bytes_.size() - 8 - length, file));
  for (TensorEntry& entry : tensors_) entry.data = bytes_.data() + 8 + length + entry.begin;
  return {};
}

void SafetensorsFile::Release(const TensorEntry& entry) const {
  if (!mapped_ || entry.bytes() == 0) return;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(entry.data);
  const size_t skip = (page - begin % page) % page;  // to the first page that holds it alone
  if (entry.bytes() < skip + page) return;
  const size_t length = (entry.bytes() - skip) / page * page;
  ::madvise(const_cast<std::byte*>(entry.data) + skip, length, MADV_DONTNEED);
}

Result<Checkpoint> Checkpoint::Open(const std::filesystem::path& directory) {
  Checkpoint checkpoint;
  const std::filesystem::path single = directory / "model.safetensors";
  std::error_code ignored;
  if (std::filesystem::exists(single, ignored)) {
    TESSERA_TRY(std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(single));
    TESSERA_RETURN_IF_ERROR(checkpoint.AddFile(std::move(file), "model.safetensors"));
    return checkpoint;
  }
  const std::filesystem::path index_path = directory / "model.safetensors.index.json";
  if (!std::filesystem::exists(index_path, ignored)) {
    return Fail(ErrorCode::kNotFound,
                "no weights: neither model.safetensors nor model.safetensors.index.json",
                {.detail = directory.string()});
  }
  TESSERA_TRY(const Json index, ReadJsonFile(index_path, kMaxIndexBytes));
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    return Invalid("safetensors index: weight_map is missing or no object",
                   {.field = "weight_map"});
  }
  std::map<std::string, std::vector<std::string>> shards;  // file -> tensors
  if (map->size() > kMaxTensors) {
    return Invalid("safetensors index: too many tensors", {.field = "weight_map",
                                                           .limit = std::to_string(kMaxTensors),
                                                           .value = std::to_string(map->size())});
  }
  for (const auto& [name, shard] : map->items()) {
    if (!shard.is_string() || !IsPlainFileName(shard.get_ref<const std::string&>())) {
      return Invalid("safetensors index: a shard must be a file name in the same directory",
                     {.field = name, .value = DescribeJson(shard)});
    }
    shards[shard.get<std::string>()].push_back(name);
  }
  if (shards.empty() || shards.size() > kMaxShards) {
    return Invalid("safetensors index: number of shards",
                   {.field = "weight_map",
                    .limit = fmt::format("1..{}", kMaxShards),
                    .value = std::to_string(shards.size())});
  }
  for (const auto& [shard, names] : shards) {
    TESSERA_TRY(std::unique_ptr<SafetensorsFile> file, SafetensorsFile::Open(directory / shard));
    std::set<std::string_view> found;
    for (const TensorEntry& entry : file->tensors()) found.insert(entry.name);
    for (const std::string& name : names) {
      if (found.erase(name) == 0) {
        return Invalid("safetensors index: the shard lacks a tensor",
                       {.field = name, .detail = shard});
      }
    }
    if (!found.empty()) {
      return Invalid(
          "safetensors index: the shard holds a tensor that the index does not place there",
          {.field = std::string(*found.begin()), .detail = shard});
    }
    TESSERA_RETURN_IF_ERROR(checkpoint.AddFile(std::move(file), shard));
  }
  return checkpoint;
}

Result<void> Checkpoint::AddFile(std::unique_ptr<SafetensorsFile> file, std::string_view name) {
  for (const TensorEntry& entry : file->tensors()) {
    if (!by_name_.try_emplace(entry.name, Located{&entry, file.get()}).second) {
      return Invalid("safetensors: a tensor stands in two files",
                     {.field = entry.name, .detail = std::string(name)});
    }
  }
  files_.push_back(std::move(file));
  return {};
}

const TensorEntry* Checkpoint::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second.entry;
}

std::vector<const TensorEntry*> Checkpoint::tensors() const {
  std::vector<const TensorEntry*> all;
  for (const auto& file : files_) {
    for (const TensorEntry& entry : file->tensors()) all.push_back(&entry);
  }
  return all;
}

std::string Checkpoint::fingerprint() const {
  std::string lines;
  for (const auto& file : files_) lines += file->fingerprint() + "\n";
  return lines;
}

void Checkpoint::Release(const TensorEntry& entry) const {
  const auto found = by_name_.find(entry.name);
  if (found != by_name_.end()) found->second.file->Release(entry);
}

}  // namespace tessera
