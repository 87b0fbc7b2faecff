// What this process may use of the CPU. Functions have no state and are thread safe.
#pragma once

#include <string_view>

#include "base/cpu_features.h"

namespace tessera {

// AMX only where the kernel permits its use (arch_prctl), which this asks for the whole process.
CpuFeatures UsableCpuFeatures();

// Cores of a cgroup v2 "quota period" line, or -1 where there is no limit. E.g. "150000 100000"
// -> 1.5.
double ParseCpuMax(std::string_view text);

}  // namespace tessera
