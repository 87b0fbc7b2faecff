#include "tests/wire/harness.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace tessera::testing {
namespace {

const std::string kDemo = std::string(TESSERA_SOURCE_DIR) + "/models/demo";

std::shared_ptr<const Frontend> MakeFrontend(const ModelInfo& info, bool vision) {
  FrontendParts parts;
  auto tokenizer = Tokenizer::Load(kDemo);
  TESSERA_CHECK(tokenizer, "{}", tokenizer.error().Describe());
  parts.tokenizer = *std::move(tokenizer);
  auto chat_template = ChatTemplate::LoadFromDir(kDemo);
  TESSERA_CHECK(chat_template, "{}", chat_template.error().Describe());
  parts.chat_template = *std::move(chat_template);
  parts.info = info;
  parts.info.family = "mllama";
  parts.info.eos_ids.clear();  // the fake model's words end by length
  parts.info.embedding_rows = parts.info.vocab_size = parts.tokenizer->vocab_size();
  parts.info.image_token_id = parts.tokenizer->IdOf("<|image|>").value_or(-1);
  parts.fingerprint = "fake";
  if (vision) {
    auto processor = LoadImageProcessor(kDemo);
    TESSERA_CHECK(processor, "{}", processor.error().Describe());
    parts.processor = *std::move(processor);
  } else {
    parts.info.cross_kv.layers = 0;
  }
  return std::make_shared<const Frontend>(std::move(parts));
}

}  // namespace

TestServer::TestServer(ServerSetup setup) : setup_(std::move(setup)) {
  preparer_ = std::make_unique<Preparer>(
      PrepareOptions{.threads = 2, .queue = 64, .limits = setup_.limits});
  service_ =
      std::make_unique<Service>(setup_.service, *preparer_, [this](const RequestRecord& record) {
        const std::lock_guard lock(mu_);
        records_.push_back(record);
      });
  const Authenticator& authenticator =
      setup_.authenticator != nullptr ? *setup_.authenticator : everybody_;
  auto server = GrpcServer::Start(setup_.grpc, authenticator,
                                  setup_.handlers ? setup_.handlers : service_->Handlers());
  TESSERA_CHECK(server, "{}", server.error().Describe());
  server_ = *std::move(server);
  if (setup_.load) Load();
}

TestServer::~TestServer() {
  gate.Open();
  if (engine_) engine_->Stop();
  server_->Shutdown(std::chrono::milliseconds(500));
  service_.reset();
}

void TestServer::Load() {
  auto runner = std::make_unique<FakeRunner>(setup_.model);
  runner->before_step = [this](const Step&) { gate.Pass(); };
  frontend_ = MakeFrontend(runner->info(), setup_.vision);
  engine_ = std::make_shared<EngineHandle>(
      std::make_unique<Engine>(setup_.engine, std::move(runner), frontend_->tokenizer(), clock_));
  service_->SetModel(
      std::make_shared<const ServedModel>(ServedModel{"fake", frontend_, engine_, {}}));
}

int TestServer::Drain(DrainTimes times) {
  return tessera::Drain(*service_, *engine_, *server_, times);
}

std::vector<RequestRecord> TestServer::Records() {
  const std::lock_guard lock(mu_);
  return records_;
}

std::string DemoPicture(const std::string& name) {
  std::ifstream file(kDemo + "/pictures/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace tessera::testing
