// The table that the server prints once, when it knows what it will run.
#pragma once

#include <string>

#include "server/host_limits.h"
#include "server/memory_plan.h"
#include "server/options.h"
#include "server/prepare/frontend.h"

namespace tessera {

struct StartFacts {
  std::string device, tier;
  int threads = 0;
  std::string weights;  // format
};

// Lines that end in newlines, names in one column. Thread-safe: pure function.
std::string StartTable(const ServerOptions& options, const MemoryPlan& plan,
                       const Frontend& frontend, const HostLimits& host, const StartFacts& facts);

}  // namespace tessera
