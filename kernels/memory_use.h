// What the memory of a backend is for, and how it says how much of it is in use. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tessera {

enum class MemoryUse : uint8_t {
  // Allocated by callers.
  kWeights,     // matrices, norms, tables
  kSelfPages,   // K/V of text
  kCrossPages,  // K/V of pictures
  kWorkspace,   // activations of a step
  // The backend's own.
  kScratch,  // of one op at a time
  kStaging,  // host data on its way to the device, and what is read back
  kDraws,    // sampled ids
  kGraphs,   // captured steps
};
inline constexpr size_t kMemoryUses = 8;
std::string_view Name(MemoryUse use);  // "weights", "text pages"

// One use of memory of the device, or of pinned memory of the host, in bytes.
struct MemoryAccount {
  MemoryUse use = MemoryUse::kWeights;
  bool pinned = false;
  size_t bytes = 0;
  size_t peak = 0;
  size_t limit = 0;  // 0: none but what there is
};

// One line without an end, in MiB: "weights 21.5, staging 32.0, graphs 1.5 of at most 128.0; 55.0
// in all; pinned: staging 36.0". A peak is told where it is above what is in use.
std::string MemoryText(std::span<const MemoryAccount> accounts);

}  // namespace tessera
