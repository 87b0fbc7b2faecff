// Processor time of the calling thread, in seconds: what a test may bound, since other work on the
// machine does not count. Of time on the wall tests say only that something ends.
#pragma once

#include <ctime>

namespace tessera::test {

inline double ThreadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace tessera::test
