// A client of the wire tests: gRPC's own stubs, so that metadata, statuses and raw bytes can be
// seen.
#pragma once

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "tessera/v1/tessera.grpc.pb.h"
#include "tests/wire/harness.h"

namespace tessera::testing {

namespace pb = tessera::v1;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// `small_window`: the client takes 64 KiB a stream and no more until it reads, however fast the
// line is.
inline std::shared_ptr<grpc::Channel> Connect(const TestServer& server, bool small_window = false) {
  grpc::ChannelArguments arguments;
  if (small_window) {
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65535);
  }
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // each test its own connections
  return grpc::CreateCustomChannel(server.address(), grpc::InsecureChannelCredentials(), arguments);
}

inline pb::GenerateRequest Ask(const std::string& text, uint32_t max_tokens = 8,
                               const std::string& picture = "") {
  pb::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role(pb::ROLE_USER);
  if (!picture.empty()) message->add_parts()->mutable_image()->set_data(DemoPicture(picture));
  message->add_parts()->set_text(text);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_limits()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

struct Reply {
  grpc::Status status;
  std::vector<pb::GenerateEvent> events;
  std::string pushback;  // metadata
  std::vector<uint32_t> Ids(uint32_t choice = 0) const {
    std::vector<uint32_t> ids;
    for (const auto& event : events) {
      if (!event.has_delta() || event.delta().choice() != choice) continue;
      for (const auto& token : event.delta().tokens()) ids.push_back(token.id());
    }
    return ids;
  }
};

inline Reply Generate(pb::Tessera::Stub& stub, const pb::GenerateRequest& request,
                      milliseconds timeout = milliseconds(120'000)) {
  grpc::ClientContext context;
  if (timeout.count() > 0) context.set_deadline(std::chrono::system_clock::now() + timeout);
  auto reader = stub.Generate(&context, request);
  Reply reply;
  for (pb::GenerateEvent event; reader->Read(&event);) reply.events.push_back(event);
  reply.status = reader->Finish();
  const auto& trailers = context.GetServerTrailingMetadata();
  if (const auto it = trailers.find("grpc-retry-pushback-ms"); it != trailers.end())
    reply.pushback = {it->second.data(), it->second.size()};
  return reply;
}

template <typename Condition>
bool Eventually(Condition condition, milliseconds patience = milliseconds(60'000)) {
  const auto end = steady_clock::now() + patience;
  while (!condition()) {
    if (steady_clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(2));
  }
  return true;
}

inline bool AllPagesFree(TestServer& server) {
  const EngineStats stats = server.engine().stats();
  return stats.running == 0 && stats.waiting == 0 &&
         stats.self_pages_free == stats.self_pages_total &&
         stats.cross_pages_free == stats.cross_pages_total;
}

// RELIABILITY row 10: no address, path, or text of a client leaves in an error.
inline void ExpectClean(const grpc::Status& status, const std::string& canary = "canary") {
  EXPECT_FALSE(status.error_message().empty());
  EXPECT_FALSE(std::regex_search(status.error_message(),
                                 std::regex("0x[0-9a-f]{4,}|/home|/tmp|/work|\\.cc|\\.h:")))
      << status.error_message();
  EXPECT_EQ(status.error_message().find(canary), std::string::npos) << status.error_message();
}

// Bytes to a method as they are.
inline grpc::Status Raw(const TestServer& server, const std::string& method,
                        const std::string& bytes, bool gzip = false) {
  grpc::GenericStub stub(Connect(server));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + milliseconds(120'000));
  if (gzip) context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
  grpc::ByteBuffer response;
  grpc::Status status;
  call->StartCall();
  call->Finish(&response, &status, &queue);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

}  // namespace tessera::testing
