// Any bytes as a request: scan and conversion never crash, and whatever the scan lets through, the
// parser takes.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "server/wire/convert.h"
#include "server/wire/status_map.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const tessera::StringPayload payload(std::string(reinterpret_cast<const char*>(data), size));
  const tessera::InputLimits limits{.allow_raw_prompts = true};
  const auto generate = tessera::ConvertGenerate(payload, limits);
  if (!generate && tessera::ToWireStatus(generate.error(), "r-1").message.empty()) std::abort();
  const auto tokenize = tessera::ConvertTokenize(payload, limits);
  if (!tokenize && tessera::ToWireStatus(tokenize.error(), "r-1").message.empty()) std::abort();
  const auto model = tessera::ConvertGetModel(payload);
  (void)model;
  return 0;
}
