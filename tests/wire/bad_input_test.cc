// What a client can send that is wrong, over real gRPC on loopback: one clean error each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tessera/v1/tessera.grpc.pb.h"
#include "tests/wire/harness.h"
#include "tests/wire/wire_client.h"

namespace tessera::testing {
namespace {

TEST(Wire, BadInputIsOneCleanError) {
  TestServer server;
  const auto stub = pb::Tessera::NewStub(Connect(server));
  const auto refused = [&](const pb::GenerateRequest& request, grpc::StatusCode code,
                           const std::string& field) {
    const Reply reply = Generate(*stub, request);
    EXPECT_EQ(reply.status.error_code(), code) << reply.status.error_message();
    EXPECT_THAT(reply.status.error_message(), ::testing::HasSubstr(field));
    EXPECT_THAT(reply.status.error_message(), ::testing::HasSubstr("[request r-"));
    EXPECT_TRUE(reply.events.empty());
    ExpectClean(reply.status);
  };
  const auto invalid = grpc::StatusCode::INVALID_ARGUMENT;
  pb::GenerateRequest request = Ask("canary");
  request.mutable_sampling()->set_temperature(std::nanf(""));
  refused(request, invalid, "sampling.temperature: got nan");
  request = Ask("canary");
  request.set_model("canary");
  refused(request, grpc::StatusCode::NOT_FOUND, "model");
  refused(pb::GenerateRequest(), invalid, "prompt");
  request = Ask("canary");
  request.mutable_chat()->mutable_messages(0)->add_parts()->mutable_image()->set_data(
      "canary, no picture");
  refused(request, invalid, "chat.messages[0].parts[1].image");
  for (const char* file : {"GIF89a\x01\x00\x01\x00 canary", "BM canary canary canary"}) {
    request.mutable_chat()->mutable_messages(0)->mutable_parts(1)->mutable_image()->set_data(file);
    refused(request, invalid, "chat.messages[0].parts[1].image");
  }
  std::string half = DemoPicture("01-single-1x1.png");
  half.resize(half.size() / 2);
  request.mutable_chat()->mutable_messages(0)->mutable_parts(1)->mutable_image()->set_data(half);
  refused(request, invalid, "chat.messages[0].parts[1].image");
  std::string words;
  for (int i = 0; i < 4000; ++i) words += "canary ";
  refused(Ask(words), invalid, "the prompt does not fit the context: chat: got ");
  request = Ask("canary");
  (*request.mutable_sampling()->mutable_logit_bias())[1'000'000] = 1;
  refused(request, invalid, "sampling.logit_bias: got 1000000");
  request = Ask("canary");
  request.mutable_raw()->set_text("canary<|image|>");
  refused(request, invalid, "image marks");
  request.mutable_raw()->clear_text();
  request.mutable_raw()->add_token_ids(2'000'000);
  refused(request, invalid, "raw: got 2000000");
  // A prompt of special tokens is plain text: no mark, no error.
  EXPECT_TRUE(Generate(*stub, Ask("<|image|><|eot_id|>canary")).status.ok());
  EXPECT_TRUE(Eventually([&] { return AllPagesFree(server); }));
  for (const RequestRecord& record : server.Records())
    EXPECT_EQ(record.error.find("canary"), std::string::npos);
}

TEST(Wire, PicturesOnATextModel) {
  TestServer server({.vision = false});
  const auto stub = pb::Tessera::NewStub(Connect(server));
  const Reply reply = Generate(*stub, Ask("x", 4, "01-single-1x1.png"));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(reply.status.error_message(),
              ::testing::HasSubstr("takes no pictures: chat.messages[0].parts[0].image"));
  EXPECT_TRUE(Generate(*stub, Ask("x", 4)).status.ok());
}

TEST(Wire, BytesThatAreNoMessage) {
  TestServer server;
  const std::string generate = "/tessera.v1.Tessera/Generate";
  grpc::Status status = Raw(server, generate, "\xff\xff\xff canary");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  ExpectClean(status);
  // chat.messages[0].parts[0].text = "\xff"
  status = Raw(server, generate, std::string("\x12\x07\x0a\x05\x12\x03\x0a\x01\xff", 9));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), ::testing::HasSubstr("chat.messages[0].parts[0].text"));
  status = Raw(server, generate, std::string((64 << 20) + 100, '\0'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  status = Raw(server, generate, std::string(1 << 20, '\0'), /*gzip=*/true);
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(status.error_message().empty());
  const auto stub = pb::Tessera::NewStub(Connect(server));
  EXPECT_TRUE(Generate(*stub, Ask("still here")).status.ok());
}

}  // namespace
}  // namespace tessera::testing
