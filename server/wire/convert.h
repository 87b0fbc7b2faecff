// From protocol buffers to plain, validated input: the one place where what a client sent is
// checked.
//
// Every count, size, range, NaN, string and enum is checked here, against server/prepare/limits.h,
// before anything is allocated by it. All errors are kInvalidArgument (kPermissionDenied for a raw
// prompt that the operator has not allowed) and name the field by its path in the proto, the limit,
// and what was found if that is a number.
//
// Thread safety: pure functions.
#pragma once

#include "base/error.h"
#include "server/prepare/input.h"
#include "server/prepare/limits.h"
#include "server/wire/payload.h"

namespace tessera {

Result<GenerateInput> ConvertGenerate(const Payload& payload, const InputLimits& limits);
Result<TokenizeInput> ConvertTokenize(const Payload& payload, const InputLimits& limits);
// The name asked for; empty: the only model.
Result<std::string> ConvertGetModel(const Payload& payload);
Result<void> ConvertListModels(const Payload& payload);

}  // namespace tessera
