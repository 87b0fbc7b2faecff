// One block of threads while it runs, and the thread that is running now.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/emulation/checks.h"
#include "kernels/cuda/emulation/fiber.h"
#include "kernels/cuda/emulation/machine.h"

namespace tessera::cuda::emulation {

class Block;
struct Warp;

inline constexpr uint32_t kLanes = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffu;
inline constexpr uint32_t kMaxWarps = 32;
inline constexpr uint32_t kMaxDynamicShared = 227 * 1024;  // of one block of sm_90 and sm_100
inline constexpr uint32_t kMaxStaticShared = 48 * 1024;
inline constexpr uint32_t kArenaBytes = kMaxDynamicShared + kMaxStaticShared + 16 * 1024;

// What the lanes of a warp, or the warps of a block, do together.
enum class Meeting : uint8_t { kNone, kSyncWarp, kShuffle, kBallot, kLdmatrix, kMma };
const char* Name(Meeting meeting);

// A cp.async between issue and wait.
struct PendingCopy {
  uint32_t smem;
  uint32_t bytes;
  const void* global;  // nullptr: zeros
  uint32_t group;
  Site site;
};

struct Thread {
  Fiber* fiber = nullptr;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint32_t index = 0;
  uint32_t lane = 0;
  uint32_t copy_group = 0;  // the open one
  std::vector<PendingCopy> copies;
  Site waits_at{};  // while it waits at a barrier
};

// What a lane brings to a meeting: pointers to its registers.
using Operands = std::array<void*, 3>;

struct Warp {
  uint32_t index = 0;
  uint32_t ready = 0;    // lanes that can go on
  uint32_t done = 0;     // lanes whose kernel returned
  uint32_t arrived = 0;  // lanes at the meeting
  uint32_t at_barrier = 0;
  uint32_t rotation = 0;  // which ready lane goes first
  Meeting meeting = Meeting::kNone;
  Site site{};
  std::array<Operands, kLanes> operands;
};

// What all blocks of a launch share.
struct LaunchState {
  const KernelLaunch* launch = nullptr;
  std::string name;
  Options options;
  std::shared_ptr<const MemoryMap> memory;
  uint64_t first_run = 0;
  uint32_t blocks = 0;
  std::atomic<uint32_t> next{0};
  std::atomic<bool> failed{false};
  Publications publications;
  std::vector<const SiteTable*> sites;  // by worker
  std::mutex mutex;
  Defect defect;  // the first
};

class Block {
 public:
  explicit Block(uint32_t worker);
  ~Block();

  // Runs block number `index` of the launch to its end, or to the launch's first defect.
  void Run(LaunchState& state, uint32_t index);

  // On fibers, by the wrappers of device.h.

  // Waits for the full warp; true for the last lane, which then does the common work with
  // everybody's operands and calls Release().
  bool Meet(Thread& me, Meeting meeting, Site site, Operands operands = {});
  void Release(Thread& me);
  void SyncThreads(Thread& me, Site site);
  void NamedBarrier(Thread& me, uint32_t id, uint32_t threads, Site site);

  // The bytes at `address` of shared memory, or of a global pointer, after the checks.
  void* Shared(Thread& me, uint32_t address, uint32_t bytes, Access access, Site site,
               const char* word);
  void* Global(Thread& me, const void* pointer, uint32_t bytes, Access access, Site site,
               const char* word);
  // A row of ldmatrix, given by one lane and read by the warp.
  void* SharedRow(Thread& me, uint32_t address, Site site);
  uint32_t SharedAddress(Thread& me, const void* pointer, Site site);
  uint32_t StaticArray(Thread& me, size_t bytes, const char* name, Site site);
  uint8_t* dynamic_shared() { return arena_; }

  void IssueCopy(Thread& me, uint32_t smem, const void* global, uint32_t bytes, bool pred,
                 Site site);
  void WaitCopies(Thread& me, uint32_t open);
  void Fence(Thread& me);
  // What the atomic on `address` publishes and learns. The caller changes the value while it holds
  // the lock: blocks on two workers must publish in the order in which they change the value.
  std::unique_lock<std::mutex> Publish(Thread& me, const void* address);

  // Records the defect, unless the launch has one, and never comes back to this block. `what` makes
  // its text: the frames of an abandoned fiber are not unwound, so they may not hold strings.
  template <typename What>
  [[noreturn]] void Fail(Thread& me, DefectKind kind, Site site, const What& what) {
    Record(me, kind, site, what());
    Abandon(me);
  }

  // The counters of a wrapper's call site; nullptr where nothing is counted.
  Counters* CountersAt(Site site, const char* word);
  SiteTable& sites() { return checks_->sites; }
  uint32_t OffsetOf(const void* shared) const {
    return static_cast<uint32_t>(static_cast<const uint8_t*>(shared) - arena_);
  }

  const KernelLaunch& launch() const { return *state_->launch; }
  const std::array<uint32_t, 3>& position() const { return position_; }

 private:
  struct Static {
    Site site;
    uint32_t begin;
    uint32_t bytes;
  };
  struct Named {
    uint32_t arrived = 0;
    uint32_t threads = 0;
    Site site{};
    std::array<uint32_t, kMaxWarps> lanes{};
  };

  static void FiberMain();
  void Prepare(LaunchState& state, uint32_t index);
  void Wait(Thread& me);    // runs others until somebody makes `me` ready
  Thread* NextReady();      // nullptr: nobody can go on
  void Finish(Thread& me);  // `me`'s kernel returned
  void OpenBarrier(Thread& last);
  void ExplainStop();  // nobody is ready and not everybody is done
  uint64_t Random();
  void Record(const Thread& me, DefectKind kind, Site site, std::string what);
  [[noreturn]] void Abandon(Thread& me);
  void FlushLog(const Warp& warp);
  uint32_t CheckShared(Thread& me, uint32_t address, uint32_t bytes, Site site, const char* word);
  void Report(Thread& me, const SharedShadow::Finding& finding, Site site, const char* word);
  void Report(Thread& me, const GlobalShadow::Finding& finding, Site site, const char* word);
  std::string Where(uint32_t thread) const;

  const uint32_t worker_;
  LaunchState* state_ = nullptr;
  bool checked_ = false;
  std::unique_ptr<Checks> checks_;
  uint32_t index_ = 0;
  std::array<uint32_t, 3> position_{};
  uint32_t warps_in_use_ = 0;
  uint32_t ready_warps_ = 0;
  uint32_t done_ = 0;
  uint32_t current_warp_ = 0;
  uint32_t barrier_arrived_ = 0;
  Site barrier_site_{};
  uint64_t random_ = 0;
  bool failed_ = false;

  FiberStacks stacks_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Thread> threads_;
  std::array<Warp, kMaxWarps> warps_;
  std::array<Named, 16> named_;
  Fiber main_;
  uint8_t* arena_ = nullptr;
  std::vector<Static> statics_;
  uint32_t static_end_ = 0;
  std::array<const Allocation*, 64> recent_{};  // by source line
};

// The thread that runs on this OS thread now. In the initial-exec model, so that reading it is one
// instruction in a loaded library too.
[[gnu::tls_model("initial-exec")]] inline constinit thread_local Thread* current_thread = nullptr;

}  // namespace tessera::cuda::emulation
