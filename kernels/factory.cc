#include "kernels/factory.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cuda_library.h"

namespace tessera {
namespace {

constexpr int kMaxThreads = 1024;

const cpu::Kernels* KernelsOf(std::string_view tier) {
  const CpuFeatures features = UsableCpuFeatures();
  if (tier == "reference") return cpu::ReferenceKernels();
  if (tier == "avx2") return features.avx_vnni ? cpu::Avx2VnniKernels() : cpu::Avx2Kernels();
  if (tier == "avx512")
    return features.avx512_vnni ? cpu::Avx512VnniKernels() : cpu::Avx512Kernels();
  if (tier == "amx") return cpu::AmxKernels();
  return nullptr;
}

}  // namespace

std::vector<std::string> AvailableCpuTiers() {
  const CpuFeatures features = UsableCpuFeatures();
  std::vector<std::string> tiers = {"reference"};
  if (features.avx2 && cpu::Avx2Kernels() != nullptr) tiers.emplace_back("avx2");
  if (features.avx512 && cpu::Avx512Kernels() != nullptr) tiers.emplace_back("avx512");
  if (features.amx && cpu::AmxKernels() != nullptr) tiers.emplace_back("amx");
  return tiers;
}

Result<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options, std::string* note) {
  if (options.device == "cuda" || options.device == "cuda-emulated")
    return LoadCudaBackend(options);
  if (options.device == "auto") {
    BackendOptions cuda = options;
    cuda.device = "cuda";
    auto backend = LoadCudaBackend(cuda);
    if (backend) return backend;
    if (note != nullptr) *note = "no CUDA, so the CPU is used: " + backend.error().Describe();
  } else if (options.device != "cpu") {
    return Invalid("unknown device", {.field = "device",
                                      .limit = "one of auto, cpu, cuda, cuda-emulated",
                                      .value = options.device});
  }
  const std::vector<std::string> tiers = AvailableCpuTiers();
  const std::string tier = options.cpu_isa == "auto" ? tiers.back() : options.cpu_isa;
  if (std::find(tiers.begin(), tiers.end(), tier) == tiers.end()) {
    const bool known = tier == "avx2" || tier == "avx512" || tier == "amx";
    const ErrorParts parts = {.field = "cpu_isa",
                              .limit = fmt::format("one of auto, {}", fmt::join(tiers, ", ")),
                              .value = options.cpu_isa};
    return known ? Invalid("this machine lacks the instruction set", parts)
                 : Invalid("unknown instruction set", parts);
  }
  if (options.threads < 0 || options.threads > kMaxThreads)
    return Invalid("thread count out of range", {.field = "threads",
                                                 .limit = fmt::format("0..{}", kMaxThreads),
                                                 .value = std::to_string(options.threads)});
  if (options.operand_dtype != DType::kF32 && options.operand_dtype != DType::kBF16)
    return Invalid("unknown activation dtype", {.field = "activations",
                                                .limit = "one of fp32, bf16",
                                                .value = std::string(Name(options.operand_dtype))});
  const int threads = options.threads == 0 ? UsableCpuCount() : options.threads;
  auto backend = std::make_unique<CpuBackend>(*KernelsOf(tier), threads, options.operand_dtype);
  if (options.pin_threads) backend->PinThreads();
  return backend;
}

}  // namespace tessera
