// The engine's text as the product makes it: by the model's tokenizer.
#include <memory>

#include "server/engine/engine.h"
#include "text/streaming_decoder.h"

namespace tessera {
namespace {

class TokenizerDecoder final : public TextDecoder {
 public:
  TokenizerDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
      : decoder_(std::move(tokenizer), skip_special) {}
  std::string Push(int32_t id) override { return decoder_.Push(id); }
  std::string Flush() override { return decoder_.Flush(); }

 private:
  StreamingDecoder decoder_;
};

}  // namespace

Engine::Engine(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
               const Tokenizer& tokenizer, const Clock& clock)
    : Engine(
          options, std::move(runner),
          // Not owning: the caller keeps the tokenizer alive.
          [shared = std::shared_ptr<const Tokenizer>(std::shared_ptr<void>(), &tokenizer)](
              bool skip_special) {
            return std::make_unique<TokenizerDecoder>(shared, skip_special);
          },
          clock) {}

}  // namespace tessera
