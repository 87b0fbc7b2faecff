// Health and draining over real gRPC on loopback.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tessera/v1/tessera.grpc.pb.h"
#include "tests/wire/harness.h"
#include "tests/wire/wire_client.h"

namespace tessera::testing {
namespace {

namespace health = grpc::health::v1;

TEST(Wire, HealthFollowsTheState) {
  TestServer server({.load = false});
  const auto channel = Connect(server);
  const auto stub = health::Health::NewStub(channel);
  const auto check = [&](const std::string& service) {
    grpc::ClientContext context;
    health::HealthCheckRequest request;
    health::HealthCheckResponse response;
    request.set_service(service);
    const grpc::Status status = stub->Check(&context, request, &response);
    return status.ok() ? static_cast<int>(response.status())
                       : -static_cast<int>(status.error_code());
  };
  using Response = health::HealthCheckResponse;
  EXPECT_EQ(check(""), Response::NOT_SERVING);
  EXPECT_EQ(check("nonsense"), -grpc::StatusCode::NOT_FOUND);
  const auto tessera = pb::Tessera::NewStub(channel);
  EXPECT_EQ(Generate(*tessera, Ask("x")).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext context;
  health::HealthCheckRequest request;
  request.set_service("tessera.v1.Tessera");
  auto watch = stub->Watch(&context, request);
  Response response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::NOT_SERVING);
  server.Load();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::SERVING);
  EXPECT_EQ(check("tessera.v1.Tessera"), Response::SERVING);
  std::thread drain([&] {
    EXPECT_EQ(server.Drain({.delay = milliseconds(50), .timeout = milliseconds(2000)}), 0);
  });
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), Response::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
  drain.join();
}

TEST(Wire, NewWorkIsTakenDuringTheDelayOfADrain) {
  // A busy machine may miss a short delay: longer ones, until one was met.
  bool taken = false;
  for (int delay = 100; !taken && delay <= 6400; delay *= 4) {
    TestServer server;
    const auto channel = Connect(server);
    const auto stub = pb::Tessera::NewStub(channel);
    grpc::ClientContext context;
    auto watch = health::Health::NewStub(channel)->Watch(&context, health::HealthCheckRequest());
    health::HealthCheckResponse response;
    ASSERT_TRUE(watch->Read(&response));
    std::thread drain([&] { EXPECT_EQ(server.Drain({.delay = milliseconds(delay)}), 0); });
    EXPECT_TRUE(watch->Read(&response));
    EXPECT_EQ(response.status(), health::HealthCheckResponse::NOT_SERVING);
    taken = Generate(*stub, Ask("x")).status.ok();
    drain.join();
  }
  EXPECT_TRUE(taken);
}

TEST(Wire, DrainFinishesWhatWasAccepted) {
  TestServer server;
  const auto channel = Connect(server);
  const auto stub = pb::Tessera::NewStub(channel);
  server.gate.Close();
  std::atomic<int> ok{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back(
        [&] { ok += Generate(*stub, Ask("x", 20, "01-single-1x1.png")).status.ok() ? 1 : 0; });
  }
  EXPECT_TRUE(Eventually([&] { return server.service().in_flight() == 6; }));
  std::thread drain([&] { EXPECT_EQ(server.Drain({.timeout = milliseconds(120'000)}), 0); });
  EXPECT_TRUE(Eventually([&] { return !server.service().CheckServing(); }));
  const Reply late = Generate(*stub, Ask("x"));
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  server.gate.Open();
  for (auto& client : clients) client.join();
  drain.join();
  EXPECT_EQ(ok, 6);
}

TEST(Wire, LeftoversOfADrainGetOneUnavailable) {
  ServerSetup setup;
  setup.model.max_context = 100'000;
  setup.model.self_pages = 8192;
  TestServer server(setup);
  const auto stub = pb::Tessera::NewStub(Connect(server));
  Reply reply;
  std::thread client([&] { reply = Generate(*stub, Ask("x", 90'000)); });
  EXPECT_TRUE(Eventually([&] { return server.engine().stats().running == 1; }));
  EXPECT_EQ(server.Drain({.timeout = milliseconds(100)}), 1);
  client.join();
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::UNAVAILABLE)
      << reply.status.error_message();
  ASSERT_EQ(server.Records().size(), 1u);
  EXPECT_EQ(server.Records()[0].code, "UNAVAILABLE");
}

}  // namespace
}  // namespace tessera::testing
