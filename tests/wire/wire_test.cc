// The wire over real gRPC on loopback, with a fake model behind the product's service and engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/wire/policy.h"
#include "tessera/v1/tessera.grpc.pb.h"
#include "tests/wire/harness.h"
#include "tests/wire/wire_client.h"

namespace tessera::testing {
namespace {

TEST(Wire, StreamsInOrder) {
  TestServer server;
  const auto stub = pb::Tessera::NewStub(Connect(server));
  pb::GenerateRequest request = Ask("Hello", 12, "01-single-1x1.png");
  request.set_n(3);
  request.set_logprobs(4);
  request.set_client_request_id("mine-1");
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(5);
  const Reply reply = Generate(*stub, request);
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  ASSERT_GE(reply.events.size(), 5u);
  const auto& started = reply.events.front().started();
  EXPECT_EQ(started.client_request_id(), "mine-1");
  EXPECT_EQ(started.model(), "fake");
  EXPECT_EQ(started.max_tokens(), 12u);
  EXPECT_EQ(started.sampling().seed(), 5u);
  EXPECT_THAT(started.request_id(), ::testing::StartsWith("r-"));
  std::map<uint32_t, int> ends;
  for (size_t i = 1; i + 1 < reply.events.size(); ++i) {
    const auto& event = reply.events[i];
    if (event.has_choice_end()) {
      EXPECT_EQ(++ends[event.choice_end().choice()], 1);
      EXPECT_EQ(event.choice_end().reason(), pb::FINISH_REASON_LENGTH);
      continue;
    }
    ASSERT_TRUE(event.has_delta());
    EXPECT_EQ(ends.count(event.delta().choice()), 0u) << "a delta after the choice's end";
    for (const auto& token : event.delta().tokens()) {
      EXPECT_TRUE(token.has_logprob());
      EXPECT_LE(token.top_size(), 4);
    }
  }
  EXPECT_EQ(ends.size(), 3u);
  const auto& finished = reply.events.back().finished();
  EXPECT_EQ(finished.usage().generated_tokens(), 36u);
  EXPECT_EQ(finished.usage().images(), 1u);
  EXPECT_EQ(finished.usage().images_encoded(), 1u);
  EXPECT_GT(finished.timings().total(), 0);
  for (uint32_t choice = 0; choice < 3; ++choice) EXPECT_EQ(reply.Ids(choice).size(), 12u);
  EXPECT_EQ(Generate(*stub, request).events.back().finished().usage().images_encoded(),
            0u);  // found again
  const auto records = server.Records();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].code, "OK");
  EXPECT_EQ(records[0].client_id, "mine-1");
}

TEST(Wire, Deadlines) {
  ServerSetup setup;
  setup.grpc.default_deadline = milliseconds(300);
  TestServer server(setup);
  const auto stub = pb::Tessera::NewStub(Connect(server));
  server.gate.Close();
  const auto begin = steady_clock::now();
  Reply reply = Generate(*stub, Ask("x"), milliseconds(100));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  // None by the client: the server's own ends it, with a message.
  server.gate.Open();
  EXPECT_TRUE(Eventually([&] { return AllPagesFree(server); }));
  server.gate.Close();
  reply = Generate(*stub, Ask("x"), milliseconds(0));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ExpectClean(reply.status);
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(60))
      << "not the default of two minutes";
  server.gate.Open();
  EXPECT_TRUE(
      Eventually([&] { return AllPagesFree(server) && server.service().in_flight() == 0; }));
  for (const RequestRecord& record : server.Records()) EXPECT_EQ(record.code, "DEADLINE_EXCEEDED");
}

TEST(Wire, CancelInEveryState) {
  ServerSetup setup;
  setup.engine.max_running = 1;
  TestServer server(setup);
  const auto stub = pb::Tessera::NewStub(Connect(server));
  // While streaming, while queued behind that, while it is prepared, after the end.
  for (int round = 0; round < 10; ++round) {
    grpc::ClientContext streaming, queued, fresh;
    const auto request = Ask("canary", 500, "01-single-1x1.png");
    auto first = stub->Generate(&streaming, request);
    pb::GenerateEvent event;
    ASSERT_TRUE(first->Read(&event));
    ASSERT_TRUE(first->Read(&event));
    auto second = stub->Generate(&queued, request);
    auto third = stub->Generate(&fresh, request);
    fresh.TryCancel();
    std::this_thread::sleep_for(milliseconds(round));
    queued.TryCancel();
    streaming.TryCancel();
    for (auto* reader : {first.get(), second.get(), third.get()}) {
      while (reader->Read(&event)) {
      }
      const grpc::Status status = reader->Finish();
      EXPECT_TRUE(status.error_code() == grpc::StatusCode::CANCELLED || status.ok())
          << status.error_message();
    }
    streaming.TryCancel();  // after the end: nothing
  }
  EXPECT_TRUE(
      Eventually([&] { return AllPagesFree(server) && server.service().in_flight() == 0; }));
  EXPECT_TRUE(Generate(*stub, Ask("still here")).status.ok());
  const EngineStats stats = server.engine().stats();
  EXPECT_EQ(stats.requests_accepted,
            stats.requests_finished + stats.requests_cancelled + stats.requests_failed);
}

TEST(Wire, OverloadIsRefusedWithAHint) {
  ServerSetup setup;
  setup.service.max_queue = setup.engine.max_queue = 2;
  setup.engine.max_running = 1;
  TestServer server(setup);
  const auto stub = pb::Tessera::NewStub(Connect(server));
  server.gate.Close();
  std::vector<std::thread> clients;
  std::atomic<int> ok{0}, refused{0};
  for (int i = 0; i < 12; ++i) {
    clients.emplace_back([&] {
      const Reply reply = Generate(*stub, Ask("x", 4));
      if (reply.status.ok()) {
        ++ok;
      } else if (reply.status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
        EXPECT_FALSE(reply.pushback.empty());
        ExpectClean(reply.status);
        ++refused;
      } else {
        ADD_FAILURE() << reply.status.error_message();
      }
    });
  }
  EXPECT_TRUE(Eventually([&] { return refused >= 8; }));  // at once, though nothing moves
  server.gate.Open();
  for (auto& client : clients) client.join();
  EXPECT_EQ(ok + refused, 12);
  EXPECT_GE(ok, 1);
  EXPECT_TRUE(Generate(*stub, Ask("x", 4)).status.ok());
}

TEST(Wire, SilentReadersHoldNobodyUp) {
  ServerSetup setup;
  setup.model.max_context = 4096;
  setup.model.self_pages = 12'288;
  setup.engine.stalled_reader = std::chrono::seconds(2);
  TestServer server(setup);
  constexpr int kSilent = 50, kNormal = 8;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<pb::GenerateEvent>>> silent;
  const auto quiet = pb::Tessera::NewStub(Connect(server, /*small_window=*/true));
  for (int i = 0; i < kSilent; ++i) {
    auto request = Ask("silent", 3000);
    request.set_logprobs(20);  // much to send
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    silent.push_back(quiet->Generate(contexts.back().get(), request));
  }
  const auto stub = pb::Tessera::NewStub(Connect(server));
  std::vector<std::thread> clients;
  for (int i = 0; i < kNormal; ++i) {
    clients.emplace_back([&] {
      for (int k = 0; k < 3; ++k) {
        const Reply reply = Generate(*stub, Ask("normal", 64));
        EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
      }
    });
  }
  for (auto& client : clients) client.join();
  // The stalled ones lose their pages, and one who reads at last learns why.
  EXPECT_TRUE(Eventually([&] { return AllPagesFree(server); }));
  int stalled = 0;
  for (int i = 0; i < kSilent; ++i) {
    pb::GenerateEvent event;
    while (silent[static_cast<size_t>(i)]->Read(&event)) {
    }
    stalled += silent[static_cast<size_t>(i)]->Finish().error_code() ==
                       grpc::StatusCode::RESOURCE_EXHAUSTED
                   ? 1
                   : 0;
  }
  EXPECT_GT(stalled, 0);
}

class Nobody final : public Authenticator {
  Result<Tenant> Authenticate(const MetadataLookup&) const override {
    return Fail(ErrorCode::kUnauthenticated, "who are you");
  }
};

// Every method of every service by descriptor: it has a policy, and without credentials only open
// ones answer.
TEST(Wire, EveryMethodHasAPolicy) {
  const Nobody nobody;
  TestServer server({.authenticator = &nobody});
  size_t walked = 0;
  for (const google::protobuf::FileDescriptor* file :
       {pb::GenerateRequest::descriptor()->file(),
        grpc::health::v1::HealthCheckRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const std::string method =
            "/" + file->service(s)->full_name() + "/" + file->service(s)->method(m)->name();
        const MethodPolicy* policy = FindPolicy(method);
        ASSERT_NE(policy, nullptr) << method;
        ++walked;
        if (method.ends_with("/Watch")) continue;  // does not end
        const grpc::Status status = Raw(server, method, "");
        if (policy->access == Access::kOpen) {
          EXPECT_TRUE(status.ok()) << method << status.error_message();
        } else {
          EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
          ExpectClean(status);
        }
      }
    }
  }
  EXPECT_EQ(walked + 1, MethodPolicies().size())
      << "a policy for a method that does not exist; reflection is the one more";
  for (const char* method :
       {"/tessera.v1.Tessera/Nonsense", "/inference.GRPCInferenceService/ModelInfer", "/x"}) {
    const grpc::Status status = Raw(server, method, "");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
    ExpectClean(status);
  }
}

TEST(Wire, ReflectionWhereWanted) {
  const std::string list = "\x3a\x01*";  // ServerReflectionRequest{list_services: "*"}
  ServerSetup without;
  without.grpc.reflection = false;
  TestServer hidden(without);
  EXPECT_EQ(Raw(hidden, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", list)
                .error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  TestServer shown;
  EXPECT_TRUE(
      Raw(shown, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", list).ok());
}

TEST(Wire, ExceptionsBecomeInternal) {
  class Thrower final : public CallHandler {
    void OnRequest(std::unique_ptr<Payload>) override {
      throw std::runtime_error("canary /home/x.cc");
    }
  };
  bool at_once = true;
  ServerSetup setup;
  setup.handlers = [&](const MethodPolicy&,
                       std::shared_ptr<Call>) -> Result<std::shared_ptr<CallHandler>> {
    if (at_once) throw std::bad_alloc();
    return std::make_shared<Thrower>();
  };
  TestServer server(setup);
  for (int i = 0; i < 50; ++i) {
    at_once = i % 2 == 0;
    const grpc::Status status = Raw(server, "/tessera.v1.Tessera/ListModels", "");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
    ExpectClean(status);
  }
}

TEST(Wire, TokenizeAndModels) {
  TestServer server;
  const auto stub = pb::Tessera::NewStub(Connect(server));
  grpc::ClientContext one, two, three, four;
  pb::TokenizeRequest request;
  request.set_text("<|image|> hello");
  pb::TokenizeResponse tokens;
  ASSERT_TRUE(stub->Tokenize(&one, request, &tokens).ok());
  std::string joined;
  for (const std::string& token : tokens.tokens()) joined += token;
  EXPECT_EQ(joined, "<|image|> hello");
  EXPECT_GT(tokens.token_ids_size(), 2);
  *request.mutable_chat() = Ask("hello", 1, "01-single-1x1.png").chat();
  ASSERT_TRUE(stub->Tokenize(&two, request, &tokens).ok());
  EXPECT_THAT(tokens.rendered(), ::testing::HasSubstr("<|image|>"));
  pb::ListModelsResponse models;
  ASSERT_TRUE(stub->ListModels(&three, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  pb::GetModelResponse model;
  ASSERT_TRUE(stub->GetModel(&four, {}, &model).ok());
  EXPECT_EQ(model.summary().name(), "fake");
  EXPECT_EQ(model.limits().images(), 16u);
  EXPECT_EQ(model.self_attention_pages().total(), 512u);
}

TEST(Wire, TheEngineTellsWhatItsStepsTook) {
  TestServer server;
  const auto stub = pb::Tessera::NewStub(Connect(server));
  const auto counters = [&] {
    grpc::ClientContext context;
    pb::GetModelResponse model;
    EXPECT_TRUE(stub->GetModel(&context, {}, &model).ok());
    return model.counters();
  };
  EXPECT_EQ(counters().busy_seconds(), 0);
  const auto begin = steady_clock::now();
  // A step that is held takes so long, and waiting for requests takes nothing
  constexpr milliseconds kHeld{200};
  server.gate.Close();
  std::thread opener([&] {
    EXPECT_TRUE(Eventually([&] { return server.gate.holds(); }));
    std::this_thread::sleep_for(kHeld);
    server.gate.Open();
  });
  ASSERT_TRUE(Generate(*stub, Ask("Hello", 4)).status.ok());
  opener.join();
  ASSERT_TRUE(Eventually([&] { return AllPagesFree(server); }));
  const double held = counters().busy_seconds();
  const std::chrono::duration<double> wall = steady_clock::now() - begin;
  EXPECT_GT(held, std::chrono::duration<double>(kHeld).count());
  EXPECT_LE(held, wall.count());
  std::this_thread::sleep_for(kHeld);
  EXPECT_EQ(counters().busy_seconds(), held) << "nobody computes";
  ASSERT_TRUE(Generate(*stub, Ask("Hello", 4)).status.ok());
  EXPECT_TRUE(Eventually([&] { return counters().busy_seconds() > held; }));
}

TEST(Wire, APortInUseIsAnError) {
  TestServer server;
  const SingleTenant everybody;
  const auto second = GrpcServer::Start({.address = server.address()}, everybody, {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().field, "--listen");
}

}  // namespace
}  // namespace tessera::testing
