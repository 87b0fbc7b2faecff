// What this machine and its cgroup let the process have.
//
// Thread safety: pure functions that read /proc and /sys.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

struct HostLimits {
  int64_t memory_available =
      0;  // bytes that may still be allocated: the least of free memory and the cgroup's rest
  int64_t cgroup_memory = 0;  // limit of the cgroup, 0: none
  double cgroup_cpus = 0;     // quota, 0: none
  int affinity_cpus = 0;
  int64_t open_files = 0;  // soft limit
};

HostLimits ReadHostLimits();

// "1.5 GiB".
std::string BytesText(int64_t bytes);

}  // namespace tessera
