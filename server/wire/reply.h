// From the engine's events and the server's facts to serialised messages.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <vector>

#include "server/engine/events.h"
#include "server/prepare/limits.h"
#include "server/prepare/preparer.h"
#include "server/prepare/prompt.h"
#include "server/wire/served_model.h"

namespace tessera {

std::string StartedMessage(const Prepared& prepared, const std::string& client_request_id,
                           const std::string& model);
// `logprobs`: whether the client asked for them; `tokenizer` gives the bytes of alternatives.
std::string DeltaMessage(const TextDelta& delta, bool logprobs, const Tokenizer& tokenizer);
std::string ChoiceEndMessage(const ChoiceEnd& end);
std::string FinishedMessage(const RequestEnd& end);

std::string TokenizeMessage(const Prompt& prompt, bool rendered, const Tokenizer& tokenizer);
std::string ListModelsMessage(const std::vector<std::shared_ptr<const ServedModel>>& models);
// `refused`: requests that never reached the engine.
std::string GetModelMessage(const ServedModel& model, const InputLimits& limits, int max_queue,
                            int64_t refused);

}  // namespace tessera
