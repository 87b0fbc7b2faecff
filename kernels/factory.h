// Makes a backend by name. The only place that knows which backends this build has; the CUDA
// backend is a shared library that is loaded here, so that one server binary runs everywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/backend.h"

namespace tessera {

struct BackendOptions {
  std::string device = "cpu";         // auto, cpu, cuda, cuda-emulated
  std::string cpu_isa = "auto";       // auto, reference, avx2, avx512, amx
  int threads = 0;                    // 0: what the cgroup quota and the affinity mask allow
  bool pin_threads = false;           // CPU: each worker to a processor of its own
  DType operand_dtype = DType::kF32;  // --activations: fp32 or bf16; on CUDA fp32 means bf16
  bool batch_invariant = false;       // CUDA: results of a row do not depend on the batch
  // CUDA: bytes of the device that graphs may take; 0: a 64th of it, at most 256 MiB.
  int64_t graph_memory = 0;
  // What happens while it runs and an operator should know, a line each, without an end. Called
  // from the thread that calls ops.
  std::function<void(std::string_view)> say = {};
};

// Errors: unknown name (INVALID_ARGUMENT with the list), a tier this machine lacks, a device that
// this build lacks, no driver, a device that cannot be used. "auto" takes CUDA where it works and
// the CPU else; *note then says in one line why.
Result<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options,
                                             std::string* note = nullptr);

// Tiers of this machine, slowest first: always "reference", then what the CPU and the kernel's
// permission allow.
std::vector<std::string> AvailableCpuTiers();

// Threads this process may really use: affinity mask and cgroup v1/v2 CPU quota, at least 1.
int UsableCpuCount();

}  // namespace tessera
