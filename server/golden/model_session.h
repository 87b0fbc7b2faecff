// A model with everything that serves it (processor, template, tokenizer, engine with its caches)
// and a probe in it: the product's own path, for goldens.
//
// Thread-compatible.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/factory.h"
#include "media/decode_budget.h"
#include "model/model.h"
#include "server/engine/clock.h"
#include "server/engine/engine.h"
#include "server/prepare/frontend.h"

namespace tessera::verify {

struct ModelSettings {
  std::filesystem::path model;
  BackendOptions backend;
  WeightFormat weights = WeightFormat::kAuto;
  UnseenRows unseen_rows = UnseenRows::kAttend;
  int longest = 0;        // tokens of the longest case, its answer included
  int most_pictures = 0;  // of a case
  int cases = 1;          // that may be in flight together
  int threads = 0;
};

struct SessionPrompt {
  std::vector<int32_t> ids;
  std::optional<std::string> rendered;
  std::vector<Media> media;  // with their marks
  std::vector<bool> lossy;   // of each picture: its file's coding
};

struct SessionAnswer {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;  // of the drawn tokens
  Usage usage;
};

struct Probed {
  std::vector<std::vector<float>> vision_hidden;  // of each picture encoded, in order: [kept, P, C]
  std::vector<std::vector<float>> projected;
  std::vector<float> logits;  // [rows run, V], in order: the prompt's, then the answer's
};

class ModelSession {
 public:
  static Result<std::unique_ptr<ModelSession>> Start(const ModelSettings& settings);
  ~ModelSession();

  const ModelInfo& info() const;
  DType operands() const { return operands_; }
  std::string device() const { return device_; }
  // Whether the backend promises that a row's results do not depend on what runs beside it.
  bool batch_invariant() const { return batch_invariant_; }

  // The prompt of one of the golden's cases; `base` is what its paths of pictures are relative to.
  // Digests are salted with `salt`, so that cases share nothing that they should not.
  Result<SessionPrompt> Prepare(const nlohmann::ordered_json& item,
                                const nlohmann::ordered_json& spec,
                                const std::filesystem::path& base, const std::string& salt);

  // Greedy, all requests in flight together; answers in their order. `stop_at_end`: end ids end an
  // answer.
  Result<std::vector<SessionAnswer>> Run(const std::vector<const SessionPrompt*>& prompts,
                                         int new_tokens, bool stop_at_end, const std::string& salt);
  // As Run with one prompt, and what the probe saw.
  Result<SessionAnswer> RunProbed(const SessionPrompt& prompt, int new_tokens, bool stop_at_end,
                                  const std::string& salt, Probed& probed);

 private:
  class EngineProbe;
  ModelSession();
  Result<std::vector<int32_t>> Ids(const nlohmann::ordered_json& item,
                                   const nlohmann::ordered_json& spec, size_t images,
                                   std::optional<std::string>& rendered) const;

  DType operands_ = DType::kF32;
  std::string device_;
  bool batch_invariant_ = true;
  std::unique_ptr<EngineProbe> probe_;
  SystemClock clock_;
  std::shared_ptr<const Frontend> frontend_;
  DecodeBudget budget_{DecodeBudget::kDefaultBytes};
  std::unique_ptr<Engine> engine_;  // its thread uses the others
};

}  // namespace tessera::verify
