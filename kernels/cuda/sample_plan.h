// The host's half of Sample: rows as the kernel reads them, and results out of what it writes. Pure
// functions.
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/rows.h"
#include "kernels/ops.h"

namespace tessera::cuda {

struct SamplePlan {
  std::vector<SampleTask> tasks;  // one a row
  std::vector<SampleCount> counts;
  std::vector<SampleBias> biases;
  std::vector<int32_t> banned;
};
SamplePlan PlanSample(std::span<const SampleRow> rows);

// Log-probabilities are finished here, by the function that SampleOne uses.
SampleResult SampleResultOf(const SampleOutput& output, const SampleTask& task);

}  // namespace tessera::cuda
