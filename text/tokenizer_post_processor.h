// The `post_processor` of a tokenizer.json, for one text: ids that go before and after it.
//
// Supported: TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel (which changes no
// ids), Sequence; null.
//
// Thread safety: a value.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "text/tokenizer_json.h"

namespace tessera {

struct PostProcessor {
  std::vector<int32_t> prefix, suffix;

  // Ids must be below `id_limit`.
  static Result<PostProcessor> FromJson(const JsonNode& root, int32_t id_limit);
};

}  // namespace tessera
