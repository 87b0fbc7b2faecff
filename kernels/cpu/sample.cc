// Sample: rows are independent, each on one thread, by the exact definition (kernels/sampling.h).
#include "kernels/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/sampling.h"

namespace tessera {

void CpuBackend::Sample(const SampleArgs& args) {
  ShapeCheck check("Sample");
  check.View("logits", args.logits, "LV", DType::kF32);
  check.Extent("rows", 'I', std::ssize(args.rows));
  check.Extent("results", 'I', std::ssize(args.results));
  check.True(check['V'] <= kMaxSampleVocab, "logits", "a vocabulary of at most 4194304",
             check['V']);
  for (const SampleRow& row : args.rows)
    check.True(row.logits_row >= 0 && row.logits_row < check['L'], "rows", "a row of logits",
               row.logits_row);
  const auto vocab = static_cast<size_t>(check['V']);
  pool_.Run(check['I'], [&](int64_t i, int worker) {
    const SampleRow& row = args.rows[static_cast<size_t>(i)];
    const float* logits =
        static_cast<const float*>(args.logits.data) + row.logits_row * args.logits.stride[0];
    args.results[static_cast<size_t>(i)] = SampleOne(
        {logits, vocab}, row, {ThreadScratch<SampleCandidate>("Sample", worker, vocab), vocab},
        kernels_.sample_weight_sum);
  });
}

}  // namespace tessera
