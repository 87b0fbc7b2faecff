// Strict JSON for the files of a model's directory: duplicate keys, deep nesting, invalid UTF-8 and
// trailing text are errors, and a file is read only up to a size that its kind can honestly have.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tessera {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 32;

// `file` names the text in errors. INVALID_ARGUMENT with the byte offset, and the last key read, of
// what is wrong.
Result<Json> ParseJson(std::string_view text, std::string_view file);

// The whole of a regular file. NOT_FOUND where it does not exist, INVALID_ARGUMENT where it is not
// a regular file, cannot be read, or is larger than `max_bytes`.
Result<std::string> ReadSmallFile(const std::filesystem::path& path, size_t max_bytes);

Result<Json> ReadJsonFile(const std::filesystem::path& path, size_t max_bytes);

// "integer 7", "string \"x\"", "array of 3": a value as an error message shows it.
std::string DescribeJson(const Json& value);

}  // namespace tessera
