// The demo model's tokenizer, template and image processor, with facts of a model that is not
// loaded.
#pragma once

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "server/prepare/frontend.h"

namespace tessera::test {

struct FrontendSetup {
  bool vision = true;
  bool skips_padding_tiles = false;
  int max_context = 512;
  std::vector<int32_t> config_ends;
  GenerationConfig generation;
};

inline std::shared_ptr<const Frontend> DemoFrontend(const FrontendSetup& setup = {}) {
  const std::string demo = std::string(TESSERA_SOURCE_DIR) + "/models/demo";
  FrontendParts parts;
  auto tokenizer = Tokenizer::Load(demo);
  TESSERA_CHECK(tokenizer, "{}", tokenizer.error().Describe());
  parts.tokenizer = *std::move(tokenizer);
  auto chat_template = ChatTemplate::LoadFromDir(demo);
  TESSERA_CHECK(chat_template, "{}", chat_template.error().Describe());
  parts.chat_template = *std::move(chat_template);
  parts.info.family = "mllama";
  parts.info.vocab_size = parts.info.embedding_rows = parts.tokenizer->vocab_size();
  parts.info.max_context = setup.max_context;
  parts.info.eos_ids = setup.config_ends;
  parts.info.image_token_id = parts.tokenizer->IdOf("<|image|>").value_or(-1);
  parts.generation = setup.generation;
  parts.fingerprint = "a model";
  if (setup.vision) {
    parts.info.cross_kv.layers = 1;
    parts.info.max_tiles = 4;
    parts.info.skips_padding_tiles = setup.skips_padding_tiles;
    auto processor = LoadImageProcessor(demo);
    TESSERA_CHECK(processor, "{}", processor.error().Describe());
    parts.processor = *std::move(processor);
  }
  return std::make_shared<const Frontend>(std::move(parts));
}

inline std::string FileOf(const std::string& path) {  // relative to the repository
  std::ifstream file(std::string(TESSERA_SOURCE_DIR) + "/" + path, std::ios::binary);
  TESSERA_CHECK(file.good(), "{}", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string DemoPicture(const std::string& name) {
  return FileOf("models/demo/pictures/" + name);
}

inline InputMessage UserMessage(const std::string& text, int pictures = 0) {
  InputMessage message{.role = Role::kUser};
  for (int i = 0; i < pictures; ++i) message.parts.push_back({.is_image = true});
  message.parts.push_back({.text = text});
  return message;
}

}  // namespace tessera::test
