#include "server/start_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "media/decode.h"
#include "server/prepare/sampling.h"
#include "server/wire/grpc_server.h"

namespace tessera {
namespace {

std::string SamplingText(const Frontend& frontend) {
  const GenerationConfig& config = frontend.generation();
  const SamplingParams s = DefaultSampling(config);
  return fmt::format(
      "temperature {}, top_k {}, top_p {}, min_p {}, repetition_penalty {}; end ids {}{}",
      s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty,
      fmt::join(frontend.eos_ids(), ", "), config.found ? "" : " (no generation_config.json)");
}

}  // namespace

std::string VersionText() {
  std::string codecs;
  for (const std::string& codec : CodecVersions()) codecs += ", " + codec;
  return fmt::format("tessera-server {} (gRPC {}{})", TESSERA_VERSION, GrpcVersion(), codecs);
}

std::string StartTable(const ServerOptions& options, const MemoryPlan& plan,
                       const Frontend& frontend, const HostLimits& host, const StartFacts& facts) {
  const ModelInfo& info = frontend.info();
  std::string out;
  const auto row = [&out](std::string_view name, const std::string& value) {
    out += fmt::format("  {:<17} {}\n", name, value);
  };
  out += VersionText() + "\n";
  row("model", fmt::format("{} ({}, {:.1f} M parameters)", options.model_name(), info.architecture,
                           static_cast<double>(info.parameters) / 1e6));
  row("device", fmt::format("{}, tier {}, {} threads", facts.device, facts.tier, facts.threads));
  row("matrix products", facts.gemm);
  if (!facts.graphs.empty()) row("graphs", facts.graphs);
  row("weights", fmt::format("{}, {}", BytesText(plan.weight_bytes), facts.weights));
  row("arithmetic",
      fmt::format("activations {}, keys and values {}", facts.activations, facts.kv_dtype));
  row("text pages",
      fmt::format("{} of {} tokens, {}: {} tokens", plan.self_pages, kKvBlockTokens,
                  BytesText(plan.self_bytes), int64_t{plan.self_pages} * kKvBlockTokens));
  if (info.has_vision()) {
    row("picture pages", fmt::format("{} tiles, {}: {} pictures of {} tiles", plan.cross_pages,
                                     BytesText(plan.cross_bytes), plan.cross_pages / info.max_tiles,
                                     info.max_tiles));
    if (info.skips_padding_tiles) row("padding tiles", "left out (approximation)");
    row("unseen rows", info.unseen_rows == UnseenRows::kAttend ? "attend" : "zero");
  }
  row("workspace",
      fmt::format("{}, {} rows a step, {} choices at a time", BytesText(plan.workspace_bytes),
                  plan.max_rows, plan.max_logits_rows));
  row("process", fmt::format("about {}", BytesText(plan.process_bytes)));
  row("context", fmt::format("{} tokens", frontend.max_context()));
  row("prefix cache", options.no_prefix_cache ? "off" : "on");
  row("sampling", SamplingText(frontend));
  row("chat template", frontend.chat_template() != nullptr ? frontend.chat_template()->name()
                                                           : "none: raw prompts only");
  row("queue", fmt::format("{} requests", options.max_queue));
  row("memory",
      fmt::format("{} needed of {} available{}; cgroup limit {}", BytesText(plan.total()),
                  BytesText(facts.device_memory > 0 ? facts.device_memory : host.memory_available),
                  facts.device_memory > 0 ? " on the device" : "",
                  host.cgroup_memory > 0 ? BytesText(host.cgroup_memory) : "none"));
  row("processors",
      fmt::format("{} by affinity; cgroup quota {}", host.affinity_cpus,
                  host.cgroup_cpus > 0 ? fmt::format("{:.1f}", host.cgroup_cpus) : "none"));
  row("open files", std::to_string(host.open_files));
  return out;
}

}  // namespace tessera
