// The JSON header of a safetensors file, read event by event: a hostile header never becomes a tree
// in memory, and every value is checked against the one place where the format allows it.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "model/safetensors.h"

namespace tessera {
namespace {

using nlohmann::json;

// Bits of an element of every dtype the format knows, so that the layout of a file is checked
// whatever it holds.
std::optional<uint64_t> BitsOf(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kBits[] = {
      {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},    {"U8", 8},
      {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
      {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
      {"F32", 32}, {"I64", 64},    {"U64", 64},    {"F64", 64},    {"C64", 64}};
  for (const auto& [name, bits] : kBits) {
    if (name == dtype) return bits;
  }
  return std::nullopt;
}

class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  std::vector<TensorEntry> entries;
  std::string error;  // what is wrong; empty: nothing
  std::string where;  // the tensor it is wrong in

  bool key(std::string& name) override {
    switch (state_) {
      case State::kTop:
        where = name;
        if (!names_.insert(name).second) return Refuse("this name stands twice");
        if (name == "__metadata__") {
          state_ = State::kMetadataValue;
          return true;
        }
        if (entries.size() == kMaxTensors)
          return Refuse(fmt::format("more than {} tensors", kMaxTensors));
        entries.emplace_back().name = name;
        has_dtype_ = has_shape_ = has_offsets_ = false;
        state_ = State::kTensorValue;
        return true;
      case State::kMetadata:
        return metadata_keys_.insert(name).second || Refuse("a metadata key stands twice");
      case State::kTensor:
        if (name == "dtype") return Enter(has_dtype_, State::kDtypeValue);
        if (name == "shape") return Enter(has_shape_, State::kShapeValue);
        if (name == "data_offsets") return Enter(has_offsets_, State::kOffsetsValue);
        return Refuse(fmt::format("unknown key \"{}\"", name.substr(0, 80)));
      default: return Refuse("a key where none may stand");
    }
  }
  bool start_object(std::size_t) override {
    if (state_ == State::kStart) return Go(State::kTop);
    if (state_ == State::kTensorValue) return Go(State::kTensor);
    if (state_ == State::kMetadataValue) return Go(State::kMetadata);
    return Refuse("an object where none may stand");
  }
  bool end_object() override {
    if (state_ == State::kTop) return Go(State::kEnd);
    if (state_ == State::kMetadata) return Go(State::kTop);
    if (!has_dtype_ || !has_shape_ || !has_offsets_)
      return Refuse("dtype, shape or data_offsets is missing");
    return Go(State::kTop);
  }
  bool start_array(std::size_t) override {
    offsets_ = 0;
    if (state_ == State::kShapeValue) return Go(State::kShape);
    if (state_ == State::kOffsetsValue) return Go(State::kOffsets);
    return Refuse("an array where none may stand");
  }
  bool end_array() override {
    if (state_ == State::kOffsets && offsets_ != 2) return Refuse("data_offsets needs two numbers");
    return Go(State::kTensor);
  }
  bool string(std::string& text) override {
    if (state_ == State::kMetadata) return true;
    if (state_ != State::kDtypeValue) return Refuse("a string where none may stand");
    if (!BitsOf(text)) return Refuse(fmt::format("unknown dtype \"{}\"", text.substr(0, 80)));
    entries.back().dtype = text;
    return Go(State::kTensor);
  }
  bool number_unsigned(json::number_unsigned_t value) override {
    if (state_ == State::kShape) {
      if (entries.back().shape.size() == kMaxTensorRank)
        return Refuse(fmt::format("rank above {}", kMaxTensorRank));
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return Refuse("an extent beyond 2^63");
      entries.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ != State::kOffsets) return Refuse("a number where none may stand");
    if (offsets_ == 2) return Refuse("data_offsets needs two numbers");
    (offsets_++ == 0 ? entries.back().begin : entries.back().end) = value;
    return true;
  }
  bool number_integer(json::number_integer_t value) override {
    return Refuse(fmt::format("negative number {}", value));
  }
  bool number_float(json::number_float_t, const std::string&) override {
    return Refuse("a number that is no integer");
  }
  bool null() override { return Refuse("null where a value must stand"); }
  bool boolean(bool) override { return Refuse("a boolean where none may stand"); }
  bool binary(json::binary_t&) override { return Refuse("binary data"); }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& exception) override {
    return Refuse(exception.what());
  }

 private:
  enum class State {
    kStart,
    kTop,
    kMetadataValue,
    kMetadata,
    kTensorValue,
    kTensor,
    kDtypeValue,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kEnd
  };
  bool Go(State next) {
    state_ = next;
    return true;
  }
  bool Enter(bool& seen, State next) {
    if (seen) return Refuse("a key of the tensor stands twice");
    seen = true;
    return Go(next);
  }
  bool Refuse(std::string reason) {
    if (error.empty()) error = std::move(reason);
    return false;
  }

  State state_ = State::kStart;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
  std::unordered_set<std::string> names_, metadata_keys_;
};

// Bytes of a shape, or nothing on overflow or where sub-byte elements do not fill whole bytes.
std::optional<uint64_t> BytesOf(const std::vector<int64_t>& shape, uint64_t bits) {
  uint64_t count = bits;
  for (const int64_t extent : shape) {
    if (__builtin_mul_overflow(count, static_cast<uint64_t>(extent), &count)) return std::nullopt;
  }
  if (count % 8 != 0) return std::nullopt;
  return count / 8;
}

tl::unexpected<Error> BadTensor(std::string_view file, const TensorEntry& entry, std::string limit,
                                std::string value) {
  return Invalid("safetensors: tensor data and shape disagree", {.field = entry.name,
                                                                 .limit = std::move(limit),
                                                                 .value = std::move(value),
                                                                 .detail = std::string(file)});
}

}  // namespace

std::string ShapeAndType(const TensorEntry& entry) {
  return fmt::format("[{}] {}", fmt::join(entry.shape, ", "), entry.dtype);
}

Result<std::vector<TensorEntry>> ParseSafetensorsHeader(std::string_view header,
                                                        uint64_t data_bytes,
                                                        std::string_view file) {
  HeaderReader reader;
  if (!json::sax_parse(header.begin(), header.end(), &reader)) {
    return Invalid("safetensors: bad header",
                   {.field = reader.where, .detail = fmt::format("{}: {}", file, reader.error)});
  }
  std::vector<const TensorEntry*> by_offset;
  by_offset.reserve(reader.entries.size());
  for (const TensorEntry& entry : reader.entries) {
    if (entry.begin > entry.end || entry.end > data_bytes) {
      return BadTensor(file, entry, fmt::format("data_offsets within {} data bytes", data_bytes),
                       fmt::format("[{}, {}]", entry.begin, entry.end));
    }
    const std::optional<uint64_t> bytes = BytesOf(entry.shape, *BitsOf(entry.dtype));
    if (bytes != entry.bytes()) {
      return BadTensor(
          file, entry,
          bytes ? fmt::format("{} bytes for {}", *bytes, ShapeAndType(entry)) : "no overflow",
          fmt::format("{} bytes for {}", entry.bytes(), ShapeAndType(entry)));
    }
    by_offset.push_back(&entry);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorEntry* a, const TensorEntry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t next = 0;
  for (const TensorEntry* entry : by_offset) {
    if (entry->begin != next) {
      return BadTensor(file, *entry, fmt::format("begins at {}, without hole or overlap", next),
                       std::to_string(entry->begin));
    }
    next = entry->end;
  }
  if (next != data_bytes) {
    return Invalid("safetensors: data that belongs to no tensor",
                   {.limit = fmt::format("{} bytes", next),
                    .value = fmt::format("{} bytes", data_bytes),
                    .detail = std::string(file)});
  }
  return std::move(reader.entries);
}

}  // namespace tessera
