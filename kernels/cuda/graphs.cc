#include "kernels/cuda/graphs.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "kernels/cuda/device_check.h"

namespace tessera::cuda {

GraphCache::GraphCache(const DeviceAllocator& allocator, size_t limit,
                       std::function<void(std::string_view)> say)
    : allocator_(allocator), limit_(limit), say_(std::move(say)) {
  allocator_.SetLimit(MemoryUse::kGraphs, limit);
}

GraphCache::~GraphCache() {
  while (!graphs_.empty()) Drop(graphs_.begin());
}

bool GraphCache::Begin(int64_t key) {
  if (graphs_.contains(key)) return true;
  if (key >= refused_from_) return false;
  MakeRoom(key, largest_);
  const bool fits = bytes() + largest_ <= limit_;
  if (!fits) Refuse(key, "there is no room for another");
  return fits;
}

LaunchStatus GraphCache::Launch(int64_t key, Stream stream, bool* refused) {
  *refused = false;
  const auto found = graphs_.try_emplace(key).first;
  Kept& kept = found->second;
  GraphBuild build;
  LaunchStatus status = EndCapture(stream, &kept.graph, &build);
  if (!status.ok()) {
    Drop(found);
    if (status.code != kErrorMemoryAllocation) return status;
    Refuse(key, "the device has no memory for another");
    *refused = true;
    return {};
  }
  if (build.rebuilt) {
    ++built_;
    allocator_.GaveBack(MemoryUse::kGraphs, std::exchange(kept.bytes, build.bytes));
    allocator_.Took(MemoryUse::kGraphs, build.bytes);
    largest_ = std::max(largest_, build.bytes);
    MakeRoom(key, 0);
    if (bytes() > limit_) {
      Drop(found);
      Refuse(key, "there is no room for another");
      *refused = true;
      return {};
    }
  }
  ++launched_;
  return LaunchGraph(kept.graph, stream);
}

void GraphCache::Drop(Graphs::iterator which) {
  DestroyGraph(which->second.graph);
  allocator_.GaveBack(MemoryUse::kGraphs, which->second.bytes);
  graphs_.erase(which);
}

void GraphCache::MakeRoom(int64_t key, size_t more) {
  while (bytes() + more > limit_ && !graphs_.empty()) {
    const auto last = std::prev(graphs_.end());
    if (last->first <= key) return;
    Drop(last);
  }
}

void GraphCache::Refuse(int64_t key, std::string_view why) {
  const bool first = refused_from_ == std::numeric_limits<int64_t>::max();
  refused_from_ = std::min(refused_from_, key);
  if (!first || !say_) return;
  constexpr double kMib = 1 << 20;
  say_(
      fmt::format("CUDA graphs take {:.1f} MiB of at most {:.1f}, and {}: larger decode steps run "
                  "op by op",
                  static_cast<double>(bytes()) / kMib, static_cast<double>(limit_) / kMib, why));
}

}  // namespace tessera::cuda
