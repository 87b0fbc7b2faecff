#include "text/streaming_decoder.h"

#include <utility>

#include "text/tokenizer_impl.h"

namespace tessera {

StreamingDecoder::StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)),
      skip_special_(skip_special),
      state_(tokenizer_->impl_->decoder.Start()) {}

std::string StreamingDecoder::Push(int32_t id) {
  std::string text;
  tokenizer_->impl_->Push(state_, id, skip_special_, text);
  return text;
}

std::string StreamingDecoder::Flush() {
  std::string text;
  tokenizer_->impl_->decoder.Finish(state_, text);
  return text;
}

bool StreamingDecoder::empty() const { return tokenizer_->impl_->decoder.NothingPending(state_); }

}  // namespace tessera
