// tessera-server: flags, model, engine, gRPC, and down again.

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/factory.h"
#include "model/model.h"
#include "server/engine/clock.h"
#include "server/engine/engine.h"
#include "server/engine/model_runner.h"
#include "server/golden/start_check.h"
#include "server/host_limits.h"
#include "server/lifecycle.h"
#include "server/memory_plan.h"
#include "server/options.h"
#include "server/prepare/frontend.h"
#include "server/prepare/preparer.h"
#include "server/request_log.h"
#include "server/start_table.h"
#include "server/wire/auth.h"
#include "server/wire/grpc_server.h"
#include "server/wire/service.h"

namespace tessera {
namespace {

bool Says(const ServerOptions& options, std::string_view level) {
  const auto rank = [](std::string_view name) {
    return name == "debug" ? 0 : name == "info" ? 1 : name == "warning" ? 2 : 3;
  };
  return rank(level) >= rank(options.log_level);
}

struct Loaded {
  std::unique_ptr<ModelRunner> runner;
  ModelFacts facts;
};

LoadOptions MakeLoadOptions(const ServerOptions& options, const Backend& backend) {
  LoadOptions load;
  load.format = options.weights;
  load.unseen_rows = options.unseen_rows;
  load.skip_padding_tiles = options.approximate_padding_tiles;
  load.cache_dir =
      options.cache_dir == "model" ? options.model : std::filesystem::path(options.cache_dir);
  load.kv_dtype = options.kv_dtype.value_or(backend.operand_dtype());
  return load;
}

// Memory that weights, pools and workspace may take: of the device where it has its own.
int64_t UsableMemory(const ServerOptions& options, const Backend& backend, const HostLimits& host) {
  const DeviceMemory memory = backend.device_memory();
  if (memory.total == 0) return host.memory_available;
  const auto usable =
      static_cast<int64_t>(static_cast<double>(memory.free) * options.gpu_memory_utilization);
  return backend.name() == "cuda" ? usable : std::min(usable, host.memory_available);
}

// What the backend stores itself in another type than the operator asked for cannot be had.
Result<void> CheckDTypes(const ServerOptions& options, const Backend& backend) {
  const DType stored = backend.activation_dtype();
  if (stored == DType::kF32) return {};  // the CPU reads and writes keys of any type
  if (options.kv_dtype.value_or(stored) == stored) return {};
  return Invalid("this device keeps keys and values as it keeps activations",
                 {.field = "--kv-dtype",
                  .limit = std::string(Name(stored)),
                  .value = std::string(Name(*options.kv_dtype))});
}

Result<Loaded> LoadRunner(const ServerOptions& options, const MemoryPlan& plan,
                          std::unique_ptr<Backend> backend) {
  LoadOptions load = MakeLoadOptions(options, *backend);
  int shown = -1;
  const bool show = Says(options, "info");
  load.progress = [&shown, show](double share) {
    const int tenth = static_cast<int>(share * 10);
    if (show && tenth > shown)
      std::fprintf(stderr, "loading weights: %d %%\n", (shown = tenth) * 10);
  };
  load.note = [show](std::string_view line) {
    if (show) std::fprintf(stderr, "%s\n", std::string(line).c_str());
  };
  Loaded out;
  out.facts = {.device = std::string(backend->name()),
               .tier = std::string(backend->tier()),
               .gemm = std::string(backend->gemm()),
               .graphs = std::string(backend->graphs()),
               .threads = backend->threads(),
               .activations = std::string(Name(backend->operand_dtype())),
               .kv_dtype = std::string(Name(load.kv_dtype)),
               .batch_invariant = backend->batch_invariant(),
               .self_pool_bytes = plan.self_bytes,
               .cross_pool_bytes = plan.cross_bytes};
  TESSERA_TRY(auto model, LoadModel(options.model, *backend, load));
  out.facts.weights = std::string(Name(model->weight_format()));
  out.facts.weight_bytes = static_cast<int64_t>(model->weight_bytes());
  ModelRunnerOptions runner;
  runner.pools.self_pages = plan.self_pages;
  runner.pools.cross_pages = plan.cross_pages;
  runner.max_rows = plan.max_rows;
  runner.max_logits_rows = plan.max_logits_rows;
  runner.run_behind = backend->lanes() > 1;  // a device of its own computes: plan beside it
  const Backend& of_runner = *backend;
  TESSERA_TRY(out.runner, MakeModelRunner(std::move(backend),
                                          std::shared_ptr<const Model>(std::move(model)), runner));
  if (const std::vector<MemoryAccount> memory = of_runner.memory(); !memory.empty())
    load.note(fmt::format("device memory, MiB: {}", MemoryText(memory)));
  return out;
}

GrpcServerOptions TransportOptions(const ServerOptions& options, const ListenAddress& address,
                                   const HostLimits& host) {
  GrpcServerOptions out;
  out.address = options.listen;
  out.reflection = address.loopback || options.reflection;
  out.default_deadline = options.default_deadline;
  out.memory =
      std::max<int64_t>(int64_t{256} << 20, std::min(int64_t{1} << 30, host.memory_available / 4));
  return out;
}

Result<int> Serve(const ServerOptions& options, SignalWatch& signals) {
  std::error_code error;
  if (!std::filesystem::is_directory(options.model, error)) {
    return Fail(ErrorCode::kNotFound, "there is no such directory",
                {.field = "--model", .value = options.model.string()});
  }
  TESSERA_TRY(const ListenAddress address, ParseListenAddress(options.listen));
  const HostLimits host = ReadHostLimits();
  BackendOptions backend_options;
  backend_options.device = options.device;
  backend_options.cpu_isa = options.cpu_isa;
  backend_options.threads = options.threads;
  backend_options.pin_threads = options.pin_threads;
  backend_options.operand_dtype = options.activations;
  backend_options.batch_invariant = options.batch_invariant;
  if (Says(options, "warning"))
    backend_options.say = [](std::string_view line) {
      std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
    };
  std::string note;
  TESSERA_TRY(auto backend, MakeBackend(backend_options, &note));
  TESSERA_RETURN_IF_ERROR(CheckDTypes(options, *backend));
  if (options.verify && options.approximate_padding_tiles)
    return Invalid("goldens hold what the model computes, not this",
                   {.field = "--verify with --approximate-padding-tiles"});
  const LoadOptions load = MakeLoadOptions(options, *backend);
  LoadOptions planned = load;  // a device of half types keeps no fp32 matrices
  if (planned.format == WeightFormat::kAuto && backend->activation_dtype() != DType::kF32)
    planned.format = WeightFormat::kBF16;
  TESSERA_TRY(const ModelPlan model_plan, PlanModel(options.model, planned));
  const int64_t usable = UsableMemory(options, *backend, host);
  TESSERA_TRY(const MemoryPlan plan,
              PlanMemory(model_plan, options, usable, backend->device_memory().total > 0,
                         backend->activation_dtype()));
  TESSERA_TRY(const auto frontend,
              Frontend::Load(options.model, model_plan.info, options.generation_config,
                             plan.max_context, MediaTierOf(options.cpu_isa)));
  const std::string table = StartTable(
      options, plan, *frontend, host,
      {.device = std::string(backend->name()),
       .tier = std::string(backend->tier()),
       .gemm = std::string(backend->gemm()),
       .threads = backend->threads(),
       .activations = std::string(Name(backend->operand_dtype())),
       .kv_dtype = std::string(Name(load.kv_dtype)),
       .device_memory = backend->device_memory().total > 0 ? usable : 0,
       .graphs = std::string(backend->graphs()),
       .weights = (options.weights == WeightFormat::kAuto ? "as stored"
                                                          : std::string(Name(options.weights))) +
                  (model_plan.stored.empty() ? "" : "; stored as " + model_plan.stored)});
  const auto say_note = [&] {  // not before: a start that fails is one line
    if (!note.empty() && Says(options, "info")) std::fprintf(stderr, "%s\n", note.c_str());
  };
  if (options.check_config) {
    say_note();
    std::fputs(table.c_str(), stdout);
    return 0;
  }

  // From the outside in: log, preparation, service, sockets. Health says NOT_SERVING until the
  // engine runs.
  LineWriter log(STDERR_FILENO);
  RequestSink sink;
  if (!options.no_request_log)
    sink = [&log](const RequestRecord& record) { log.Write(RequestLine(record)); };
  Preparer preparer({.threads = options.prepare_threads > 0 ? options.prepare_threads
                                                            : std::max(2, backend->threads()),
                     .queue = static_cast<size_t>(options.max_queue),
                     .limits = options.limits,
                     .decode_memory = options.decode_memory});
  Service service({.max_queue = options.max_queue}, preparer, std::move(sink));
  const SingleTenant authenticator;
  TESSERA_TRY(const auto server, GrpcServer::Start(TransportOptions(options, address, host),
                                                   authenticator, service.Handlers()));
  const std::string host_text =
      address.host.find(':') == std::string::npos ? address.host : "[" + address.host + "]";
  say_note();
  std::fprintf(stderr, "%s", table.c_str());
  std::fprintf(stderr, "listening on %s:%d\n", host_text.c_str(), server->port());

  if (options.verify) {  // on a model of its own, which is gone before the served one is loaded
    const bool pictures = model_plan.info.has_vision();
    TESSERA_RETURN_IF_ERROR(verify::VerifyBeforeServing(
        {.model = options.model, .backend = backend_options, .weights = options.weights},
        pictures ? std::optional(model_plan.info.unseen_rows) : std::nullopt));
  }
  TESSERA_TRY(Loaded loaded, LoadRunner(options, plan, std::move(backend)));
  const SystemClock clock;
  const auto engine = std::make_shared<EngineHandle>(
      std::make_unique<Engine>(EngineOptions{.max_queue = options.max_queue,
                                             .max_running = options.max_running,
                                             .token_budget = options.token_budget,
                                             .speculate = options.speculate,
                                             .prefix_cache = !options.no_prefix_cache},
                               std::move(loaded.runner), frontend->tokenizer(), clock));
  signals.ServingBegins();
  service.SetModel(std::make_shared<const ServedModel>(
      ServedModel{options.model_name(), frontend, engine, std::move(loaded.facts)}));
  if (Says(options, "info")) std::fprintf(stderr, "serving %s\n", options.model_name().c_str());

  bool lost = false;
  while (!signals.WaitFor(std::chrono::milliseconds(200))) {
    if (lost || engine->healthy()) continue;
    lost = true;
    service.SetUnhealthy();
    std::fputs("the device was lost: not serving any more\n", stderr);
  }
  if (Says(options, "info"))
    std::fprintf(stderr, "draining: %d requests in flight\n", service.in_flight());
  const int left = Drain(service, *engine, *server,
                         {.delay = options.drain_delay, .timeout = options.drain_timeout});
  if (Says(options, "info")) std::fprintf(stderr, "stopped, %d requests cut off\n", left);
  return 0;
}

int Main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", 0);  // errors are told in our own words, once
  auto parsed = ParseOptions(argc, argv);
  if (const auto* exit = std::get_if<ExitRequest>(&parsed)) {
    std::fputs(exit->out.c_str(), stdout);
    if (!exit->err.empty()) std::fprintf(stderr, "%s\n", exit->err.c_str());
    return exit->code;
  }
  SignalWatch signals;
  const auto result = Serve(std::get<ServerOptions>(parsed), signals);
  if (result) return *result;
  std::fprintf(stderr, "tessera-server: %s\n", result.error().Describe().c_str());
  return 1;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  try {
    return tessera::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tessera-server: %s\n", tessera::EscapeForLog(error.what()).c_str());
    return 1;
  }
}
