// What a block keeps under Options::checked.
#pragma once

#include <array>

#include "kernels/cuda/emulation/clocks.h"
#include "kernels/cuda/emulation/counting.h"
#include "kernels/cuda/emulation/global_shadow.h"
#include "kernels/cuda/emulation/shared_shadow.h"
#include "kernels/cuda/emulation/sites.h"

namespace tessera::cuda::emulation {

struct Checks {
  Clocks clocks;
  SharedShadow shared;
  GlobalActor actor;
  SiteTable sites;
  std::array<WarpLog, Clocks::kMostWarps> logs;
};

}  // namespace tessera::cuda::emulation
