// How the engine turns ids into text: the tokenizer's streaming decoder, or what a test puts in its
// place.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace tessera {

class TextDecoder {
 public:
  virtual ~TextDecoder() = default;
  // The text that this token completes; never half a UTF-8 character.
  virtual std::string Push(int32_t id) = 0;
  virtual std::string Flush() = 0;
};

using TextDecoderFactory = std::function<std::unique_ptr<TextDecoder>(bool skip_special)>;

}  // namespace tessera
