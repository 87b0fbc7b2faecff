// Effective values of a request: what the client sent, else generation_config.json, else the
// defaults.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "server/engine/request.h"
#include "server/prepare/frontend.h"
#include "server/prepare/input.h"

namespace tessera {

// The model's defaults, without a client.
SamplingParams DefaultSampling(const GenerationConfig& generation);

// Fills sampling, limits and ends of `request`, whose prompt is there already. A seed is drawn
// where the client set none. max_tokens is capped to what the context leaves. Errors: ids that the
// model does not have.
Result<void> ApplyParameters(const Frontend& frontend, GenerateInput& input,
                             PreparedRequest& request);

}  // namespace tessera
