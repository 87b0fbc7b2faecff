// Reads checked values out of a JSON object. Every error names the JSON path, what was allowed and
// what was found.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/ops.h"
#include "model/json.h"

namespace tessera {

// A view of one object; the Json must outlive it. A key with the value null counts as absent, as in
// Hugging Face's files.
class ObjectReader {
 public:
  // `path` is "" for the root, else "text_config".
  ObjectReader(const Json& object, std::string path) : object_(&object), path_(std::move(path)) {}

  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  const Json* Find(std::string_view key) const;
  std::string Path(std::string_view key) const;

  // Absent without a default: "missing".
  Result<int64_t> Int(std::string_view key, int64_t low, int64_t high,
                      std::optional<int64_t> absent = {}) const;
  Result<double> Number(std::string_view key, double low, double high,
                        std::optional<double> absent = {}) const;
  Result<std::optional<double>> OptionalNumber(std::string_view key, double low, double high) const;
  Result<bool> Bool(std::string_view key, bool absent) const;
  Result<std::string> String(std::string_view key, std::optional<std::string> absent = {}) const;
  // The object under `key`; absent: error.
  Result<ObjectReader> Object(std::string_view key) const;
  // A list of at most `max_count` integers. Absent: nullopt.
  Result<std::optional<std::vector<int64_t>>> IntList(std::string_view key, int64_t low,
                                                      int64_t high, size_t max_count) const;
  // One id or a list of ids; absent: empty.
  Result<std::vector<int32_t>> Ids(std::string_view key) const;
  Result<Activation> Act(std::string_view key, std::string_view absent) const;

  tl::unexpected<Error> Wrong(Literal what, std::string_view key, std::string limit) const;

 private:
  const Json* object_;
  std::string path_;
};

}  // namespace tessera
