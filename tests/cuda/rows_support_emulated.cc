// Schedules and counters of the emulated GPU.
#include "kernels/cuda/emulation/machine.h"
#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {

void ForSchedules(int schedules, const std::function<void(uint64_t)>& body) {
  cuda::emulation::Machine& machine = cuda::emulation::machine();
  const cuda::emulation::Options before = machine.options();
  for (int seed = 0; seed < schedules; ++seed) {
    machine.set_options({.checked = true, .seed = static_cast<uint64_t>(seed)});
    body(static_cast<uint64_t>(seed));
  }
  machine.set_options(before);
}

bool Counts() { return true; }
void ForgetCounters() { (void)cuda::emulation::machine().TakeReport(); }

Moved TakeCounters(const std::string& kernel) {
  const cuda::emulation::Report report = cuda::emulation::machine().TakeReport();
  const cuda::emulation::Counters sum = report.Find(kernel).counters;
  return {.counted = report.Find(kernel).launches > 0,
          .load_bytes = sum.load_bytes,
          .load_moved = sum.load_moved(),
          .store_bytes = sum.store_bytes,
          .store_moved = sum.store_moved(),
          .wavefronts = sum.wavefronts,
          .ideal_wavefronts = sum.ideal_wavefronts,
          .matrix_flops = sum.matrix_flops};
}

}  // namespace tessera::cuda_test
