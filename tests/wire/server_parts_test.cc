// Flags, memory plan, request log.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "server/memory_plan.h"
#include "server/options.h"
#include "server/request_log.h"

namespace tessera {
namespace {

std::variant<ServerOptions, ExitRequest> Parse(std::vector<const char*> flags) {
  flags.insert(flags.begin(), "tessera-server");
  return ParseOptions(static_cast<int>(flags.size()), flags.data());
}

void ExpectUsageError(std::vector<const char*> flags, const std::string& words) {
  const auto parsed = Parse(std::move(flags));
  const auto* exit = std::get_if<ExitRequest>(&parsed);
  ASSERT_NE(exit, nullptr) << words;
  EXPECT_EQ(exit->code, 2);
  EXPECT_NE(exit->err.find(words), std::string::npos) << exit->err;
  EXPECT_EQ(exit->err.find('\n'), std::string::npos) << "one line";
}

TEST(Options, ErrorsAreOneLineAndExit2) {
  ExpectUsageError({}, "--model");
  ExpectUsageError({"--model", "d", "--nonsense"}, "--nonsense");
  ExpectUsageError({"--model", "d", "--listen", "0.0.0.0:8001"}, "--insecure");
  ExpectUsageError({"--model", "d", "--listen", "nonsense"}, "--listen");
  ExpectUsageError({"--model", "d", "--listen", "127.0.0.1:70000"}, "--listen");
  ExpectUsageError({"--model", "d", "--weights", "fp7"}, "fp7");
  ExpectUsageError({"--model", "d", "--token-budget", "0"}, "--token-budget");
  ExpectUsageError({"--model", "d", "--threads", "-1"}, "--threads");
  ExpectUsageError({"--model", "d", "--http", "127.0.0.1:8000"}, "--http");
  ExpectUsageError({"--model", "d", "--served-model-name", "a b"}, "--served-model-name");
  ExpectUsageError({"--model", "d", "--max-image-bytes", "65MiB"}, "--max-image-bytes");
}

TEST(Options, FlagsEnvironmentAndFile) {
  auto parsed = Parse({"--model", "some/where/demo/", "--kv-memory", "2GiB", "--drain-timeout",
                       "1.5", "--listen", "[::1]:0"});
  auto& options = std::get<ServerOptions>(parsed);
  EXPECT_EQ(options.model_name(), "demo");
  EXPECT_EQ(options.kv_memory, int64_t{2} << 30);
  EXPECT_EQ(options.drain_timeout.count(), 1500);
  setenv("TESSERA_MAX_QUEUE", "7", 1);
  setenv("TESSERA_INSECURE", "true", 1);
  parsed = Parse({"--model", "d", "--listen", "0.0.0.0:8001"});
  EXPECT_EQ(std::get<ServerOptions>(parsed).max_queue, 7);
  parsed = Parse({"--model", "d", "--max-queue", "9"});
  EXPECT_EQ(std::get<ServerOptions>(parsed).max_queue, 9);  // the flag beats the environment
  unsetenv("TESSERA_MAX_QUEUE");
  unsetenv("TESSERA_INSECURE");
  char path[] = "/tmp/tessera-options-XXXXXX";
  const int file = mkstemp(path);
  ASSERT_GE(file, 0);
  const std::string lines = "model = \"x\"\nmax-running = 3\nallow-raw-prompts = true\n";
  ASSERT_EQ(write(file, lines.data(), lines.size()), static_cast<ssize_t>(lines.size()));
  parsed = Parse({"--config", path});
  EXPECT_EQ(std::get<ServerOptions>(parsed).max_running, 3);
  EXPECT_TRUE(std::get<ServerOptions>(parsed).limits.allow_raw_prompts);
  ASSERT_EQ(write(file, "nonsense = 1\n", 13), 13);
  ExpectUsageError({"--config", path}, "nonsense");
  close(file);
  unlink(path);
}

TEST(Options, HelpAndVersion) {
  auto parsed = Parse({"--help"});
  EXPECT_EQ(std::get<ExitRequest>(parsed).code, 0);
  for (const char* words : {"Memory:", "--kv-memory SIZE", "Network:"}) {
    EXPECT_NE(std::get<ExitRequest>(parsed).out.find(words), std::string::npos) << words;
  }
  parsed = Parse({"--version"});
  EXPECT_NE(std::get<ExitRequest>(parsed).out.find("gRPC"), std::string::npos);
}

ModelPlan SmallModel() {
  ModelPlan plan;
  plan.weight_bytes = 100 << 20;
  plan.workspace = {.row = 4000, .logits_row = 400, .logits_width = 1000, .encode_slot = 500'000};
  plan.info.vocab_size = 1000;
  plan.info.max_context = 4096;
  plan.info.max_tiles = 4;
  plan.info.self_kv = {.layers = 2, .kv_heads = 2, .head_dim = 64, .page_tokens = 16};
  plan.info.cross_kv = {.layers = 2, .kv_heads = 2, .head_dim = 64, .page_tokens = 100};
  return plan;
}

TEST(MemoryPlan, FitsOrSaysSo) {
  const ModelPlan model = SmallModel();
  ServerOptions options;
  const auto roomy = PlanMemory(model, options, int64_t{64} << 30);
  ASSERT_TRUE(roomy);
  EXPECT_EQ(roomy->self_pages, 64 * 4096 / 16);  // no more than can be used
  EXPECT_EQ(roomy->max_context, 4096);
  EXPECT_EQ(roomy->workspace_bytes, (4000 * 512 + 400 * 64 + 500'000) * 4 + 64 * 1000 * 4);
  const auto half = PlanMemory(model, options, int64_t{64} << 30, false, DType::kBF16);
  EXPECT_EQ(half->workspace_bytes, (4000 * 512 + 400 * 64 + 500'000) * 2 + 64 * 1000 * 4);
  const auto tight = PlanMemory(model, options, int64_t{400} << 20);
  ASSERT_TRUE(tight) << tight.error().Describe();
  EXPECT_LT(tight->self_pages, roomy->self_pages);
  EXPECT_GE(tight->cross_pages, 4);
  EXPECT_LE(tight->total(), int64_t{400} << 20);
  const auto none = PlanMemory(model, options, 50 << 20);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kResourceExhausted);
  options.self_pages = 10;
  const auto chosen = PlanMemory(model, options, int64_t{64} << 30);
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->self_pages, 10);
  EXPECT_EQ(chosen->max_context, 160);  // what the pool holds
}

TEST(RequestLog, OneJsonLine) {
  RequestRecord record;
  record.method = "Generate";
  record.id = "r-1";
  record.error = "a\n\x1b[31m\xff";
  record.usage.prompt_tokens = 5;
  record.timings.total = 0.25;
  const std::string line = RequestLine(record);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["tokens"]["prompt"], 5);
  EXPECT_EQ(json["ms"]["total"], 250.0);
}

TEST(RequestLog, ABlockedPipeDropsAndCounts) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::mutex mu;
  std::string read_text;  // guarded by mu
  {
    std::optional<LineWriter> writer(std::in_place, ends[1]);
    // Nobody reads: a writer that waits hangs here.
    for (int i = 0; i < 20'000; ++i)
      writer->Write("{\"line\":" + std::to_string(i) + ",\"filler\":\"" + std::string(100, 'x') +
                    "\"}");
    EXPECT_GT(writer->dropped(), 10'000);
    std::thread reader([&] {
      char block[65536];
      for (ssize_t got; (got = read(ends[0], block, sizeof block)) > 0;) {
        const std::lock_guard lock(mu);
        read_text.append(block, static_cast<size_t>(got));
      }
    });
    const auto arrived = [&] {
      const std::lock_guard lock(mu);
      return read_text.find("\"last\":true") != std::string::npos;
    };
    // Until there is room for it in the queue, and it came out at the other end
    for (int i = 0; i < 6000 && !arrived(); ++i) {
      writer->Write("{\"last\":true}");
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    writer.reset();
    close(ends[1]);
    reader.join();
  }
  close(ends[0]);
  EXPECT_NE(read_text.find("\"log_dropped\""), std::string::npos);
  EXPECT_NE(read_text.find("\"last\":true"), std::string::npos);
}

}  // namespace
}  // namespace tessera
