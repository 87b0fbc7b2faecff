// What of a model is needed before the engine: tokenizer, chat template, image processor, sampling
// defaults.
//
// Thread safety: immutable after construction; shared by all requests.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "media/image_processor.h"
#include "model/generation_config.h"
#include "model/model.h"
#include "server/prepare/input.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tessera {

struct FrontendParts {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;        // models for plain text have none
  std::shared_ptr<const ImageProcessor> processor;  // null: text model
  GenerationConfig generation;
  ModelInfo info;
  std::string fingerprint;  // of weights and configuration, for the keys of pictures
  int max_context = 0;      // at most the model's; 0: the model's
};

class Frontend {
 public:
  explicit Frontend(FrontendParts parts);

  // Reads the directory. `generation`: "model", "none", or a file. Errors name file, key and value;
  // also where processor and model disagree about tiles.
  static Result<std::shared_ptr<const Frontend>> Load(const std::filesystem::path& directory,
                                                      const ModelInfo& info,
                                                      const std::string& generation,
                                                      int max_context,
                                                      MediaTier media_tier = BestMediaTier());

  const Tokenizer& tokenizer() const { return *parts_.tokenizer; }
  std::shared_ptr<const Tokenizer> shared_tokenizer() const { return parts_.tokenizer; }
  const ChatTemplate* chat_template() const {
    return parts_.chat_template ? &*parts_.chat_template : nullptr;
  }
  const ImageProcessor* processor() const { return parts_.processor.get(); }
  const GenerationConfig& generation() const { return parts_.generation; }
  const ModelInfo& info() const { return parts_.info; }
  const std::string& fingerprint() const { return parts_.fingerprint; }
  int max_context() const { return parts_.max_context; }
  // Union of generation_config.json and config.json, ascending.
  const std::vector<int32_t>& eos_ids() const { return eos_ids_; }
  // Whether the template goes through a list of parts in messages of this role; else it wants one
  // string. Found out by rendering, because templates differ between roles.
  bool takes_parts(Role role) const { return takes_parts_[static_cast<size_t>(role)]; }
  RenderOptions render_options(const std::string& date_string) const;

 private:
  bool ProbeParts(Role role) const;

  FrontendParts parts_;
  std::vector<int32_t> eos_ids_;
  std::array<bool, 4> takes_parts_{};
};

}  // namespace tessera
