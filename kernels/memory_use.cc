#include "kernels/memory_use.h"

#include <fmt/format.h>

#include <iterator>

namespace tessera {
namespace {

double Mib(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::string TextOf(std::span<const MemoryAccount> accounts, bool pinned) {
  std::string out;
  for (const MemoryAccount& account : accounts) {
    if (account.pinned != pinned) continue;
    out +=
        fmt::format("{}{} {:.1f}", out.empty() ? "" : ", ", Name(account.use), Mib(account.bytes));
    if (account.peak > account.bytes) out += fmt::format(" (peak {:.1f})", Mib(account.peak));
    if (account.limit > 0) out += fmt::format(" of at most {:.1f}", Mib(account.limit));
  }
  return out;
}

}  // namespace

std::string_view Name(MemoryUse use) {
  static constexpr std::string_view kNames[] = {"weights",   "text pages", "picture pages",
                                                "workspace", "scratch",    "staging",
                                                "draws",     "graphs"};
  static_assert(std::size(kNames) == kMemoryUses);
  return kNames[static_cast<size_t>(use)];
}

std::string MemoryText(std::span<const MemoryAccount> accounts) {
  size_t all = 0;
  for (const MemoryAccount& account : accounts) all += account.pinned ? 0 : account.bytes;
  std::string out = TextOf(accounts, false);
  out += fmt::format("{}{:.1f} in all", out.empty() ? "" : "; ", Mib(all));
  const std::string pinned = TextOf(accounts, true);
  if (!pinned.empty()) out += "; pinned: " + pinned;
  return out;
}

}  // namespace tessera
