#include "server/wire/status_map.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>

#include "tessera/v1/tessera.pb.h"

namespace tessera {
namespace {

constexpr size_t kMaxSlotBytes = 120;
constexpr std::chrono::milliseconds kPushback{1000};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Every name of a field or oneof in our protos.
std::set<std::string, std::less<>> ProtoNames() {
  std::set<std::string, std::less<>> names;
  const auto* file = tessera::v1::GenerateRequest::descriptor()->file();
  for (int m = 0; m < file->message_type_count(); ++m) {
    const auto* message = file->message_type(m);
    for (int f = 0; f < message->field_count(); ++f) names.insert(message->field(f)->name());
    for (int o = 0; o < message->oneof_decl_count(); ++o)
      names.insert(message->oneof_decl(o)->name());
  }
  return names;
}

// Words that a value may be: what numbers print as, and the formats that are refused by name.
constexpr std::array<std::string_view, 24> kWords = {
    "nan", "-nan", "inf",  "-inf", "JPEG", "PNG",  "WEBP",    "WebP",
    "GIF", "BMP",  "TIFF", "HEIC", "HEIF", "AVIF", "JPEG XL", "JPEG 2000",
    "ICO", "PSD",  "PDF",  "SVG",  "TGA",  "PNM",  "unknown", "empty"};

}  // namespace

int GrpcCode(ErrorCode code) {
  switch (code) {
    case ErrorCode::kCancelled: return 1;
    case ErrorCode::kInvalidArgument: return 3;
    case ErrorCode::kDeadlineExceeded: return 4;
    case ErrorCode::kNotFound: return 5;
    case ErrorCode::kPermissionDenied: return 7;
    case ErrorCode::kResourceExhausted: return 8;
    case ErrorCode::kUnimplemented: return 12;
    case ErrorCode::kInternal: return 13;
    case ErrorCode::kUnavailable: return 14;
    case ErrorCode::kUnauthenticated: return 16;
  }
  return 13;
}

bool IsProtoPath(std::string_view field) {
  static const auto& names = *new std::set<std::string, std::less<>>(ProtoNames());
  if (field.empty() || field.size() > kMaxSlotBytes) return false;
  while (true) {
    const size_t dot = field.find('.');
    std::string_view part = field.substr(0, dot);
    if (const size_t bracket = part.find('['); bracket != std::string_view::npos) {
      const std::string_view index = part.substr(bracket + 1);
      if (index.size() < 2 || index.back() != ']') return false;
      if (!std::all_of(index.begin(), index.end() - 1, IsDigit)) return false;
      part = part.substr(0, bracket);
    }
    if (names.find(part) == names.end()) return false;
    if (dot == std::string_view::npos) return true;
    field.remove_prefix(dot + 1);
  }
}

bool IsSafeValue(std::string_view value) {
  if (value.empty() || value.size() > kMaxSlotBytes) return false;
  if (std::find(kWords.begin(), kWords.end(), value) != kWords.end()) return true;
  // Numbers, sums and sizes: "17", "-1.5e+20", "30x100", "1500 + 600".
  bool digit = false;
  for (const char c : value) {
    digit = digit || IsDigit(c);
    if (!IsDigit(c) && std::string_view("+-.ex ").find(c) == std::string_view::npos) return false;
  }
  // No hexadecimal numbers: an address would look like one.
  return digit && value.find("0x") != 0 && value.find(" 0x") == std::string_view::npos;
}

bool IsSafeLimit(std::string_view limit) {
  if (limit.empty() || limit.size() > kMaxSlotBytes) return false;
  if (limit.find("0x") != std::string_view::npos) return false;
  return std::all_of(limit.begin(), limit.end(), [](char c) {
    return IsLetter(c) || IsDigit(c) ||
           std::string_view(" .,_-+()[]<>=%").find(c) != std::string_view::npos;
  });
}

WireStatus ToWireStatus(const Error& error, std::string_view request_id) {
  std::string message(error.what.view());
  if (message.empty()) message = ErrorCodeName(error.code);
  if (IsProtoPath(error.field)) message += fmt::format(": {}", error.field);
  const bool value = IsSafeValue(error.value);
  if (value) message += fmt::format(": got {}", error.value);
  if (IsSafeLimit(error.limit))
    message += fmt::format("{} allowed: {}", value ? "," : ":", error.limit);
  if (!request_id.empty()) message += fmt::format(" [request {}]", request_id);
  WireStatus status{.code = error.code, .message = std::move(message), .pushback = {}};
  if (error.code == ErrorCode::kResourceExhausted) status.pushback = kPushback;
  return status;
}

WireStatus InternalStatus(std::string_view request_id) {
  return ToWireStatus(Error{.code = ErrorCode::kInternal, .what = "internal error"}, request_id);
}

}  // namespace tessera
