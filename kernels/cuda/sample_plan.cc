#include "kernels/cuda/sample_plan.h"

#include <algorithm>
#include <limits>

#include "kernels/sampling.h"

namespace tessera::cuda {

static_assert(kSampleAlternatives == kMaxLogprobs);

namespace {

// Entries of all rows, one after another, each row's sorted by id: the kernel's thread of an id's
// first entry does all of that id's.
template <typename Entry, typename Source, typename Convert>
void Append(std::vector<Entry>& all, std::span<const Source> entries, int32_t& begin, int32_t& end,
            Convert&& convert) {
  begin = static_cast<int32_t>(all.size());
  for (const Source& entry : entries) all.push_back(convert(entry));
  end = static_cast<int32_t>(all.size());
  const auto before = [](const Entry& a, const Entry& b) {
    if constexpr (std::is_same_v<Entry, int32_t>) {
      return a < b;
    } else {
      return a.id < b.id;
    }
  };
  if (!std::is_sorted(all.begin() + begin, all.end(), before))
    std::stable_sort(all.begin() + begin, all.end(), before);
}

SampleTask TaskOf(const SampleRow& row) {
  constexpr double kWeightOne = 0x1p40;
  SampleTask task{.temperature = row.temperature > 0 ? static_cast<double>(row.temperature) : 0.0,
                  .top_p = row.top_p,
                  .least = static_cast<double>(row.min_p) * kWeightOne,
                  .bits = SampleBits(row.seed, row.position, row.choice),
                  .cut = std::numeric_limits<float>::infinity(),
                  .repetition_penalty = row.repetition_penalty,
                  .frequency_penalty = row.frequency_penalty,
                  .presence_penalty = row.presence_penalty,
                  .logits_row = row.logits_row,
                  .top_k = row.top_k,
                  .alternatives = row.logprobs < 0 ? -1 : std::min(row.logprobs, kMaxLogprobs),
                  .use_top_p = row.top_p < 1 ? 1 : 0,
                  .use_min_p = row.min_p > 0 ? 1 : 0};
  // e^-28 < 2^-40. Very low temperatures are left to the exact path, where nothing is rounded away.
  if (task.temperature > 1e-30) task.cut = static_cast<float>(28.0 * task.temperature);
  return task;
}

}  // namespace

SamplePlan PlanSample(std::span<const SampleRow> rows) {
  SamplePlan plan;
  for (const SampleRow& row : rows) {
    SampleTask task = TaskOf(row);
    Append(plan.counts, row.counts, task.counts_begin, task.counts_end,
           [](const TokenCount& count) {
             return SampleCount{count.id, count.in_prompt, count.in_output};
           });
    Append(plan.biases, row.bias, task.bias_begin, task.bias_end, [](const LogitBias& bias) {
      return SampleBias{bias.id, bias.bias};
    });
    Append(plan.banned, row.banned, task.banned_begin, task.banned_end,
           [](int32_t id) { return id; });
    plan.tasks.push_back(task);
  }
  return plan;
}

SampleResult SampleResultOf(const SampleOutput& output, const SampleTask& task) {
  SampleResult result{.id = output.id, .invalid = output.invalid != 0};
  if (result.invalid || task.alternatives < 0) return result;
  const double normaliser = SampleLogNormaliser(output.raw_max, output.sum_high, output.sum_low);
  const auto logprob = [&](float logit) { return static_cast<float>(logit - normaliser); };
  result.logprob = logprob(output.id_logit);
  result.alternatives = output.alternatives;
  for (int i = 0; i < output.alternatives; ++i)
    result.top[static_cast<size_t>(i)] = {output.top_id[i], logprob(output.top_logit[i])};
  return result;
}

}  // namespace tessera::cuda
