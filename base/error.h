// Errors that a caller, a file or the wire can cause. Programmer errors use base/check.h instead.
//
// An Error is data: which field, what was allowed, what was found. `what` is a compile-time
// constant, so that the text a remote client reads can never carry a client's string, a path or an
// exception's words. `detail` may name file, key and value; it goes to stderr at start-up, never to
// the wire.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace tessera {

enum class ErrorCode {
  kInvalidArgument,    // can never succeed: too big, too many, too long, malformed
  kNotFound,           // no such model
  kResourceExhausted,  // not now: queue or pool full; carries a retry hint on the wire
  kUnavailable,        // draining, or the engine was lost; retryable
  kDeadlineExceeded,
  kCancelled,
  kUnauthenticated,
  kPermissionDenied,
  kUnimplemented,
  kInternal,  // a bug
};

std::string_view ErrorCodeName(ErrorCode code);

// A text known at compile time. Implicit from a literal, impossible from anything else.
class Literal {
 public:
  consteval Literal(const char* text) : text_(text) {}  // NOLINT(google-explicit-constructor)
  constexpr const char* c_str() const { return text_; }
  constexpr std::string_view view() const { return text_; }

 private:
  const char* text_;
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  Literal what = "internal error";
  std::string
      field;  // proto field, flag, JSON path or tensor name: ours, or from a file at start-up
  std::string limit;   // what was allowed, e.g. "16" or "one of fp32, bf16"
  std::string value;   // what was found
  std::string detail;  // start-up only: file names, library messages; escaped and cut by Describe()

  // One line for stderr: "what: field: got value, allowed limit (detail)". Control bytes are
  // escaped, long parts cut.
  std::string Describe() const;
};

template <typename T>
using Result = tl::expected<T, Error>;

// Optional parts of an error, for designated initialisers: Fail(kInvalidArgument, "too many
// images",
// {.field = "messages", .limit = "16", .value = std::to_string(n)}).
struct ErrorParts {
  std::string field;
  std::string limit;
  std::string value;
  std::string detail;
};

inline tl::unexpected<Error> Fail(ErrorCode code, Literal what, ErrorParts parts = {}) {
  return tl::unexpected<Error>(Error{code, what, std::move(parts.field), std::move(parts.limit),
                                     std::move(parts.value), std::move(parts.detail)});
}

// For files and flags, where nearly every error is of this kind.
inline tl::unexpected<Error> Invalid(Literal what, ErrorParts parts = {}) {
  return Fail(ErrorCode::kInvalidArgument, what, std::move(parts));
}

// Text fit for one log line: control bytes, DEL and invalid UTF-8 as \xNN, at most `limit` bytes,
// then "...".
std::string EscapeForLog(std::string_view text, size_t limit = 200);

}  // namespace tessera

#define TESSERA_CONCAT_INNER_(a, b) a##b
#define TESSERA_CONCAT_(a, b) TESSERA_CONCAT_INNER_(a, b)

// TESSERA_TRY(auto x, expression) : x gets the value, or the enclosing function returns the error.
#define TESSERA_TRY(declaration, expression) \
  TESSERA_TRY_IMPL_(TESSERA_CONCAT_(tessera_result_, __LINE__), declaration, expression)
#define TESSERA_TRY_IMPL_(result, declaration, expression)                           \
  auto result = (expression);                                                        \
  if (!result) return ::tl::unexpected<::tessera::Error>(std::move(result).error()); \
  declaration = *std::move(result)

// TESSERA_RETURN_IF_ERROR(expression) : for Result<void>.
#define TESSERA_RETURN_IF_ERROR(expression)                                         \
  do {                                                                              \
    auto tessera_status = (expression);                                             \
    if (!tessera_status)                                                            \
      return ::tl::unexpected<::tessera::Error>(std::move(tessera_status).error()); \
  } while (false)
