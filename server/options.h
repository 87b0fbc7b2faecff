// The flags of tessera-server, each also an environment variable (--kv-memory is TESSERA_KV_MEMORY)
// or a line of --config. A flag beats the environment, which beats the file.
//
// Thread safety: plain data, constant after parsing.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>

#include "base/error.h"
#include "kernels/dtype.h"
#include "model/model.h"
#include "server/prepare/limits.h"

namespace tessera {

struct ServerOptions {
  // Model
  std::filesystem::path model;
  std::string served_model_name;            // empty: the directory's name
  std::string generation_config = "model";  // "model": the directory's; "none"; or a path
  std::optional<UnseenRows> unseen_rows;
  int max_context = 0;  // 0: the model's
  bool approximate_padding_tiles = false;
  std::string cache_dir;  // of packed weights; empty: none; "model": the model's directory

  // Device
  std::string device = "auto";
  std::string cpu_isa = "auto";
  int threads = 0;  // 0: cgroup quota and affinity
  bool pin_threads = false;
  WeightFormat weights = WeightFormat::kAuto;
  DType activations = DType::kF32;
  std::optional<DType> kv_dtype;  // unset: as the activations
  bool batch_invariant =
      false;  // CUDA: a row's results do not depend on the batch (the CPU's never do)

  // Memory
  int64_t kv_memory = 0;                // bytes of both pools, 0: from what is free
  double gpu_memory_utilization = 0.9;  // share of the device's free memory that may be used
  int self_pages = 0;                   // 0: from kv_memory
  int cross_pages = 0;
  bool no_prefix_cache = false;

  // Scheduling
  int max_queue = 256;
  int max_running = 64;
  int token_budget = 512;
  int speculate = 0;  // guesses a step and sequence

  // Network
  std::string listen = "127.0.0.1:8001";
  bool insecure = false;
  bool reflection = false;  // beyond loopback
  std::chrono::milliseconds default_deadline{120'000};
  std::chrono::milliseconds drain_delay{0};
  std::chrono::milliseconds drain_timeout{30'000};

  // Input
  InputLimits limits;
  int64_t decode_memory = int64_t{2} << 30;
  int prepare_threads = 0;  // 0: as many as compute threads, at least 2

  // Running
  bool check_config = false;
  bool verify = false;
  bool no_request_log = false;
  std::string log_level = "info";  // debug, info, warning, error

  std::string model_name() const;
};

// Where to listen, taken apart.
struct ListenAddress {
  std::string host;  // without brackets
  int port = 0;
  bool loopback = false;
};
Result<ListenAddress> ParseListenAddress(const std::string& text);

// What to do instead of running: --help, --version, or an error in the flags.
struct ExitRequest {
  int code = 0;  // 0 or 2
  std::string out;
  std::string err;  // one line
};

// argv, the environment, and the file that --config names.
std::variant<ServerOptions, ExitRequest> ParseOptions(int argc, const char* const* argv);

// The text of --version: Tessera, codecs, gRPC, as far as `libraries` names them.
std::string VersionText();

}  // namespace tessera
