#include "kernels/cuda/emulation/machine.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <thread>

#include "kernels/cuda/emulation/block.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace tessera::cuda::emulation {
namespace {

// Denormals make matrix products four times slower, and tensor cores are free to flush them.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#endif
};

// "NormKernel<tessera::cuda::bf16_t>" out of the symbol "void tessera::cuda::NormKernel<...>(...)".
std::string KernelName(const KernelLaunch& launch) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(launch.kernel), &info) == 0 || info.dli_sname == nullptr ||
      info.dli_saddr != reinterpret_cast<void*>(launch.kernel)) {
    return fmt::format("kernel launched at {}:{}", launch.site.Path(), launch.site.line);
  }
  int status = 0;
  char* demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
  std::string name = status == 0 ? demangled : info.dli_sname;
  std::free(demangled);
  int depth = 0;
  for (size_t i = 0; i < name.size(); ++i) {  // the parameter list
    depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
    if (depth == 0 && name[i] == '(') {
      name.resize(i);
      break;
    }
  }
  for (const std::string prefix : {"void ", "tessera::cuda::"}) {
    if (name.compare(0, prefix.size(), prefix) == 0) name.erase(0, prefix.size());
  }
  return name;
}

}  // namespace

// What one OS thread needs to run blocks.
class Worker {
 public:
  explicit Worker(uint32_t index) : block_(index) {}

  void RunBlocks(LaunchState& state, const std::vector<uint32_t>& order) {
    const FlushDenormals flush;
    while (!state.failed.load(std::memory_order_relaxed)) {
      const uint32_t next = state.next.fetch_add(1);
      if (next >= state.blocks) break;
      block_.Run(state, order.empty() ? next : order[next]);
    }
  }

  const SiteTable& sites() { return block_.sites(); }

  // Moves what was counted into `report`.
  void TakeCounts(KernelReport& report) {
    SiteTable& sites = block_.sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      SiteTable::Entry& entry = sites[i];
      if (entry.counters == Counters{}) continue;
      report.counters += entry.counters;
      report.sites.push_back({entry.site.Path(), entry.site.line, entry.word, entry.counters});
      entry.counters = {};
    }
  }

 private:
  Block block_;
};

// Threads that wait for launches. The caller of Execute is worker 0.
struct Machine::Pool {
  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable idle;
  uint64_t generation = 0;
  unsigned busy = 0;
  bool stop = false;
  LaunchState* state = nullptr;
  const std::vector<uint32_t>* order = nullptr;
  std::vector<std::thread> threads;

  void Loop(Worker& worker) {
    uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      lock.unlock();
      worker.RunBlocks(*state, *order);
      lock.lock();
      if (--busy == 0) idle.notify_one();
    }
  }

  ~Pool() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }
};

Machine::Machine() = default;
Machine::~Machine() = default;

Machine& machine() {
  static Machine the_machine;
  return the_machine;
}

void Machine::set_options(const Options& options) {
  const std::lock_guard lock(running_);
  if (options.workers != options_.workers) {
    pool_.reset();
    workers_.clear();
  }
  options_ = options;
}

void Machine::StartWorkers() {
  if (pool_ != nullptr) return;
  const unsigned count =
      options_.workers != 0 ? options_.workers : std::max(1u, std::thread::hardware_concurrency());
  for (unsigned i = 0; i < count; ++i) workers_.push_back(std::make_unique<Worker>(i));
  pool_ = std::make_unique<Pool>();
  for (unsigned i = 1; i < count; ++i) {
    // Not through pool_: a thread may begin after it was reset.
    pool_->threads.emplace_back(
        [pool = pool_.get(), worker = workers_[i].get()] { pool->Loop(*worker); });
  }
}

LaunchStatus Machine::Submit(Stream stream, const KernelLaunch& launch) {
  return submit_ ? submit_(stream, launch) : Execute(launch);
}

LaunchStatus Machine::Execute(const KernelLaunch& launch) {
  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  if (blocks == 0) return {};
  if (launch.threads == 0 || launch.threads > 1024 || launch.threads % kLanes != 0 ||
      launch.smem_bytes > kMaxDynamicShared || launch.grid.x > 0x7fffffffu ||
      launch.grid.y > 65535 || launch.grid.z > 65535) {
    return {kInvalidConfiguration,
            fmt::format(
                "{}: {} threads (a multiple of 32, at most 1024), {} bytes of shared memory (at "
                "most {}), grid ({}, {}, {})",
                KernelName(launch), launch.threads, launch.smem_bytes, kMaxDynamicShared,
                launch.grid.x, launch.grid.y, launch.grid.z)};
  }
  const std::lock_guard lock(running_);
  StartWorkers();
  LaunchState state;
  state.launch = &launch;
  state.name = KernelName(launch);
  state.options = options_;
  if (options_.seed != 0) state.options.seed = options_.seed * 1000003 + launches_;
  ++launches_;
  state.memory = memory_.Snapshot();
  state.blocks = static_cast<uint32_t>(blocks);
  state.first_run = next_run_;
  next_run_ += blocks;
  std::vector<uint32_t> order;
  if (options_.seed != 0) {
    order.resize(blocks);
    uint64_t random = state.options.seed | 1;
    for (uint32_t i = 0; i < blocks; ++i) {  // Fisher and Yates, from the inside
      random = random * 6364136223846793005ull + 1442695040888963407ull;
      const auto j = static_cast<uint32_t>((random >> 33) % (i + 1));
      order[i] = order[j];
      order[j] = i;
    }
  }
  for (const auto& worker : workers_) state.sites.push_back(&worker->sites());
  const bool alone = blocks == 1 || workers_.size() == 1;
  if (!alone) {
    const std::lock_guard pool_lock(pool_->mutex);
    pool_->state = &state;
    pool_->order = &order;
    pool_->busy = static_cast<unsigned>(workers_.size()) - 1;
    ++pool_->generation;
    pool_->work.notify_all();
  }
  workers_[0]->RunBlocks(state, order);
  if (!alone) {
    std::unique_lock pool_lock(pool_->mutex);
    pool_->idle.wait(pool_lock, [&] { return pool_->busy == 0; });
  }
  if (options_.checked) {
    KernelReport counted{state.name, 1, blocks, {}, {}};
    for (const auto& worker : workers_) worker->TakeCounts(counted);
    collector_.Add(counted);
  }
  if (!state.failed) return {};
  collector_.Add(state.defect);
  return {kLaunchFailure, state.defect.Describe()};
}

Report Machine::TakeReport() {
  const std::lock_guard lock(running_);
  return collector_.Take();
}

}  // namespace tessera::cuda::emulation
