// The table that the server prints once, when it knows what it will run.
#pragma once

#include <string>

#include "server/host_limits.h"
#include "server/memory_plan.h"
#include "server/options.h"
#include "server/prepare/frontend.h"

namespace tessera {

struct StartFacts {
  std::string device, tier, gemm;
  int threads = 0;
  std::string activations, kv_dtype;
  int64_t device_memory = 0;  // bytes that may be used of a device of its own, 0: the host's
  std::string graphs;         // empty: none
  std::string weights;        // format
};

// Lines that end in newlines, names in one column. Thread-safe: pure function.
std::string StartTable(const ServerOptions& options, const MemoryPlan& plan,
                       const Frontend& frontend, const HostLimits& host, const StartFacts& facts);

}  // namespace tessera
