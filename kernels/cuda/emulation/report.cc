#include "kernels/cuda/emulation/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::cuda::emulation {

const char* Name(DefectKind kind) {
  switch (kind) {
    case DefectKind::kRace: return "race";
    case DefectKind::kUnwaitedCopy: return "un-waited copy";
    case DefectKind::kUninitialised: return "uninitialised";
    case DefectKind::kBounds: return "out of bounds";
    case DefectKind::kMisaligned: return "misaligned";
    case DefectKind::kDivergence: return "divergence";
    case DefectKind::kDeadlock: return "deadlock";
    case DefectKind::kBadArgument: return "bad argument";
  }
  return "?";
}

std::string Defect::Describe() const {
  return fmt::format("{}: {}: {}:{}: block ({},{},{}) thread {}: {}", Name(kind), kernel,
                     site.Path(), site.line, block[0], block[1], block[2], thread, what);
}

Counters& Counters::operator+=(const Counters& other) {
  instructions += other.instructions;
  load_bytes += other.load_bytes;
  load_sectors += other.load_sectors;
  store_bytes += other.store_bytes;
  store_sectors += other.store_sectors;
  copy_bytes += other.copy_bytes;
  atomics += other.atomics;
  wavefronts += other.wavefronts;
  ideal_wavefronts += other.ideal_wavefronts;
  shared_bytes += other.shared_bytes;
  matrix_flops += other.matrix_flops;
  barriers += other.barriers;
  warp_syncs += other.warp_syncs;
  return *this;
}

namespace {

void Merge(KernelReport& into, const KernelReport& from) {
  into.launches += from.launches;
  into.blocks += from.blocks;
  into.counters += from.counters;
  for (const SiteCounters& site : from.sites) {
    const auto found = std::ranges::find_if(into.sites, [&](const SiteCounters& s) {
      return s.line == site.line && s.file == site.file && std::string(s.word) == site.word;
    });
    if (found == into.sites.end()) {
      into.sites.push_back(site);
    } else {
      found->counters += site.counters;
    }
  }
  std::ranges::sort(into.sites, [](const SiteCounters& a, const SiteCounters& b) {
    return a.file != b.file ? a.file < b.file : a.line < b.line;
  });
}

std::string Line(const std::string& name, const Counters& c) {
  const auto ratio = [](uint64_t part, uint64_t whole) {
    return whole == 0 ? std::string("-") : fmt::format("{:.3f}", double(part) / double(whole));
  };
  return fmt::format(
      "{:<44} {:>12} {:>6} {:>12} {:>6} {:>10} {:>6} {:>13} {:>8} {:>8}\n", name, c.load_moved(),
      ratio(c.load_bytes, c.load_moved()), c.store_moved(), ratio(c.store_bytes, c.store_moved()),
      c.wavefronts, ratio(c.wavefronts, c.ideal_wavefronts), c.matrix_flops, c.barriers, c.atomics);
}

}  // namespace

KernelReport Report::Find(const std::string& prefix) const {
  KernelReport sum;
  sum.name = prefix;
  for (const KernelReport& kernel : kernels) {
    if (kernel.name.compare(0, prefix.size(), prefix) == 0) Merge(sum, kernel);
  }
  return sum;
}

std::string Report::Describe() const {
  std::string text = fmt::format(
      "{:<44} {:>12} {:>6} {:>12} {:>6} {:>10} {:>6} {:>13} {:>8} {:>8}\n", "", "loaded B", "effic",
      "stored B", "effic", "wavefronts", "/ideal", "matrix FLOP", "barriers", "atomics");
  for (const KernelReport& kernel : kernels) {
    text += Line(fmt::format("{} x{}", kernel.name, kernel.launches), kernel.counters);
    for (const SiteCounters& site : kernel.sites) {
      const size_t slash = site.file.rfind('/');
      text += Line(fmt::format("  {}:{} {}", site.file.substr(slash + 1), site.line, site.word),
                   site.counters);
    }
  }
  for (const Defect& defect : defects) text += defect.Describe() + "\n";
  return text;
}

void Collector::Add(const KernelReport& kernel) {
  const std::lock_guard lock(mutex_);
  KernelReport& sum = kernels_[kernel.name];
  sum.name = kernel.name;
  Merge(sum, kernel);
}

void Collector::Add(const Defect& defect) {
  const std::lock_guard lock(mutex_);
  defects_.push_back(defect);
}

Report Collector::Take() {
  const std::lock_guard lock(mutex_);
  Report report;
  for (auto& [name, kernel] : kernels_) report.kernels.push_back(std::move(kernel));
  report.defects = std::move(defects_);
  kernels_.clear();
  defects_.clear();
  return report;
}

}  // namespace tessera::cuda::emulation
