#include "kernels/cuda_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <utility>

#include "kernels/cuda/plugin.h"

namespace tessera {
namespace {

// Beside the executable, as in a build directory, or in ../lib, as installed.
std::filesystem::path FindLibrary(const std::string& file) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const std::filesystem::path directory = self.parent_path();
  for (const std::filesystem::path& candidate :
       {directory / file, directory.parent_path() / "lib" / file}) {
    if (std::filesystem::exists(candidate, error)) return candidate;
  }
  return {};
}

std::string LoaderMessage() {
  const char* message = dlerror();
  return message == nullptr ? "the loader gives no reason" : message;
}

tl::unexpected<Error> Missing(Literal what, const BackendOptions& options, std::string limit,
                              std::string detail) {
  return Fail(ErrorCode::kUnavailable, what,
              {.field = "device",
               .limit = std::move(limit),
               .value = options.device,
               .detail = std::move(detail)});
}

}  // namespace

Result<std::unique_ptr<Backend>> LoadCudaBackend(const BackendOptions& options) {
  const bool emulated = options.device == "cuda-emulated";
  const std::string file = emulated ? "libtessera_cuda_emulated.so" : "libtessera_cuda.so";
  const std::filesystem::path path = FindLibrary(file);
  if (path.empty())
    return Missing("the CUDA library is missing", options,
                   file + " beside the executable or in ../lib", "");
  // Asked before half a gigabyte of cuBLASLt is mapped for nothing.
  if (!emulated) {
    void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver == nullptr)
      return Missing("there is no NVIDIA driver", options, "libcuda.so.1", LoaderMessage());
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return Missing("the CUDA library does not load", options, file, LoaderMessage());
  const auto create =
      reinterpret_cast<cuda::CreateBackendFunction>(dlsym(library, cuda::kPluginSymbol));
  if (create == nullptr) {
    const std::string why = LoaderMessage();
    (void)dlclose(library);
    return Missing("the CUDA library is not one of Tessera's", options, file, why);
  }
  Backend* backend = nullptr;
  Error error;
  const int outcome = create(cuda::kPluginVersion, &options, &backend, &error);
  if (outcome == -1) return tl::unexpected<Error>(std::move(error));  // its texts are the library's
  if (outcome != 0) {
    (void)dlclose(library);  // it made nothing
    return Missing("the CUDA library is of another version", options,
                   fmt::format("interface {}", cuda::kPluginVersion),
                   fmt::format("{} has interface {}", file, outcome));
  }
  return std::unique_ptr<Backend>(backend);
}

}  // namespace tessera
