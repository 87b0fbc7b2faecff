// The server's binary with the demo model, as a user has it: pictures and questions in, words out,
// and down again.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/e2e/server_process.h"

namespace tessera {
namespace {

const std::string kDemo = std::string(TESSERA_SOURCE_DIR) + "/models/demo";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Server {
 public:
  explicit Server(std::vector<std::string> more = {}) : process_(Flags(std::move(more))) {
    EXPECT_TRUE(process_.ReadUntil("serving demo")) << process_.err();
    const size_t at = process_.err().find("listening on ") + 13;
    address_ = process_.err().substr(at, process_.err().find('\n', at) - at);
  }
  Process& process() { return process_; }
  const std::string& address() const { return address_; }

 private:
  static std::vector<std::string> Flags(std::vector<std::string> more) {
    std::vector<std::string> flags{"--model", kDemo, "--listen", "127.0.0.1:0"};
    flags.insert(flags.end(), more.begin(), more.end());
    return flags;
  }
  Process process_;
  std::string address_;
};

struct Question {
  std::string picture, text, answer;
};

std::vector<Question> Questions() {
  std::vector<Question> out;
  for (const auto& row : nlohmann::json::parse(ReadFile(kDemo + "/pictures/questions.json"))) {
    out.push_back({row["picture"], row["question"], row["answer"]});
  }
  return out;
}

struct Asked {
  CallStatus status;
  std::string text;
  std::map<std::string, uint64_t> usage;
};

Asked Ask(Client& client, const Question& question) {
  GenerateParams params;
  params.messages.push_back(
      UserMessage(question.text, {ReadFile(kDemo + "/pictures/" + question.picture)}));
  params.temperature = 0;
  params.max_tokens = 64;
  params.timeout = milliseconds(60'000);
  GenerateResult result;
  Asked out;
  out.status = client.Generate(params, {}, &result);
  if (!result.choices.empty()) out.text = result.choices[0].text;
  out.usage.insert(result.usage.begin(), result.usage.end());
  return out;
}

TEST(EndToEnd, RightAnswersAloneAndInCompany) {
  Server server;
  const std::vector<Question> questions = Questions();
  Client client(server.address());
  // One question of each picture, one at a time.
  std::vector<Question> chosen;
  std::vector<std::string> alone;
  for (const Question& question : questions) {
    if (chosen.size() == 8) break;
    if (!chosen.empty() && chosen.back().picture == question.picture) continue;
    const Asked asked = Ask(client, question);
    ASSERT_TRUE(asked.status.ok()) << asked.status.message;
    EXPECT_EQ(asked.usage.at("images_encoded"), 1u) << question.picture;
    chosen.push_back(question);
    alone.push_back(asked.text);
  }
  ASSERT_EQ(chosen.size(), 8u);
  int right = 0;
  for (size_t i = 0; i < chosen.size(); ++i) right += alone[i] == chosen[i].answer ? 1 : 0;
  EXPECT_GE(right, 6) << "of 8 answers of the shipped model";
  // The second question about a picture encodes nothing.
  for (const Question& question : questions) {
    const Asked asked = Ask(client, question);
    ASSERT_TRUE(asked.status.ok());
    if (question.picture == chosen[0].picture) {
      EXPECT_EQ(asked.usage.at("images_encoded"), 0u);
    }
  }
  // Eight clients at once, on a server that has seen nothing: the same words.
  Server fresh;
  std::vector<std::thread> clients;
  std::vector<std::string> together(chosen.size());
  for (size_t i = 0; i < chosen.size(); ++i) {
    clients.emplace_back([&, i] {
      Client own(fresh.address());
      together[i] = Ask(own, chosen[i]).text;
    });
  }
  for (auto& thread : clients) thread.join();
  EXPECT_EQ(together, alone);
}

TEST(EndToEnd, SigtermDrainsAndExits0) {
  Server server;
  GenerateParams params;
  params.messages.push_back(
      UserMessage("Write a caption.", {ReadFile(kDemo + "/pictures/02-objects-1x1.png")}));
  params.max_tokens = 300;
  params.temperature = 0;
  std::atomic<bool> begun{false};
  CallStatus status;
  std::thread client([&] {
    Client own(server.address());
    // Past the end of its answer: long enough to be caught in the middle.
    params.logit_bias[1001] = params.logit_bias[1006] = -100;
    status = own.Generate(params, {.on_text = [&](int, std::string_view) { begun = true; }});
  });
  const auto end = steady_clock::now() + std::chrono::minutes(2);
  while (!begun && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(1));
  server.process().Signal(SIGTERM);
  client.join();
  EXPECT_TRUE(status.ok()) << status.message;
  EXPECT_EQ(server.process().Wait(), 0);
}

TEST(EndToEnd, SecondSignalEndsAtOnce) {
  Server server({"--drain-delay", "60"});
  server.process().Signal(SIGINT);
  ASSERT_TRUE(server.process().ReadUntil("draining"));
  server.process().Signal(SIGTERM);
  const auto begin = steady_clock::now();
  EXPECT_EQ(server.process().Wait(), 128 + SIGTERM);
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(30)) << "not the delay of a minute";
}

TEST(EndToEnd, VerifiesBeforeServing) {
  for (const std::string rows : {"zero", "attend"}) {
    Server server({"--verify", "--unseen-rows", rows});
    EXPECT_NE(server.process().err().find(", 0 failed"), std::string::npos);
    EXPECT_LT(server.process().err().find(", 0 failed"),
              server.process().err().find("serving demo"));
  }
  Process quantised({"--model", kDemo, "--listen", "127.0.0.1:0", "--verify", "--weights", "int8"});
  EXPECT_FALSE(quantised.ReadUntil("serving demo"));
  EXPECT_EQ(quantised.Wait(), 1);
  EXPECT_NE(quantised.err().find("goldens bound fp32 and half weights"), std::string::npos)
      << quantised.err();
}

TEST(EndToEnd, BadStartsAreOneLine) {
  Server server;
  const std::vector<std::pair<std::vector<std::string>, int>> starts = {
      {{"--model", "no-such-directory"}, 1},
      {{"--model", kDemo + "/pictures"}, 1},
      {{"--model", kDemo, "--listen", server.address()}, 1},
      {{"--model", kDemo, "--self-pages", "100000000"}, 1},
      {{"--model", kDemo, "--listen", "0.0.0.0:1"}, 2},
      {{"--model", kDemo, "--no-such-flag"}, 2},
      {{}, 2},
  };
  for (const auto& [flags, code] : starts) {
    Process process(flags);
    process.ReadUntil("no such words");
    EXPECT_EQ(process.Wait(), code) << process.err();
    EXPECT_EQ(std::count(process.err().begin(), process.err().end(), '\n'), 1) << process.err();
  }
}

}  // namespace
}  // namespace tessera
