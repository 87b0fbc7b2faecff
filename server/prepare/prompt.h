// From messages or raw text to token ids, with the places of pictures.
//
// The template renders text that knows who wrote each byte, and the whole of it is tokenised once:
// an image mark or any other special token can come from the template alone, or from a raw prompt
// where the operator allows those.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "server/prepare/frontend.h"
#include "server/prepare/input.h"

namespace tessera {

struct Prompt {
  std::vector<int32_t> ids;    // at least one
  std::vector<int32_t> marks;  // positions of the image token, as many as pictures
  std::string rendered;        // what was tokenised; empty for raw ids
};

// Errors (kInvalidArgument, field by its path in the proto): pictures on a text model, no chat
// template, a template that refuses, marks that do not agree with the pictures, ids that the model
// does not have, longer than the context.
Result<Prompt> BuildPrompt(const Frontend& frontend, const PromptInput& input);

}  // namespace tessera
