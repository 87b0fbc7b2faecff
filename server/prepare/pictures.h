// One picture: decoded, tiled, named by its digest.
#pragma once

#include <string>

#include "base/error.h"
#include "media/decode.h"
#include "media/decode_budget.h"
#include "server/prepare/frontend.h"
#include "server/prepare/input.h"

namespace tessera {

struct PreparedPicture {
  Media media;  // without its mark
  double decode_seconds = 0;
  double preprocess_seconds = 0;
  bool first_frame_only = false;  // it was an animation
  int reduced_by = 1;             // its sides were divided by this in decoding
};

// `approximate_jpeg`: a JPEG much larger than what the model is shown may be decoded at a half, a
// quarter or an eighth of its size.
//
// Thread-safe. Errors name the picture's field; of the budget: kResourceExhausted,
// kDeadlineExceeded, kCancelled.
Result<PreparedPicture> PreparePicture(const Frontend& frontend, const InputImage& image,
                                       const Digest& salt, const DecodeLimits& limits,
                                       DecodeBudget& budget, const DecodeWait& wait,
                                       bool approximate_jpeg);

// What headers show: the format, the size against the limits and the processor. Nothing is decoded.
Result<void> CheckPicture(const Frontend& frontend, const InputImage& image,
                          const DecodeLimits& limits);

}  // namespace tessera
