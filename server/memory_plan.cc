#include "server/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/host_limits.h"

namespace tessera {
namespace {

constexpr int64_t kPicturesKept =
    64;  // beyond this many, of most tiles, more cross pages help little

int Pages(int64_t bytes, int64_t page, int64_t least, int64_t most) {
  return static_cast<int>(std::clamp(bytes / std::max<int64_t>(page, 1), least, most));
}

}  // namespace

Result<MemoryPlan> PlanMemory(const ModelPlan& model, const ServerOptions& options,
                              int64_t available, bool own_memory, DType activations) {
  const ModelInfo& info = model.info;
  MemoryPlan plan;
  plan.weight_bytes = static_cast<int64_t>(model.weight_bytes);
  plan.max_logits_rows = options.max_running;
  plan.max_rows = std::max(options.token_budget, options.max_running);
  plan.workspace_bytes = model.workspace.Bytes(
      {.max_rows = plan.max_rows, .max_logits_rows = plan.max_logits_rows}, activations);
  plan.max_context =
      options.max_context > 0 ? std::min(options.max_context, info.max_context) : info.max_context;

  const int64_t self_page = info.self_kv.page_bytes();
  const int64_t cross_page = info.has_vision() ? info.cross_kv.page_bytes() : 0;
  const int64_t context_pages = (plan.max_context + kKvBlockTokens - 1) / kKvBlockTokens;
  const int64_t self_most = std::min<int64_t>(context_pages * options.max_running, 1 << 30);
  const int64_t cross_most =
      info.has_vision() ? std::max<int64_t>(kPicturesKept, options.limits.images) * info.max_tiles
                        : 0;
  const int64_t left =
      std::max<int64_t>(0, available - plan.total());  // nothing of it are pages yet
  int64_t budget = options.kv_memory > 0 ? options.kv_memory : own_memory ? left : left / 2;
  if (cross_most > 0) {
    plan.cross_pages = options.cross_pages > 0
                           ? options.cross_pages
                           : Pages(budget / 2, cross_page, info.max_tiles, cross_most);
    plan.cross_bytes = plan.cross_pages * cross_page;
    budget = std::max<int64_t>(0, budget - plan.cross_bytes);
  }
  plan.self_pages = options.self_pages > 0
                        ? options.self_pages
                        : Pages(budget, self_page, 4, std::max<int64_t>(4, self_most));
  plan.self_bytes = plan.self_pages * self_page;
  plan.max_context = static_cast<int>(
      std::min<int64_t>(plan.max_context, int64_t{plan.self_pages} * kKvBlockTokens));
  if (plan.total() > available) {
    return Fail(
        ErrorCode::kResourceExhausted,
        "there is not enough memory for weights, pools and workspace",
        {.field = "memory",
         .limit = BytesText(available),
         .value = fmt::format(
             "{} = weights {} + text pages {} + picture pages {} + workspace {} + process {}",
             BytesText(plan.total()), BytesText(plan.weight_bytes), BytesText(plan.self_bytes),
             BytesText(plan.cross_bytes), BytesText(plan.workspace_bytes),
             BytesText(plan.process_bytes))});
  }
  return plan;
}

}  // namespace tessera
