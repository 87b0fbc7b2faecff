#include "server/wire/scan.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <array>
#include <string>

#include "text/utf8.h"

namespace tessera {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr int kMaxDepth = 16;
constexpr int kMaxFieldNumber =
    64;  // of messages that have repeated fields; for the index in a path

bool IsString(const FieldDescriptor& field) { return field.type() == FieldDescriptor::TYPE_STRING; }

class Scanner {
 public:
  Scanner(CodedInputStream& in, const ScanLimits& limits)
      : in_(in), left_(limits), limits_(limits) {}

  Result<void> Message(const Descriptor& type, const std::string& path, int depth) {
    if (depth > kMaxDepth) return Invalid("the message is nested too deeply", {.field = path});
    std::array<uint32_t, kMaxFieldNumber> seen{};  // elements of each repeated field so far
    while (const uint32_t tag = in_.ReadTag()) {
      const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
      const auto wire = WireFormatLite::GetTagWireType(tag);
      if (field == nullptr || wire != WireTypeOf(*field)) {
        if (field != nullptr && field->is_packable() &&
            wire == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
          TESSERA_RETURN_IF_ERROR(Packed(*field, PathOf(path, *field, -1)));
          continue;
        }
        // The parser keeps unknown fields, at many times their size; groups do not exist in proto3.
        if (wire == WireFormatLite::WIRETYPE_START_GROUP ||
            wire == WireFormatLite::WIRETYPE_END_GROUP)
          return Malformed(path);
        if (--left_.elements < 0) {
          return Invalid("too many unknown fields",
                         {.field = path, .limit = std::to_string(limits_.elements)});
        }
        if (!WireFormatLite::SkipField(&in_, tag)) return Malformed(path);
        continue;
      }
      int64_t index = -1;
      if (field->is_repeated()) {
        if (field->number() < kMaxFieldNumber) index = seen[static_cast<size_t>(field->number())]++;
        TESSERA_RETURN_IF_ERROR(CountElement(*field, path));
      }
      if (wire == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
        TESSERA_RETURN_IF_ERROR(Delimited(*field, PathOf(path, *field, index), depth));
      } else if (!WireFormatLite::SkipField(&in_, tag)) {
        return Malformed(PathOf(path, *field, index));
      }
    }
    if (!in_.ConsumedEntireMessage()) return Malformed(path);
    return {};
  }

 private:
  static WireFormatLite::WireType WireTypeOf(const FieldDescriptor& field) {
    return WireFormatLite::WireTypeForFieldType(
        static_cast<WireFormatLite::FieldType>(field.type()));
  }
  static std::string PathOf(const std::string& path, const FieldDescriptor& field, int64_t index) {
    std::string out = path.empty() ? field.name() : path + "." + field.name();
    if (index >= 0 && !field.is_map()) out += fmt::format("[{}]", index);
    return out;
  }
  static tl::unexpected<Error> Malformed(const std::string& path) {
    return Invalid("the request is not a well-formed protocol buffer message", {.field = path});
  }

  Result<void> CountElement(const FieldDescriptor& field, const std::string& path) {
    if (--left_.elements >= 0) return {};
    return Invalid("too many elements",
                   {.field = PathOf(path, field, -1), .limit = std::to_string(limits_.elements)});
  }

  Result<void> Delimited(const FieldDescriptor& field, const std::string& path, int depth) {
    uint32_t length = 0;
    if (!in_.ReadVarint32(&length) || length > static_cast<uint32_t>(kIntMax))
      return Malformed(path);
    const int size = static_cast<int>(length);
    if (field.type() == FieldDescriptor::TYPE_MESSAGE) {
      if (--left_.submessages < 0) {
        return Invalid("too many messages",
                       {.field = path, .limit = std::to_string(limits_.submessages)});
      }
      if (in_.BytesUntilLimit() >= 0 && size > in_.BytesUntilLimit()) return Malformed(path);
      const auto outer = in_.PushLimit(size);
      TESSERA_RETURN_IF_ERROR(Message(*field.message_type(), path, depth + 1));
      if (in_.BytesUntilLimit() != 0) return Malformed(path);  // it was shorter than it said
      in_.PopLimit(outer);
      return {};
    }
    if (!IsString(field)) {
      if (!in_.Skip(size)) return Malformed(path);
      return {};
    }
    left_.string_bytes -= size;
    if (left_.string_bytes < 0) {
      return Invalid(
          "too much text",
          {.field = path, .limit = fmt::format("{} bytes in all", limits_.string_bytes)});
    }
    if (!in_.ReadString(&text_, size)) return Malformed(path);
    if (!IsValidUtf8(text_))
      return Invalid("text is not valid UTF-8", {.field = path, .limit = "UTF-8"});
    return {};
  }

  Result<void> Packed(const FieldDescriptor& field, const std::string& path) {
    uint32_t length = 0;
    if (!in_.ReadVarint32(&length) || length > static_cast<uint32_t>(kIntMax))
      return Malformed(path);
    if (in_.BytesUntilLimit() >= 0 && static_cast<int>(length) > in_.BytesUntilLimit())
      return Malformed(path);
    const auto outer = in_.PushLimit(static_cast<int>(length));
    const uint32_t element_tag = WireFormatLite::MakeTag(field.number(), WireTypeOf(field));
    while (in_.BytesUntilLimit() > 0) {
      if (--left_.elements < 0)
        return Invalid("too many elements",
                       {.field = path, .limit = std::to_string(limits_.elements)});
      if (!WireFormatLite::SkipField(&in_, element_tag)) return Malformed(path);
    }
    in_.PopLimit(outer);
    return {};
  }

  static constexpr int kIntMax = 0x7fffffff;
  CodedInputStream& in_;
  ScanLimits left_;
  const ScanLimits limits_;
  std::string text_;  // one string field at a time
};

}  // namespace

Result<void> ScanMessage(const Payload& payload, const Descriptor& type, const ScanLimits& limits) {
  const auto stream = payload.Open();
  CodedInputStream in(stream.get());
  const auto outer = in.PushLimit(static_cast<int>(payload.size()));
  Scanner scanner(in, limits);
  auto result = scanner.Message(type, "", 0);
  in.PopLimit(outer);
  return result;
}

}  // namespace tessera
