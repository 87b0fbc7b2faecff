#include "server/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace tessera {
namespace {

// A flag whose values are words: --help lists them, and so does the error.
template <typename Value, typename Target>
CLI::Option* AddChoice(CLI::App& app, const char* flag, Target& target,
                       std::vector<std::pair<std::string, Value>> words, const char* text) {
  std::vector<std::string> names;
  std::string list;
  for (const auto& [name, value] : words) {
    names.push_back(name);
    list += (list.empty() ? "" : "|") + name;
  }
  const auto take = [&target, words = std::move(words)](const std::string& word) {
    for (const auto& [name, value] : words) {
      if (name == word) target = value;
    }
  };
  return app.add_option_function<std::string>(flag, take, text)
      ->check(CLI::IsMember(std::move(names)).description(""))
      ->type_name(list);
}
std::vector<std::pair<std::string, std::string>> Words(std::initializer_list<const char*> words) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const char* word : words) out.emplace_back(word, word);
  return out;
}

template <typename Number>
CLI::Option* AddNumber(CLI::App& app, const char* flag, Number& target, int64_t low, int64_t high,
                       const char* text) {
  CLI::Validator range = CLI::Range(static_cast<Number>(low), static_cast<Number>(high));
  range.description("");
  return app.add_option(flag, target, text)->check(range)->type_name("N");
}

CLI::Option* AddSize(CLI::App& app, const char* flag, int64_t& target, const char* text) {
  CLI::AsSizeValue size(false);  // KiB, MiB, GiB and kB, MB, GB alike in powers of 1024
  size.description("");
  return app.add_option(flag, target, text)->transform(size)->type_name("SIZE");
}

CLI::Option* AddDuration(CLI::App& app, const char* flag, std::chrono::milliseconds& target,
                         const char* text) {
  CLI::Validator range = CLI::Range(0.0, 86400.0);
  range.description("");
  const auto take = [&target](const double& seconds) {
    target = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  };
  return app.add_option_function<double>(flag, take, text)->check(range)->type_name("SECONDS");
}

void AddModelFlags(CLI::App& app, ServerOptions& o) {
  const char* group = "Model";
  app.add_option("--model", o.model, "Hugging Face directory to serve (needed)")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--served-model-name", o.served_model_name,
                 "Name that clients use; default: the directory's")
      ->type_name("NAME")
      ->group(group);
  app.add_option("--generation-config", o.generation_config,
                 "Sampling defaults; default: model, the directory's own")
      ->type_name("model|none|FILE")
      ->group(group);
  AddChoice<UnseenRows>(
      app, "--unseen-rows", o.unseen_rows,
      {{"zero", UnseenRows::kZero}, {"attend", UnseenRows::kAttend}},
      "Rows that see no picture in cross-attention layers: zero as trained, attend as transformers "
      "computes; default: tessera.json of the model, else zero")
      ->group(group);
  app.add_option("--cache-dir", o.cache_dir,
                 "Where packed weights are kept, so that the next start takes seconds; model: "
                 "beside the model; default: nowhere")
      ->type_name("model|DIR")
      ->group(group);
  AddNumber(app, "--max-context", o.max_context, 1, 1 << 30,
            "Tokens of prompt and answer; default: the model's")
      ->group(group);
}

void AddDeviceFlags(CLI::App& app, ServerOptions& o) {
  const char* group = "Device";
  AddChoice(app, "--device", o.device, Words({"auto", "cpu", "cuda", "cuda-emulated"}),
            "Where to compute; default: auto")
      ->group(group);
  AddChoice(app, "--cpu-isa", o.cpu_isa, Words({"auto", "reference", "avx2", "avx512", "amx"}),
            "Instruction tier of kernels and pictures; default: auto, the best there is")
      ->group(group);
  AddNumber(app, "--threads", o.threads, 1, 4096,
            "Compute threads; default: what cgroup quota and affinity allow")
      ->group(group);
  app.add_flag(
         "--pin-threads", o.pin_threads,
         "Each compute thread to a processor of its own; for machines that serve nothing else")
      ->group(group);
  AddChoice<WeightFormat>(app, "--weights", o.weights,
                          {{"auto", WeightFormat::kAuto},
                           {"fp32", WeightFormat::kF32},
                           {"fp16", WeightFormat::kF16},
                           {"bf16", WeightFormat::kBF16},
                           {"int8", WeightFormat::kInt8},
                           {"int4", WeightFormat::kInt4}},
                          "Format to pack weights in; default: auto, as they are stored")
      ->group(group);
  AddChoice<DType>(app, "--activations", o.activations,
                   {{"fp32", DType::kF32}, {"fp16", DType::kF16}, {"bf16", DType::kBF16}},
                   "Rounding of matmul operands; default: fp32 on the CPU, bf16 on CUDA")
      ->group(group);
  AddChoice<DType>(
      app, "--kv-dtype", o.kv_dtype,
      {{"fp32", DType::kF32}, {"fp16", DType::kF16}, {"bf16", DType::kBF16}, {"int8", DType::kI8}},
      "Storage of keys and values; default: as the activations")
      ->group(group);
  app.add_flag("--batch-invariant", o.batch_invariant,
               "CUDA: answers do not depend on what else runs (on the CPU they never do)")
      ->group(group);
}

void AddMemoryFlags(CLI::App& app, ServerOptions& o) {
  const char* group = "Memory";
  AddSize(app, "--kv-memory", o.kv_memory,
          "Both key/value pools, e.g. 4GiB; default: from what is free")
      ->group(group);
  CLI::Validator share = CLI::Range(0.05, 1.0);
  share.description("");
  app.add_option("--gpu-memory-utilization", o.gpu_memory_utilization,
                 "Share of a GPU's free memory to use; default: 0.9")
      ->check(share)
      ->type_name("N")
      ->group(group);
  AddNumber(app, "--self-pages", o.self_pages, 1, 1 << 30,
            "Pages of 16 tokens for text; default: from --kv-memory")
      ->group(group);
  AddNumber(app, "--cross-pages", o.cross_pages, 1, 1 << 30,
            "Pages of one picture tile; default: from --kv-memory")
      ->group(group);
  app.add_flag("--no-prefix-cache", o.no_prefix_cache, "Forget prompts when their request ends")
      ->group(group);
}

void AddScheduleFlags(CLI::App& app, ServerOptions& o) {
  const char* group = "Scheduling";
  AddNumber(app, "--max-queue", o.max_queue, 1, 1 << 20,
            "Requests that wait; more are told to come back; default: 256")
      ->group(group);
  AddNumber(app, "--max-running", o.max_running, 1, 4096, "Sequences of a step; default: 64")
      ->group(group);
  AddNumber(app, "--token-budget", o.token_budget, 16, 65536, "Rows of a step; default: 512")
      ->group(group);
  AddNumber(app, "--speculate", o.speculate, 0, 16,
            "Guesses a step by what stood before; changes no word; default: 0")
      ->group(group);
}

void AddNetworkFlags(CLI::App& app, ServerOptions& o) {
  const char* group = "Network";
  app.add_option("--listen", o.listen,
                 "gRPC port; beyond loopback only with --insecure; default: 127.0.0.1:8001")
      ->type_name("HOST:PORT")
      ->group(group);
  app.add_flag("--insecure", o.insecure,
               "Allow addresses beyond loopback, without TLS and authentication")
      ->group(group);
  app.add_flag("--reflection", o.reflection, "Server reflection beyond loopback, too")
      ->group(group);
  AddDuration(app, "--default-deadline", o.default_deadline,
              "For calls whose client sets none; default: 120")
      ->group(group);
  AddDuration(app, "--drain-delay", o.drain_delay,
              "After SIGTERM: go on accepting this long; default: 0")
      ->group(group);
  AddDuration(app, "--drain-timeout", o.drain_timeout,
              "Then: let requests run this long; default: 30")
      ->group(group);
}

void AddInputFlags(CLI::App& app, ServerOptions& o) {
  const char* group = "Input";
  AddNumber(app, "--max-images", o.limits.images, 0, 1024, "Pictures of a request; default: 16")
      ->group(group);
  AddSize(app, "--max-image-bytes", o.limits.image_bytes, "File of one picture; default: 32MiB")
      ->group(group);
  AddSize(app, "--max-images-bytes", o.limits.images_bytes,
          "Files of all pictures of a request; default: 48MiB")
      ->group(group);
  AddNumber(app, "--max-image-pixels", o.limits.image_pixels, 1, int64_t{1} << 31,
            "Width times height; default: 67108864")
      ->group(group);
  AddSize(app, "--decode-memory", o.decode_memory, "Memory of all decoding together; default: 2GiB")
      ->group(group);
  AddNumber(app, "--prepare-threads", o.prepare_threads, 1, 1024,
            "Threads that decode and tokenise; default: as --threads")
      ->group(group);
  app.add_flag("--approximate-jpeg", o.limits.approximate_jpeg,
               "Decode large JPEGs at 1/2, 1/4 or 1/8 of their size: fast, an approximation")
      ->group(group);
  app.add_flag("--approximate-padding-tiles", o.approximate_padding_tiles,
               "Leave a picture's padding tiles out of the vision tower: fast, an approximation")
      ->group(group);
  app.add_flag("--allow-raw-prompts", o.limits.allow_raw_prompts,
               "Take prompts past the template, special tokens parsed")
      ->group(group);
}

void AddRunFlags(CLI::App& app, ServerOptions& o) {
  const char* group = "Running";
  app.add_flag("--check-config", o.check_config,
               "Check flags and model, print the start table, do not serve")
      ->group(group);
  app.add_flag("--verify", o.verify,
               "Hold the model to the golden in its directory first; serve only if all of it holds")
      ->group(group);
  app.add_flag("--no-request-log", o.no_request_log, "No JSON line a request on stderr")
      ->group(group);
  AddChoice(app, "--log-level", o.log_level, Words({"debug", "info", "warning", "error"}),
            "What else is logged; default: info")
      ->group(group);
}

// Names, the kind of value, the text; without CLI11's notes on checks and environment.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_name();
    return type.empty() ? "" : " " + type;
  }
};

// --kv-memory -> TESSERA_KV_MEMORY.
void NameEnvironment(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const auto& names = option->get_lnames();
    if (names.empty() || names[0] == "help" || names[0] == "version") continue;
    std::string env = "TESSERA_" + names[0];
    std::transform(env.begin(), env.end(), env.begin(), [](char c) {
      return c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    });
    option->envname(env);
  }
}

Result<void> CheckOptions(const ServerOptions& o) {
  if (o.model.empty()) return Invalid("which model to serve is not said", {.field = "--model"});
  TESSERA_TRY(const ListenAddress address, ParseListenAddress(o.listen));
  if (!address.loopback && !o.insecure) {
    return Invalid(
        "this address is reachable from other machines, and there is no TLS and no authentication "
        "yet: only with --insecure",
        {.field = "--listen", .value = o.listen});
  }
  const std::string name = o.model_name();
  const bool safe =
      !name.empty() && name.size() <= static_cast<size_t>(kMaxNameBytes) && name != "." &&
      name != ".." &&
      name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
          std::string::npos;
  if (!safe) {
    return Invalid(
        "the model needs a name that clients can send",
        {.field = "--served-model-name", .limit = "1 to 64 of A-Z a-z 0-9 . _ -", .value = name});
  }
  for (const auto& [flag, value, high] :
       {std::tuple{"--max-image-bytes", o.limits.image_bytes, kMaxMessageBytes},
        std::tuple{"--max-images-bytes", o.limits.images_bytes, kMaxMessageBytes}}) {
    if (value < 1 || value > high) {
      return Invalid("the value is out of range",
                     {.field = flag,
                      .limit = fmt::format("1 to {} (one message)", high),
                      .value = std::to_string(value)});
    }
  }
  if (o.decode_memory < (int64_t{1} << 20)) {
    return Invalid("the value is out of range", {.field = "--decode-memory",
                                                 .limit = "at least 1MiB",
                                                 .value = std::to_string(o.decode_memory)});
  }
  return {};
}

}  // namespace

std::string ServerOptions::model_name() const {
  if (!served_model_name.empty()) return served_model_name;
  std::error_code ignored;
  std::filesystem::path path = std::filesystem::weakly_canonical(model, ignored);
  if (path.empty()) path = model;
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

Result<ListenAddress> ParseListenAddress(const std::string& text) {
  const auto bad = [&] {
    return Invalid("not an address to listen on",
                   {.field = "--listen",
                    .limit = "HOST:PORT, e.g. 127.0.0.1:8001 or [::1]:8001",
                    .value = text});
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return bad();
  ListenAddress address;
  address.host = text.substr(0, colon);
  if (address.host.front() == '[') {
    if (address.host.back() != ']') return bad();
    address.host = address.host.substr(1, address.host.size() - 2);
  } else if (address.host.find(':') != std::string::npos) {
    return bad();
  }
  if (address.host.empty() || address.host.find('/') != std::string::npos) return bad();
  const char* begin = text.data() + colon + 1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, address.port);
  if (begin == end || stop != end || error != std::errc{} || address.port < 0 ||
      address.port > 65535)
    return bad();
  const bool dotted = address.host.find_first_not_of("0123456789.") == std::string::npos;
  address.loopback = address.host == "localhost" || address.host == "::1" ||
                     (dotted && address.host.starts_with("127."));
  return address;
}

std::variant<ServerOptions, ExitRequest> ParseOptions(int argc, const char* const* argv) {
  ServerOptions options;
  CLI::App app{
      "tessera-server: serves a vision-language model over gRPC.\n"
      "Every flag is also an environment variable (--kv-memory is TESSERA_KV_MEMORY) or a line of "
      "--config (kv-memory = 4GiB)."};
  app.formatter(std::make_shared<HelpFormatter>());
  app.get_formatter()->column_width(36);
  app.name("tessera-server");
  app.set_help_flag("-h,--help", "This text")->group("Running");
  app.set_version_flag("--version", VersionText(),
                       "Versions of Tessera and of the libraries it decodes with")
      ->group("Running");
  app.set_config("--config", "", "Flags from a file: NAME = VALUE lines")
      ->type_name("FILE")
      ->group("Running");
  app.allow_config_extras(CLI::config_extras_mode::error);
  AddModelFlags(app, options);
  AddDeviceFlags(app, options);
  AddMemoryFlags(app, options);
  AddScheduleFlags(app, options);
  AddNetworkFlags(app, options);
  AddInputFlags(app, options);
  AddRunFlags(app, options);
  NameEnvironment(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return ExitRequest{.code = 0, .out = app.help()};
  } catch (const CLI::CallForVersion&) {
    return ExitRequest{.code = 0, .out = VersionText() + "\n"};
  } catch (const CLI::ParseError& error) {
    return ExitRequest{
        .code = 2,
        .err = fmt::format("tessera-server: {} (see --help)", EscapeForLog(error.what(), 400))};
  } catch (const std::exception& error) {
    return ExitRequest{.code = 2,
                       .err = fmt::format("tessera-server: {}", EscapeForLog(error.what(), 400))};
  }
  if (auto checked = CheckOptions(options); !checked) {
    return ExitRequest{.code = 2, .err = "tessera-server: " + checked.error().Describe()};
  }
  return options;
}

}  // namespace tessera
