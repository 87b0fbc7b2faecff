#include "server/host_limits.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

namespace tessera {
namespace {

// The first word of a file as a number; -1 if it is none ("max") or there is no such file.
int64_t NumberIn(const char* path) {
  std::ifstream file(path);
  int64_t value = -1;
  return file >> value ? value : -1;
}

int64_t MemAvailable() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("MemAvailable:")) continue;
    std::istringstream rest(line.substr(line.find(':') + 1));
    int64_t kib = 0;
    rest >> kib;
    return kib * 1024;
  }
  return 0;
}

// cgroup v1 writes "no limit" as a number near 2^63.
bool IsLimit(int64_t bytes) { return bytes > 0 && bytes < (int64_t{1} << 60); }

double CpuQuota() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (v2 >> quota >> period && period > 0) return quota / period;
  const int64_t q = NumberIn("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
                p = NumberIn("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  return q > 0 && p > 0 ? static_cast<double>(q) / static_cast<double>(p) : 0;
}

}  // namespace

HostLimits ReadHostLimits() {
  HostLimits out;
  out.memory_available = MemAvailable();
  const bool v2 = NumberIn("/sys/fs/cgroup/memory.current") >= 0;
  const int64_t limit =
      NumberIn(v2 ? "/sys/fs/cgroup/memory.max" : "/sys/fs/cgroup/memory/memory.limit_in_bytes");
  const int64_t used = NumberIn(v2 ? "/sys/fs/cgroup/memory.current"
                                   : "/sys/fs/cgroup/memory/memory.usage_in_bytes");
  if (IsLimit(limit)) {
    out.cgroup_memory = limit;
    out.memory_available =
        std::min(out.memory_available, std::max<int64_t>(0, limit - std::max<int64_t>(0, used)));
  }
  out.cgroup_cpus = CpuQuota();
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) out.affinity_cpus = CPU_COUNT(&cpus);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    out.open_files = static_cast<int64_t>(
        std::min<rlim_t>(files.rlim_cur, static_cast<rlim_t>(std::numeric_limits<int64_t>::max())));
  }
  return out;
}

std::string BytesText(int64_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit < 4) value /= 1024, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

}  // namespace tessera
