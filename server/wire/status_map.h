// From an Error to what a client is told: the one table of codes, and the filter that keeps
// everything but our own words out of messages.
//
// Thread safety: pure functions.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tessera {

// The end of a call. `code` unset: OK.
struct WireStatus {
  std::optional<ErrorCode> code;
  std::string message;  // never empty unless OK
  // When to try again: trailing metadata "grpc-retry-pushback-ms".
  std::optional<std::chrono::milliseconds> pushback;

  bool ok() const { return !code.has_value(); }
};

// gRPC's number of a code (grpc::StatusCode).
int GrpcCode(ErrorCode code);

// The message is the catalogue text, then field, value and limit as far as they pass the filter,
// then the request id:
//   the value is out of range: sampling.top_p: got 1.5, allowed: (0, 1] [request
//   r-0123456789abcdef]
// Field: a path of names of our own protos. Value: a number or a word of ours. Limit: numbers and
// plain words. What does not pass is left out. RESOURCE_EXHAUSTED gets a pushback.
WireStatus ToWireStatus(const Error& error, std::string_view request_id);

// For an exception at an RPC entry. Says nothing about it.
WireStatus InternalStatus(std::string_view request_id);

// The filters, for tests.
bool IsProtoPath(std::string_view field);
bool IsSafeValue(std::string_view value);
bool IsSafeLimit(std::string_view limit);

}  // namespace tessera
