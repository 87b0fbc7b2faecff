// The bytes of one request message, without gRPC's types.
#pragma once

#include <google/protobuf/io/zero_copy_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <memory>
#include <string>

namespace tessera {

// Const after construction; every Open() starts at the beginning. A stream must not outlive its
// payload.
class Payload {
 public:
  virtual ~Payload() = default;
  virtual int64_t size() const = 0;
  virtual std::unique_ptr<google::protobuf::io::ZeroCopyInputStream> Open() const = 0;
};

class StringPayload : public Payload {
 public:
  explicit StringPayload(std::string bytes) : bytes_(std::move(bytes)) {}
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  std::unique_ptr<google::protobuf::io::ZeroCopyInputStream> Open() const override {
    return std::make_unique<google::protobuf::io::ArrayInputStream>(
        bytes_.data(), static_cast<int>(bytes_.size()));
  }

 private:
  const std::string bytes_;
};

}  // namespace tessera
