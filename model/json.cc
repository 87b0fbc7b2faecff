#include "model/json.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

namespace tessera {
namespace {

// Thrown out of the parser's callback, which has no other way to stop; never leaves ParseJson.
struct Refused {
  std::string reason;
};

}  // namespace

Result<Json> ParseJson(std::string_view text, std::string_view file) {
  std::vector<std::set<std::string>> keys;  // of the open objects
  std::string last_key;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxJsonDepth) throw Refused{fmt::format("nested deeper than {}", kMaxJsonDepth)};
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      last_key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(last_key).second)
        throw Refused{"this key stands twice in one object"};
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Refused& refused) {
    return Invalid("not a valid JSON file",
                   {.field = last_key, .detail = fmt::format("{}: {}", file, refused.reason)});
  } catch (const Json::exception& error) {
    return Invalid("not a valid JSON file",
                   {.field = last_key, .detail = fmt::format("{}: {}", file, error.what())});
  }
}

Result<std::string> ReadSmallFile(const std::filesystem::path& path, size_t max_bytes) {
  // Non-blocking: a FIFO in place of a file must not hang the start.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    if (errno == ENOENT)
      return Fail(ErrorCode::kNotFound, "file not found", {.detail = path.string()});
    return Invalid("file cannot be opened",
                   {.detail = fmt::format("{}: {}", path.string(), std::strerror(errno))});
  }
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return Invalid("not a regular file", {.detail = path.string()});
  }
  if (static_cast<uint64_t>(info.st_size) > max_bytes) {
    return Invalid("file is too large", {.limit = fmt::format("{} bytes", max_bytes),
                                         .value = fmt::format("{} bytes", info.st_size),
                                         .detail = path.string()});
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::read(fd, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Invalid("file cannot be read", {.detail = path.string()});
    done += static_cast<size_t>(count);
  }
  return text;
}

Result<Json> ReadJsonFile(const std::filesystem::path& path, size_t max_bytes) {
  TESSERA_TRY(const std::string text, ReadSmallFile(path, max_bytes));
  return ParseJson(text, path.filename().string());
}

std::string DescribeJson(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return "null";
    case Json::value_t::object: return fmt::format("an object of {}", value.size());
    case Json::value_t::array: return fmt::format("an array of {}", value.size());
    case Json::value_t::string:
      return fmt::format("\"{}\"", value.get_ref<const std::string&>().substr(0, 80));
    case Json::value_t::boolean: return value.get<bool>() ? "true" : "false";
    default: return value.dump();
  }
}

}  // namespace tessera
