#include "model/config_reader.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace tessera {
namespace {

constexpr size_t kMaxEndIds = 1024;

struct NamedActivation {
  std::string_view name;
  Activation activation;
};
// transformers' ACT2FN, as far as the ops go. gelu_new, gelu_fast and gelu_accurate are one
// function written in three ways.
constexpr NamedActivation kActivations[] = {
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"gelu", Activation::kGelu},
    {"gelu_python", Activation::kGelu},
    {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh},
    {"gelu_accurate", Activation::kGeluTanh},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_python_tanh", Activation::kGeluTanh},
    {"quick_gelu", Activation::kQuickGelu},
    {"relu", Activation::kRelu},
    {"linear", Activation::kNone},
};

std::string Range(int64_t low, int64_t high) {
  return fmt::format("an integer in [{}, {}]", low, high);
}

// An integer, also where it is written as 4.0; nothing if it is none or does not fit.
std::optional<int64_t> AsInteger(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::abs(number) < 9e15 && number == std::floor(number))
      return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

}  // namespace

const Json* ObjectReader::Find(std::string_view key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

std::string ObjectReader::Path(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

tl::unexpected<Error> ObjectReader::Wrong(Literal what, std::string_view key,
                                          std::string limit) const {
  const Json* value = Find(key);
  return Invalid(what, {.field = Path(key),
                        .limit = std::move(limit),
                        .value = value == nullptr ? "nothing" : DescribeJson(*value)});
}

Result<int64_t> ObjectReader::Int(std::string_view key, int64_t low, int64_t high,
                                  std::optional<int64_t> absent) const {
  const Json* value = Find(key);
  if (value == nullptr && absent) return *absent;
  const std::optional<int64_t> number = value == nullptr ? std::nullopt : AsInteger(*value);
  if (!number || *number < low || *number > high)
    return Wrong("config: value out of range", key, Range(low, high));
  return *number;
}

Result<double> ObjectReader::Number(std::string_view key, double low, double high,
                                    std::optional<double> absent) const {
  const Json* value = Find(key);
  if (value == nullptr && absent) return *absent;
  // Written so that NaN is out of range
  const bool good = value != nullptr && value->is_number() && value->get<double>() >= low &&
                    value->get<double>() <= high;
  if (!good)
    return Wrong("config: value out of range", key, fmt::format("a number in [{}, {}]", low, high));
  return value->get<double>();
}

Result<std::optional<double>> ObjectReader::OptionalNumber(std::string_view key, double low,
                                                           double high) const {
  if (!Has(key)) return std::nullopt;
  TESSERA_TRY(const double number, Number(key, low, high));
  return number;
}

Result<bool> ObjectReader::Bool(std::string_view key, bool absent) const {
  const Json* value = Find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) return Wrong("config: wrong type", key, "true or false");
  return value->get<bool>();
}

Result<std::string> ObjectReader::String(std::string_view key,
                                         std::optional<std::string> absent) const {
  const Json* value = Find(key);
  if (value == nullptr && absent) return *absent;
  if (value == nullptr || !value->is_string()) return Wrong("config: wrong type", key, "a string");
  return value->get<std::string>();
}

Result<ObjectReader> ObjectReader::Object(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_object()) return Wrong("config: wrong type", key, "an object");
  return ObjectReader(*value, Path(key));
}

Result<std::optional<std::vector<int64_t>>> ObjectReader::IntList(std::string_view key, int64_t low,
                                                                  int64_t high,
                                                                  size_t max_count) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array() || value->size() > max_count) {
    return Wrong("config: wrong type", key,
                 fmt::format("a list of at most {} integers", max_count));
  }
  std::vector<int64_t> list;
  for (const Json& element : *value) {
    const std::optional<int64_t> number = AsInteger(element);
    if (!number || *number < low || *number > high) {
      return Invalid("config: value out of range",
                     {.field = fmt::format("{}[{}]", Path(key), list.size()),
                      .limit = Range(low, high),
                      .value = DescribeJson(element)});
    }
    list.push_back(*number);
  }
  return list;
}

Result<std::vector<int32_t>> ObjectReader::Ids(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::vector<int32_t>{};
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  if (!value->is_array()) {
    TESSERA_TRY(const int64_t id, Int(key, 0, kLargest));
    return std::vector<int32_t>{static_cast<int32_t>(id)};
  }
  TESSERA_TRY(const auto list, IntList(key, 0, kLargest, kMaxEndIds));
  std::vector<int32_t> ids;
  if (list) ids.assign(list->begin(), list->end());
  return ids;
}

Result<Activation> ObjectReader::Act(std::string_view key, std::string_view absent) const {
  TESSERA_TRY(const std::string name, String(key, std::string(absent)));
  std::string known;
  for (const NamedActivation& entry : kActivations) {
    if (entry.name == name) return entry.activation;
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  return Wrong("config: unknown activation", key, "one of " + known);
}

}  // namespace tessera
