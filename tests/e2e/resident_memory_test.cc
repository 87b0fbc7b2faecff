// Peak resident memory of the server's binary against the numbers of its own start table: weights
// are there once, in every format and with the weight cache, and files that were mapped are given
// back.
//
// The model is the demo model with a text half of 106 M parameters, its weights random. "Weights
// and pools plus 10 %" is a promise for real models; at this size the process itself (code, gRPC,
// tokenizer) is a row of the table that counts.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "client/client.h"
#include "model/config.h"
#include "model/tensor_table.h"
#include "tests/e2e/server_process.h"
#include "tools/quantize/checkpoint_writer.h"

#if defined(__SANITIZE_ADDRESS__)
#define TESSERA_TEST_INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TESSERA_TEST_INSTRUMENTED 1
#endif
#endif

namespace tessera {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = fs::path(TESSERA_SOURCE_DIR) / "models/demo";

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The demo model's directory with wider text layers and random bf16 numbers of about 0.02.
void WriteModel(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(kDemo)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && !name.ends_with(".safetensors") && name != "config.json")
      fs::copy_file(entry.path(), directory / name);
  }
  auto config = nlohmann::ordered_json::parse(ReadFile(kDemo / "config.json"));
  auto& text = config["text_config"];
  text["hidden_size"] = 1024;
  text["intermediate_size"] = 4096;
  text["num_attention_heads"] = 16;
  text["num_key_value_heads"] = 4;
  std::ofstream(directory / "config.json") << config.dump();
  const auto parsed = ModelConfig::FromDirectory(directory);
  ASSERT_TRUE(parsed) << parsed.error().Describe();
  std::vector<quantize::PlannedTensor> planned;
  for (const ExpectedTensor& tensor : ExpectedTensors(*parsed)) {
    if (!tensor.required) continue;
    planned.push_back(
        {tensor.names.front(), "BF16", tensor.shape, static_cast<uint64_t>(tensor.elements()) * 2});
  }
  std::mt19937 random(1);
  std::vector<uint16_t> block(1 << 16);
  // Exponents of 2^-6 and 2^-7, both signs
  for (uint16_t& bits : block)
    bits = static_cast<uint16_t>((random() & 0x807f) | ((120u + (random() & 1)) << 7));
  const std::string_view bytes(reinterpret_cast<const char*>(block.data()), block.size() * 2);
  quantize::CheckpointWriter writer(directory, planned, uint64_t{1} << 32);
  for (const quantize::PlannedTensor& tensor : planned) {
    for (uint64_t left = tensor.bytes; left > 0;) {
      const uint64_t piece = std::min<uint64_t>(left, bytes.size());
      ASSERT_TRUE(writer.Write({bytes.data(), piece}));
      left -= piece;
    }
  }
  ASSERT_TRUE(writer.Finish());
}

// Bytes of a row of the start table: its first "12.3 MiB".
double RowBytes(const std::string& table, const std::string& row) {
  const size_t at = table.find(fmt::format("\n  {:<17} ", row));
  if (at == std::string::npos) return -1;
  std::istringstream words(table.substr(at + 20, table.find('\n', at + 1) - at - 20));
  std::string before, word;
  while (words >> word) {
    const std::string unit = word.substr(0, 3);
    for (const auto& [name, scale] : {std::pair{"KiB", 10}, {"MiB", 20}, {"GiB", 30}})
      if (unit == name) return std::stod(before) * static_cast<double>(int64_t{1} << scale);
    before = word;
  }
  return -1;
}

// VmHWM: anonymous pages and those of mapped files.
double PeakBytes(pid_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024;
  return -1;
}

class ResidentMemory : public testing::Test {
 protected:
  void SetUp() override {
#ifdef TESSERA_TEST_INSTRUMENTED
    GTEST_SKIP() << "a sanitizer has memory of its own";
#endif
    std::string pattern = (fs::temp_directory_path() / "tessera-memory-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    fs::create_directory(directory_ / "model");
    fs::create_directory(directory_ / "cache");
    WriteModel(directory_ / "model");
  }
  void TearDown() override {
    if (!directory_.empty()) fs::remove_all(directory_);
  }

  // Starts, asks about a picture of four tiles, compares.
  void Check(const std::string& format, bool cache, const std::string& note) {
    SCOPED_TRACE(format + " " + note);
    std::vector<std::string> flags{"--model",     (directory_ / "model").string(),
                                   "--listen",    "127.0.0.1:0",
                                   "--weights",   format,
                                   "--kv-memory", "16MiB"};
    if (cache) flags.insert(flags.end(), {"--cache-dir", (directory_ / "cache").string()});
    Process server(flags);
    ASSERT_TRUE(server.ReadUntil("serving model")) << server.err();
    EXPECT_NE(server.err().find(note), std::string::npos) << server.err();
    const size_t at = server.err().find("listening on ") + 13;
    Client client(server.err().substr(at, server.err().find('\n', at) - at));
    GenerateParams params;
    params.messages.push_back(
        UserMessage("What is it?", {ReadFile(kDemo / "pictures/09-objects-2x2.png")}));
    params.max_tokens = 4;
    params.temperature = 0;
    GenerateResult result;
    const CallStatus status = client.Generate(params, {}, &result);
    ASSERT_TRUE(status.ok()) << status.message;

    double sum = 0;
    std::string shown;
    for (const char* row : {"weights", "text pages", "picture pages", "workspace", "process"}) {
      const double bytes = RowBytes(server.err(), row);
      ASSERT_GT(bytes, 0) << row << " in\n" << server.err();
      sum += bytes;
      shown += fmt::format("{} {:.0f}, ", row, bytes / 1048576);
    }
    EXPECT_NEAR(RowBytes(server.err(), "memory"), sum, 0.01 * sum);
    const double peak = PeakBytes(server.pid());
    ASSERT_GT(peak, 0);
    std::printf("  %-5s %s: %ssum %.0f, peak %.0f MiB\n", format.c_str(), note.c_str(),
                shown.c_str(), sum / 1048576, peak / 1048576);
    EXPECT_LE(peak, 1.1 * sum);
    // The table does not promise more than there is by half, either
    EXPECT_GE(peak, 0.5 * sum);
  }

  fs::path directory_;
};

TEST_F(ResidentMemory, IsWhatTheStartTableSays) {
  Check("auto", false, "");
  Check("int8", false, "");
  Check("int4", true, "weight cache written");
  Check("int4", true, "weight cache used");
}

}  // namespace
}  // namespace tessera
