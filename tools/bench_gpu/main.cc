// tessera-bench-gpu: every kernel at the shapes of Llama-3.2-11B-Vision on the GPU that is there,
// beside cuBLASLt for the products (make bench-gpu). Peaks are measured in the same run: a copy for
// bytes, mma.sync out of registers for FLOPs; L2 is emptied before every launch.
//
// Exit code 0: all ran. 1: something failed. 2: wrong usage. 3: no device, one line says so.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/bench_gpu/cases.h"
#include "tools/bench_gpu/peaks.h"
#include "tools/bench_gpu/timer.h"

namespace tessera::bench {
namespace {

using Json = nlohmann::ordered_json;
using cuda::LaunchStatus;
using cuda::Stream;

struct Options {
  std::string json, filter;
  int repeats = 20;
};

struct Peaks {
  double bytes = 0, flops = 0;  // per second
};

class Bench {
 public:
  Bench(Options options, const cuda::DeviceProps& props, Stream stream)
      : options_(std::move(options)), props_(props), stream_(stream), flush_memory_(stream) {
    flush_bytes_ = 2 * std::max<size_t>(props.l2_bytes, size_t{32} << 20);
    flush_ = flush_memory_.Zeros(static_cast<int64_t>(flush_bytes_));
  }

  // False: something failed.
  bool Run() {
    if (!MeasurePeaks()) return false;
    fmt::print("{:42} {:18} {:>10} {:>9} {:>6} {:>9} {:>6} {:>6}\n", "case", "kernel", "us", "GB/s",
               "%peak", "TFLOP/s", "%peak", "%roof");
    bool good = true;
    for (const Case& one : Cases({}, props_)) {
      if (options_.filter.empty() ||
          (one.name + one.kernel).find(options_.filter) != std::string::npos)
        good = RunOne(one) && good;
    }
    if (!options_.json.empty()) {
      std::ofstream file(options_.json);
      file << Json{{"device", props_.name},
                   {"arch", fmt::format("sm_{}{}", props_.major, props_.minor)},
                   {"driver", props_.driver_version},
                   {"runtime", props_.runtime_version},
                   {"copy_bytes_per_second", peaks_.bytes},
                   {"mma_flops_per_second", peaks_.flops},
                   {"cases", results_}}
                  .dump(1)
           << "\n";
      if (!file) {
        std::fprintf(stderr, "tessera-bench-gpu: cannot write %s\n", options_.json.c_str());
        return false;
      }
    }
    return good;
  }

 private:
  double Time(const std::function<LaunchStatus(Stream)>& before,
              const std::function<LaunchStatus(Stream)>& run, const std::string& what) {
    LaunchStatus status;
    const double time = MedianMicroseconds(
        [&](Stream stream) {
          if (LaunchStatus filled = cuda::FillAsync(flush_, 0, flush_bytes_, stream); !filled.ok())
            return filled;
          return before ? before(stream) : LaunchStatus{};
        },
        run, options_.repeats, stream_, &status);
    if (time < 0)
      std::fprintf(stderr, "tessera-bench-gpu: %s: %s\n", what.c_str(), status.message.c_str());
    return time;
  }

  bool MeasurePeaks() {
    const int blocks = props_.sm_count * 8;
    {
      Memory memory(stream_);
      const int64_t bytes = int64_t{1} << 30;
      const CopyPeakParams p{memory.Numbers<uint8_t>(bytes), memory.Zeros<uint8_t>(bytes), bytes};
      const double time = Time(
          {}, [&](Stream stream) { return LaunchCopyPeak(p, blocks, stream); }, "copy");
      if (time <= 0) return false;
      peaks_.bytes = 2.0 * static_cast<double>(bytes) / time * 1e6;
    }
    Memory memory(stream_);
    const MmaPeakParams p{memory.Zeros<float>(int64_t{blocks} * kMmaPeakThreads * 4), 20000};
    const double time = Time(
        {}, [&](Stream stream) { return LaunchMmaPeak(p, blocks, stream); }, "mma");
    if (time <= 0) return false;
    peaks_.flops = MmaPeakFlops(p, blocks) / time * 1e6;
    fmt::print("{}, sm_{}{}, {} SMs, driver {}: copies {:.0f} GB/s, mma.sync bf16 {:.1f} TFLOP/s\n",
               props_.name, props_.major, props_.minor, props_.sm_count, props_.driver_version,
               peaks_.bytes / 1e9, peaks_.flops / 1e12);
    return true;
  }

  bool RunOne(const Case& one) {
    Memory memory(stream_);
    const Work work = one.make(memory);
    if (!memory.status().ok()) {
      std::fprintf(stderr, "tessera-bench-gpu: %s: %s\n", one.name.c_str(),
                   memory.status().message.c_str());
      return false;
    }
    const double time = Time(work.before, work.run, one.name);
    if (time <= 0) return false;
    const double bytes = work.bytes / time * 1e6, flops = work.flops / time * 1e6;
    const double floor = std::max(work.bytes / peaks_.bytes, work.flops / peaks_.flops) * 1e6;
    fmt::print("{:42} {:18} {:10.1f} {:9.0f} {:6.1f} {:9.2f} {:6.1f} {:6.1f}\n", one.name,
               one.kernel, time, bytes / 1e9, 100 * bytes / peaks_.bytes, flops / 1e12,
               100 * flops / peaks_.flops, 100 * floor / time);
    results_.push_back({{"case", one.name},
                        {"kernel", one.kernel},
                        {"microseconds", time},
                        {"least_bytes", work.bytes},
                        {"flops", work.flops},
                        {"bytes_per_second", bytes},
                        {"flops_per_second", flops},
                        {"of_copy_peak", bytes / peaks_.bytes},
                        {"of_mma_peak", flops / peaks_.flops},
                        {"of_roofline", floor / time}});
    return true;
  }

  const Options options_;
  const cuda::DeviceProps props_;
  const Stream stream_;
  Memory flush_memory_;
  size_t flush_bytes_ = 0;
  void* flush_ = nullptr;
  Peaks peaks_;
  Json results_ = Json::array();
};

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Times every kernel at the shapes of Llama-3.2-11B-Vision.", "tessera-bench-gpu"};
  app.add_option("--json", options.json, "Writes everything to this file");
  app.add_option("--filter", options.filter, "Only cases whose name or kernel has this in it");
  app.add_option("--repeats", options.repeats, "Timed runs of a case")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "tessera-bench-gpu: %s (see --help)\n", error.what());
    return 2;
  }
  cuda::DeviceProps props;
  Stream stream = nullptr;
  LaunchStatus status = cuda::OpenDevice(0, props);
  if (status.ok()) status = cuda::CreateStream(&stream);
  if (!status.ok()) {
    std::fprintf(stderr, "tessera-bench-gpu: nothing was timed, no CUDA device can be used: %s\n",
                 status.message.c_str());
    return 3;
  }
  const bool good = Bench(options, props, stream).Run();
  cuda::DestroyStream(stream);
  return good ? 0 : 1;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) { return tessera::bench::Main(argc, argv); }
