#include "tools/bench_gpu/timer.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

namespace tessera::bench {
namespace {

constexpr int kUncounted = 2;

class TimedEvent {
 public:
  TimedEvent() { (void)cudaEventCreate(&event_); }
  ~TimedEvent() { (void)cudaEventDestroy(event_); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

double MedianMicroseconds(const std::function<cuda::LaunchStatus(cuda::Stream)>& before,
                          const std::function<cuda::LaunchStatus(cuda::Stream)>& run, int repeats,
                          cuda::Stream stream, cuda::LaunchStatus* status) {
  const TimedEvent begin, end;
  const auto queue = reinterpret_cast<cudaStream_t>(stream);
  std::vector<float> times;
  for (int i = 0; i < repeats + kUncounted; ++i) {
    if (*status = before(stream); !status->ok()) return -1;
    (void)cudaEventRecord(begin.get(), queue);
    if (*status = run(stream); !status->ok()) return -1;
    (void)cudaEventRecord(end.get(), queue);
    float milliseconds = 0;
    cudaError_t error = cudaEventSynchronize(end.get());
    if (error == cudaSuccess) error = cudaEventElapsedTime(&milliseconds, begin.get(), end.get());
    if (error != cudaSuccess) {
      *status = {error, cudaGetErrorString(error)};
      return -1;
    }
    if (i >= kUncounted) times.push_back(milliseconds * 1000);
  }
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<size_t>(repeats / 2)];
}

}  // namespace tessera::bench
