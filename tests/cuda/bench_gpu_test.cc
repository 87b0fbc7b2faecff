// Every case of `make bench-gpu` runs, here at tiny shapes on the emulated GPU with every detector
// on: a benchmark that reads or writes what is not there would be found on the day of the GPU.
#include <gtest/gtest.h>

#include <set>

#include "tests/cuda/rows_support.h"
#include "tools/bench_gpu/cases.h"
#include "tools/bench_gpu/peaks.h"

namespace tessera::bench {
namespace {

TEST(BenchGpu, EveryCaseRunsTwice) {
  std::set<std::string> names, kernels;
  cuda::DeviceProps props;
  ASSERT_TRUE(cuda::OpenDevice(0, props).ok());
  cuda_test::ForSchedules(2, [&](uint64_t) {
    for (const Case& one : Cases(Shapes::Tiny(), props)) {
      Memory memory(cuda_test::TestStream());
      const Work work = one.make(memory);
      ASSERT_TRUE(memory.status().ok()) << one.name << ": " << memory.status().message;
      EXPECT_GT(work.bytes, 0) << one.name;
      for (int turn = 0; turn < 2; ++turn) {  // the second time finds what the first left
        if (work.before) cuda_test::ExpectRan(work.before(cuda_test::TestStream()), one.name);
        cuda_test::ForgetCounters();
        cuda_test::ExpectRan(work.run(cuda_test::TestStream()), one.name);
        if (one.kernel == "cuBLASLt") continue;
        EXPECT_TRUE(cuda_test::TakeCounters(one.kernel).counted) << one.name << ": " << one.kernel;
      }
      names.insert(one.name);
      kernels.insert(one.kernel);
    }
  });
  EXPECT_GE(names.size(), 25u);
  EXPECT_EQ(kernels.size(), 15u);
}

TEST(BenchGpu, PeaksDoWhatTheyCount) {
  cuda_test::ForSchedules(1, [](uint64_t) {
    const cuda::Stream stream = cuda_test::TestStream();
    Memory memory(stream);
    const CopyPeakParams copy{memory.Numbers<uint8_t>(40000), memory.Zeros<uint8_t>(40000), 40000};
    cuda_test::ForgetCounters();
    cuda_test::ExpectRan(LaunchCopyPeak(copy, 3, stream), "copy");
    const auto copied = cuda_test::TakeCounters("tessera::bench::CopyPeakKernel");
    EXPECT_EQ(copied.load_bytes, 40000u);
    EXPECT_EQ(copied.store_bytes, 40000u);
    const MmaPeakParams mma{memory.Zeros<float>(int64_t{2} * kMmaPeakThreads * 4), 3};
    cuda_test::ExpectRan(LaunchMmaPeak(mma, 2, stream), "mma");
    EXPECT_EQ(
        static_cast<double>(cuda_test::TakeCounters("tessera::bench::MmaPeakKernel").matrix_flops),
        MmaPeakFlops(mma, 2));
  });
}

}  // namespace
}  // namespace tessera::bench
