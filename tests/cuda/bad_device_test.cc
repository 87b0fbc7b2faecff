// What a user reads when CUDA cannot be had: one line each, with what was found and what is needed.
// Libraries are put beside this executable, where kernels/cuda_library.cc looks for them; what is
// wrong with devices is said to the emulated runtime.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/device_check.h"
#include "kernels/cuda/emulation/runtime_controls.h"
#include "kernels/cuda/plugin.h"
#include "kernels/factory.h"

namespace tessera::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kLibrary = "libtessera_cuda_emulated.so";

class CudaLibrary : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(Path()); }
  void TearDown() override { std::filesystem::remove(Path()); }

  // This executable has a directory of its own.
  static std::filesystem::path Path() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path() / kLibrary;
  }
  // The one line; nothing was made.
  static std::string Refusal(const BackendOptions& options = {.device = "cuda-emulated"}) {
    const auto backend = MakeBackend(options);
    if (backend) return "a backend was made";
    EXPECT_EQ(backend.error().code, ErrorCode::kUnavailable);
    EXPECT_EQ(backend.error().field, "device");
    const std::string line = backend.error().Describe();
    EXPECT_THAT(line, Not(HasSubstr("\n")));
    return line;
  }
};

TEST_F(CudaLibrary, Missing) {
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("the CUDA library is missing"), HasSubstr(kLibrary),
                               HasSubstr("beside the executable or in ../lib")));
}

TEST_F(CudaLibrary, NotALibrary) {
  std::ofstream(Path()) << "not an ELF file\n";
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("the CUDA library does not load"), HasSubstr(kLibrary)));
}

TEST_F(CudaLibrary, NotTesseras) {
  std::filesystem::copy_file(TESSERA_FOREIGN_LIBRARY, Path());
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("not one of Tessera's"), HasSubstr(kLibrary)));
}

TEST_F(CudaLibrary, OfAnotherVersion) {
  std::filesystem::copy_file(TESSERA_FOREIGN_PLUGIN, Path());
  EXPECT_THAT(Refusal(),
              AllOf(HasSubstr("the CUDA library is of another version"),
                    HasSubstr(fmt::format("allowed: interface {}", kPluginVersion)),
                    HasSubstr(fmt::format("{} has interface {}", kLibrary, kPluginVersion + 41))));
}

// `auto` takes the CPU and says in one line why.
TEST_F(CudaLibrary, AutoSaysWhyNot) {
  std::string note;
  const auto backend = MakeBackend({.device = "auto"}, &note);
  ASSERT_TRUE(backend) << backend.error().Describe();
  EXPECT_EQ((*backend)->name(), "cpu");
  EXPECT_THAT(note, AllOf(HasSubstr("the CPU is used"), HasSubstr("the CUDA library is missing"),
                          Not(HasSubstr("\n"))));
}

class BadDevice : public ::testing::Test {
 protected:
  void TearDown() override {
    emulation::SetDeviceProps(emulation::DefaultDeviceProps());
    emulation::SetDeviceMemory(0);
    emulation::ClearFailures();
    EXPECT_EQ(emulation::CountAlive(), before_);
  }
  static Error Refused() {
    auto backend = CudaBackend::Make({.device = "cuda-emulated"});
    EXPECT_FALSE(backend);
    if (backend) return {};
    EXPECT_THAT(backend.error().Describe(), Not(HasSubstr("\n")));
    return backend.error();
  }
  static std::string RefusalOf(const DeviceProps& props) {
    emulation::SetDeviceProps(props);
    const Error error = Refused();
    EXPECT_EQ(error.code, ErrorCode::kUnavailable);
    return error.Describe();
  }
  const emulation::Alive before_ = emulation::CountAlive();
};

TEST_F(BadDevice, ADriverThatIsTooOld) {
  DeviceProps props = emulation::DefaultDeviceProps();
  props.runtime_version = 13010;
  props.driver_version = 12080;
  EXPECT_THAT(RefusalOf(props), AllOf(HasSubstr("the driver is too old"), HasSubstr("CUDA 12.8"),
                                      HasSubstr("needs 13.0 or later")));
  props.driver_version = 13000;  // an older minor version of the same major one will do
  emulation::SetDeviceProps(props);
  EXPECT_TRUE(CudaBackend::Make({.device = "cuda-emulated"}));
}

TEST_F(BadDevice, NoDriver) {
  DeviceProps props = emulation::DefaultDeviceProps();
  props.driver_version = 0;
  EXPECT_THAT(RefusalOf(props),
              AllOf(HasSubstr("no NVIDIA driver"), HasSubstr("CUDA 13.0 or later is needed")));
}

TEST_F(BadDevice, NoDevice) {
  EXPECT_TRUE(CheckDeviceCount(0, 1).ok());
  const LaunchStatus none = CheckDeviceCount(0, 0);
  EXPECT_EQ(none.code, emulation::kNoDevice);
  EXPECT_THAT(none.message, AllOf(HasSubstr("shows 0 devices"), HasSubstr("at least 1")));
  DeviceProps props;
  EXPECT_THAT(OpenDevice(1, props).message, HasSubstr("shows 1 devices, at least 2"));
  emulation::FailCall(emulation::Call::kOpenDevice, 1, emulation::kNoDevice, false);
  const Error error = Refused();
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_THAT(error.Describe(), HasSubstr("no CUDA device can be used: device"));
}

TEST_F(BadDevice, AnArchitectureThatKernelsWereNotBuiltFor) {
  DeviceProps props = emulation::DefaultDeviceProps();
  props.name = "Tesla T4";
  props.major = 7;
  props.minor = 5;
  EXPECT_THAT(RefusalOf(props), HasSubstr("Tesla T4 is sm_75, sm_80 or later is needed"));
  props.major = 13;  // one to come runs the PTX
  emulation::SetDeviceProps(props);
  EXPECT_TRUE(CudaBackend::Make({.device = "cuda-emulated"}));
}

// At every size that does not suffice: which memory, how much of it, and how much there is.
TEST_F(BadDevice, TooLittleMemory) {
  int refused = 0, made = 0;
  for (size_t bytes = size_t{1} << 18; bytes <= size_t{1} << 29; bytes *= 2) {
    emulation::SetDeviceMemory(bytes);
    const auto backend = CudaBackend::Make({.device = "cuda-emulated"});
    std::optional<Error> error;
    if (!backend) {
      error = backend.error();
    } else if (const auto reserved = (*backend)->Reserve(
                   {.max_rows = 512, .widest = 28672, .max_heads = 32, .max_head_dim = 128});
               !reserved) {
      error = reserved.error();
    } else if (const auto weights = (*backend)->Allocate(size_t{64} << 20); !weights) {
      error = weights.error();
    }
    (error ? refused : made) += 1;
    if (!error) continue;
    EXPECT_EQ(error->code, ErrorCode::kResourceExhausted) << bytes;
    EXPECT_EQ(error->field, "bytes");
    EXPECT_GT(std::stoull(error->value), 0u);
    EXPECT_THAT(error->Describe(), AllOf(HasSubstr(fmt::format("of {}", bytes)), HasSubstr("free"),
                                         Not(HasSubstr("\n"))));
  }
  EXPECT_GT(refused, 4);
  EXPECT_GT(made, 0);
}

}  // namespace
}  // namespace tessera::cuda
