// Sample: rows are independent, each on one thread, by the exact definition (kernels/sampling.h).
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "kernels/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/sampling.h"

namespace tessera {

void CpuBackend::Sample(const SampleArgs& args) {
  ShapeCheck check("Sample");
  check.Sample(args);
  check.Extent("results", 'I', std::ssize(args.results));
  const auto vocab = static_cast<size_t>(check['V']);
  pool_.Run(check['I'], [&](int64_t i, int worker) {
    const SampleRow& row = args.rows[static_cast<size_t>(i)];
    const float* logits =
        static_cast<const float*>(args.logits.data) + row.logits_row * args.logits.stride[0];
    args.results[static_cast<size_t>(i)] = SampleOne(
        {logits, vocab}, row, {ThreadScratch<SampleCandidate>("Sample", worker, vocab), vocab},
        kernels_.sample_weight_sum);
  });
  drawn_.resize(args.results.size());
  std::ranges::transform(args.results, drawn_.begin(), &SampleResult::id);
}

void CpuBackend::BeginSample(const SampleArgs& args) {
  TESSERA_CHECK(draws_.size() < kMostDraws, "BeginSample: expected fewer than {} draws begun",
                kMostDraws);
  std::vector<SampleResult> results(args.rows.size());
  Sample({.logits = args.logits, .rows = args.rows, .results = results});
  draws_.push_back(std::move(results));
}

void CpuBackend::EndSample(std::span<SampleResult> results) {
  TESSERA_CHECK(!draws_.empty() && draws_.front().size() == results.size(),
                "EndSample: expected a draw of {} rows", results.size());
  std::ranges::copy(draws_.front(), results.begin());
  draws_.pop_front();
}

}  // namespace tessera
