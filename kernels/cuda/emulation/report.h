// What the emulator counted and what it found.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/emulation/site.h"

namespace tessera::cuda::emulation {

enum class DefectKind : uint8_t {
  kRace,           // two accesses that nothing orders, one of them a write
  kUnwaitedCopy,   // bytes of a cp.async touched before its wait, or left behind at the end
  kUninitialised,  // shared memory read that nobody wrote
  kBounds,         // outside every live allocation, or the block's shared memory
  kMisaligned,     // an address that is no multiple of the access's size
  kDivergence,     // not all threads came to the same barrier or warp instruction
  kDeadlock,       // a named barrier that others never come to
  kBadArgument,    // a wrapper or launch called with what the instruction does not take
};
const char* Name(DefectKind kind);

struct Defect {
  DefectKind kind = DefectKind::kBadArgument;
  std::string kernel;
  Site site{};  // where it was found
  std::array<uint32_t, 3> block{};
  uint32_t thread = 0;
  std::string what;  // one line, with the other party's place where there is one

  // "race: NormKernel: norm.cu:41: block (3,0,0) thread 17: ..."
  std::string Describe() const;
};

// Sums over warp instructions. A warp instruction is what the lanes of one warp do at one call
// site: their accesses are grouped by how often each lane passed the site since the warp last met
// (docs/cuda.md).
struct Counters {
  uint64_t instructions = 0;  // warp instructions
  uint64_t load_bytes = 0;    // global: distinct bytes the warp asked for
  uint64_t load_sectors = 0;  // global: 32-byte sectors that hold them
  uint64_t store_bytes = 0;
  uint64_t store_sectors = 0;
  uint64_t copy_bytes = 0;        // of load_bytes: by cp.async
  uint64_t atomics = 0;           // operations, lane by lane
  uint64_t wavefronts = 0;        // shared memory passes of 32 banks x 4 bytes
  uint64_t ideal_wavefronts = 0;  // the same without bank conflicts
  uint64_t shared_bytes = 0;      // lane by lane
  uint64_t matrix_flops = 0;      // 2 M N K per matrix instruction
  uint64_t barriers = 0;          // block barriers, counted once per block
  uint64_t warp_syncs = 0;        // sync_warp and shuffles, once per warp

  Counters& operator+=(const Counters& other);
  bool operator==(const Counters&) const = default;
  // Bytes that moved: whole sectors.
  uint64_t load_moved() const { return load_sectors * 32; }
  uint64_t store_moved() const { return store_sectors * 32; }
};

struct SiteCounters {
  std::string file;  // relative to the repository where the compiler was told so
  int line = 0;
  const char* word = "";  // the wrapper: "ldg", "ldmatrix", ...
  Counters counters;
};

struct KernelReport {
  std::string name;  // demangled, e.g. "NormKernel<tessera::cuda::bf16_t>"
  uint64_t launches = 0;
  uint64_t blocks = 0;
  Counters counters;
  std::vector<SiteCounters> sites;  // by file and line
};

struct Report {
  std::vector<KernelReport> kernels;  // by name; only launches that ran with Options::checked
  std::vector<Defect> defects;        // one per failed launch

  // The kernel whose name begins with `prefix`, summed over its instances.
  KernelReport Find(const std::string& prefix) const;
  std::string Describe() const;  // a table for people
};

// Where launches leave their sums. Thread safe.
class Collector {
 public:
  void Add(const KernelReport& kernel);
  void Add(const Defect& defect);
  Report Take();

 private:
  std::mutex mutex_;
  std::map<std::string, KernelReport> kernels_;
  std::vector<Defect> defects_;
};

}  // namespace tessera::cuda::emulation
