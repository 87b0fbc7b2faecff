#include "kernels/cpu/cpu_info.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "kernels/factory.h"

namespace tessera {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

double ToDouble(const std::string& text) {
  try {
    return std::stod(text);
  } catch (const std::exception&) {
    return -1;
  }
}

// Paths of this process's cgroup, from its own up to the root: a limit may stand on any of them.
std::vector<std::string> Ancestors(const std::string& mount, std::string path) {
  std::vector<std::string> found;
  for (;;) {
    found.push_back(fmt::format("{}{}", mount, path));
    if (path.empty() || path == "/") break;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
  found.push_back(mount);
  return found;
}

double CgroupQuota() {
  double least = -1;
  const auto take = [&](double cores) {
    if (cores > 0 && (least < 0 || cores < least)) least = cores;
  };
  std::istringstream lines(ReadFile("/proc/self/cgroup"));
  for (std::string line;
       std::getline(lines, line);) {  // "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1)
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      for (const std::string& folder : Ancestors("/sys/fs/cgroup", path))
        take(ParseCpuMax(ReadFile(folder + "/cpu.max")));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
        for (const std::string& folder : Ancestors(mount, path)) {
          const double quota = ToDouble(ReadFile(folder + "/cpu.cfs_quota_us"));
          const double period = ToDouble(ReadFile(folder + "/cpu.cfs_period_us"));
          if (quota > 0 && period > 0) take(quota / period);
        }
      }
    }
  }
  return least;
}

}  // namespace

double ParseCpuMax(std::string_view text) {
  std::istringstream words{std::string(text)};
  std::string quota, period;
  words >> quota >> period;
  const double quota_us = ToDouble(quota), period_us = ToDouble(period);
  return quota_us > 0 && period_us > 0 ? quota_us / period_us : -1;
}

int UsableCpuCount() {
  int count = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  // The mask may be longer than cpu_set_t on large machines: grow until the kernel accepts it.
  for (int cpus = 1024; cpus <= 1 << 16; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    const bool known = set != nullptr && sched_getaffinity(0, bytes, set) == 0;
    if (known) count = CPU_COUNT_S(bytes, set);
    CPU_FREE(set);
    if (known) break;
  }
  // Half a core more is worth a thread; a tenth is not.
  const double quota = CgroupQuota();
  if (quota > 0) count = std::min(count, static_cast<int>(std::floor(quota + 0.5)));
  return std::max(1, count);
}

CpuFeatures UsableCpuFeatures() {
  CpuFeatures features = DetectCpuFeatures();
#if defined(__x86_64__)
  if (features.amx) {
    constexpr long kArchReqXcompPerm = 0x1023, kXfeatureXtiledata = 18;
    features.amx = syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
  }
#endif
  return features;
}

}  // namespace tessera
