// A look at the bytes of a protocol buffer before it is parsed, guided by its descriptor.
//
// Parsing turns a two-byte empty submessage into an object of dozens of bytes, so 64 MiB of them
// would cost gigabytes; and the parser refuses invalid UTF-8 without saying where. The scan
// allocates nothing that grows with the message but one string field at a time, and names the field
// that is wrong.
//
// Thread safety: pure function.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "server/wire/payload.h"

namespace google::protobuf {
class Descriptor;
}

namespace tessera {

struct ScanLimits {
  int64_t submessages = 0;   // over the whole message
  int64_t elements = 0;      // of repeated fields, over the whole message
  int64_t string_bytes = 0;  // of all fields of type string together
};

// Errors (kInvalidArgument, with the field's path): malformed, not UTF-8, too many, too long. What
// passes parses. Fields that the descriptor does not know are passed over, as protocol buffers
// promise.
Result<void> ScanMessage(const Payload& payload, const google::protobuf::Descriptor& type,
                         const ScanLimits& limits);

}  // namespace tessera
