// One Generate call: prepare, submit, stream.
#pragma once

#include <memory>

#include "server/wire/call.h"
#include "server/wire/service.h"

namespace tessera {

// Counts as preparing and in flight in `service` from here on.
std::shared_ptr<CallHandler> MakeGenerateHandler(Service& service, std::shared_ptr<Call> call);

}  // namespace tessera
