// A whole server in the test's process, over real gRPC on loopback: service, preparation and engine
// are the product's, the model is the fake runner of tests/support, words and pictures go through
// the demo model's tokenizer and processor.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/engine/clock.h"
#include "server/lifecycle.h"
#include "server/wire/auth.h"
#include "server/wire/grpc_server.h"
#include "server/wire/service.h"
#include "tests/support/fake_runner.h"

namespace tessera::testing {

// Holds the engine before a step while it is closed.
class Gate {
 public:
  void Close() {
    const std::lock_guard lock(mu_);
    open_ = false;
  }
  void Open() {
    {
      const std::lock_guard lock(mu_);
      open_ = true;
    }
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mu_);
    holds_ = !open_;
    changed_.wait(lock, [&] { return open_; });
    holds_ = false;
  }
  bool holds() {  // a step
    const std::lock_guard lock(mu_);
    return holds_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool open_ = true, holds_ = false;
};

struct ServerSetup {
  FakeModel model{.self_pages = 512, .cross_pages = 64, .vocab = 1200};
  EngineOptions engine;
  ServiceOptions service;
  GrpcServerOptions grpc;
  InputLimits limits{.allow_raw_prompts = true};
  bool vision = true;
  bool load = true;  // false: stays loading until Load()
  const Authenticator* authenticator = nullptr;
  HandlerFactory handlers;  // instead of the service's
};

class TestServer {
 public:
  explicit TestServer(ServerSetup setup = {});
  ~TestServer();

  void Load();
  int Drain(DrainTimes times);
  std::string address() const { return "127.0.0.1:" + std::to_string(server_->port()); }
  EngineHandle& engine() { return *engine_; }
  Service& service() { return *service_; }
  GrpcServer& grpc() { return *server_; }
  Gate gate;
  std::vector<RequestRecord> Records();

 private:
  ServerSetup setup_;
  SystemClock clock_;
  SingleTenant everybody_;
  std::shared_ptr<const Frontend> frontend_;
  std::shared_ptr<EngineHandle> engine_;
  std::unique_ptr<Preparer> preparer_;
  std::mutex mu_;
  std::vector<RequestRecord> records_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<GrpcServer> server_;
};

std::string DemoPicture(const std::string& name);  // bytes of a file in models/demo/pictures

}  // namespace tessera::testing
