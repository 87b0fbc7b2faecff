#include "server/engine/step_pacer.h"

#include <algorithm>

namespace tessera {
namespace {

// Of the permitted slowdown, so that the usual step stays below it.
constexpr double kAim = 0.85;
// A step that used less of its budget says little about a full one.
constexpr double kTelling = 0.5;

}  // namespace

StepPacer::StepPacer(double slowdown, double first, double least)
    : slowdown_(slowdown), least_(least), budget_(std::max(first, least)) {}

void StepPacer::Observe(int stream_rows, double joined_flops, double seconds) {
  if (stream_rows <= 0 || !(seconds > 0)) return;
  if (joined_flops <= 0) {
    // Down at once, up slowly: one step that the system held up is not what steps take.
    alone_ = alone_ <= 0 || seconds < alone_ ? seconds : alone_ + 0.125 * (seconds - alone_);
    return;
  }
  if (alone_ <= 0 || joined_flops < kTelling * budget_) return;
  const double room = (kAim * slowdown_ * alone_) / seconds;
  budget_ = std::max(least_, budget_ * std::clamp(room, 0.5, 1.25));
}

}  // namespace tessera
