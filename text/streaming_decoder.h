// Token ids to text while they are generated: the pieces joined, with what Flush gives, equal
// Tokenizer::Decode of all ids, and no piece holds half a UTF-8 character.
//
// A value: copies are independent, so that a sequence can be forked. Thread-compatible. Each Push
// costs time proportional to its token, amortised.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "text/tokenizer.h"
#include "text/tokenizer_decoder.h"

namespace tessera {

class StreamingDecoder {
 public:
  // `skip_special`: special tokens give no text.
  StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special);

  // The text that this token completes, possibly empty. A character whose bytes are not all there
  // is held back; with byte fallback, a run of byte tokens is held until it ends, because only the
  // whole run decides what it becomes.
  std::string Push(int32_t id);
  // The rest: an unfinished character becomes U+FFFD. After it the decoder stands at the start
  // again.
  std::string Flush();
  // Whether Flush would give nothing.
  bool empty() const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_;
  DecoderState state_;
};

}  // namespace tessera
