// Any bytes as a tokenizer.json: an error with a place and a reason, or a tokenizer that encodes
// and decodes, with streams that join to what decoding gives.
#include "base/check.h"
#include "text/streaming_decoder.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace {

using namespace tessera;  // NOLINT(google-build-using-namespace): a file of one function

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tokenizer =
      Tokenizer::FromJson(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!tokenizer) {
    TESSERA_CHECK(!tokenizer.error().field.empty(), "{}", tokenizer.error().Describe());
    return 0;
  }
  for (const std::string_view text : {"Hello naïve 漢字 123 <s><mask> don't\n  x",
                                      "<|eot_id|>\u0301\u0323  \t", "\xFF\x80 broken"}) {
    for (const SpecialParsing parsing : {SpecialParsing::kParse, SpecialParsing::kAsText}) {
      const auto ids = (*tokenizer)->Encode(text, parsing, true);
      const std::string whole = (*tokenizer)->Decode(ids, false);
      StreamingDecoder stream(*tokenizer, false);
      std::string joined;
      for (const int32_t id : ids) {
        TESSERA_CHECK(id >= 0 && id < (*tokenizer)->vocab_size(), "id {}", id);
        const std::string piece = stream.Push(id);
        TESSERA_CHECK(IsValidUtf8(piece), "piece \"{}\"", EscapeForLog(piece));
        joined += piece;
      }
      joined += stream.Flush();
      TESSERA_CHECK(joined == whole, "\"{}\" and \"{}\"", EscapeForLog(joined),
                    EscapeForLog(whole));
    }
  }
  return 0;
}
