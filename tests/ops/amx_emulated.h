// The AMX micro-kernel over tile registers in software.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tessera::ops_test {

// The machine's best other tier with tile products emulated. Lives as long as the process.
const cpu::Kernels& AmxEmulatedKernels();

}  // namespace tessera::ops_test
