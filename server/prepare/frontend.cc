#include "server/prepare/frontend.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/check.h"
#include "media/digest.h"

namespace tessera {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxSmallFile = 16 << 20;

std::string ReadSmall(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::array<char, 65536> block;
  while (text.size() < kMaxSmallFile && file.read(block.data(), block.size()), file.gcount() > 0) {
    text.append(block.data(), static_cast<size_t>(file.gcount()));
  }
  return text;
}

// The configuration byte for byte and the weights by name and size: enough to tell two models of
// one process apart.
std::string Fingerprint(const std::filesystem::path& directory) {
  DigestBuilder builder;
  builder.Add("tessera model").Add(ReadSmall(directory / "config.json"));
  std::set<std::pair<std::string, int64_t>> weights;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    std::error_code ignored;
    if (entry.path().extension() == ".safetensors") {
      weights.emplace(entry.path().filename().string(),
                      static_cast<int64_t>(entry.file_size(ignored)));
    }
  }
  for (const auto& [name, size] : weights) builder.Add(name).Add(size);
  return builder.Finish().Hex();
}

Result<GenerationConfig> LoadGeneration(const std::filesystem::path& directory,
                                        const std::string& choice) {
  if (choice == "model") return GenerationConfig::FromDirectory(directory);
  if (choice == "none") return GenerationConfig{};
  std::error_code error;
  if (!std::filesystem::is_regular_file(choice, error)) {
    return Fail(ErrorCode::kNotFound, "there is no such file",
                {.field = "--generation-config", .detail = choice});
  }
  return GenerationConfig::FromJson(ReadSmall(choice));
}

Result<void> CheckTiles(const ImageProcessor& processor, const ModelInfo& info) {
  const auto differ = [](const char* key, int processor_value, int model_value) {
    return Invalid("preprocessor_config.json and config.json do not fit together",
                   {.field = key,
                    .limit = std::to_string(model_value),
                    .value = std::to_string(processor_value)});
  };
  if (processor.tile_height() != info.tile_height)
    return differ("size.height", processor.tile_height(), info.tile_height);
  if (processor.tile_width() != info.tile_width)
    return differ("size.width", processor.tile_width(), info.tile_width);
  if (processor.max_tiles() != info.max_tiles)
    return differ("max_image_tiles", processor.max_tiles(), info.max_tiles);
  return {};
}

}  // namespace

Frontend::Frontend(FrontendParts parts) : parts_(std::move(parts)) {
  TESSERA_CHECK(parts_.tokenizer != nullptr, "a frontend needs a tokenizer");
  if (parts_.max_context <= 0 || parts_.max_context > parts_.info.max_context)
    parts_.max_context = parts_.info.max_context;
  eos_ids_ = parts_.generation.eos_ids;
  eos_ids_.insert(eos_ids_.end(), parts_.info.eos_ids.begin(), parts_.info.eos_ids.end());
  std::sort(eos_ids_.begin(), eos_ids_.end());
  eos_ids_.erase(std::unique(eos_ids_.begin(), eos_ids_.end()), eos_ids_.end());
  for (const Role role : {Role::kSystem, Role::kUser, Role::kAssistant, Role::kTool}) {
    takes_parts_[static_cast<size_t>(role)] = parts_.chat_template && ProbeParts(role);
  }
}

Result<std::shared_ptr<const Frontend>> Frontend::Load(const std::filesystem::path& directory,
                                                       const ModelInfo& info,
                                                       const std::string& generation,
                                                       int max_context, MediaTier media_tier) {
  FrontendParts parts;
  parts.info = info;
  parts.max_context = max_context;
  TESSERA_TRY(parts.tokenizer, Tokenizer::Load(directory));
  if (parts.tokenizer->vocab_size() > std::max(info.embedding_rows, info.vocab_size)) {
    return Invalid("tokenizer.json has more tokens than the model",
                   {.field = "vocab_size",
                    .limit = std::to_string(info.embedding_rows),
                    .value = std::to_string(parts.tokenizer->vocab_size())});
  }
  auto chat_template = ChatTemplate::LoadFromDir(directory);
  if (chat_template) {
    parts.chat_template = *std::move(chat_template);
  } else if (chat_template.error().code != ErrorCode::kNotFound) {
    return tl::unexpected<Error>(std::move(chat_template).error());
  }
  if (info.has_vision()) {
    TESSERA_TRY(auto processor, LoadImageProcessor(directory));
    TESSERA_RETURN_IF_ERROR(CheckTiles(*processor, info));
    processor->use_tier(media_tier);
    parts.processor = std::move(processor);
  }
  TESSERA_TRY(parts.generation, LoadGeneration(directory, generation));
  parts.fingerprint = Fingerprint(directory);
  return std::make_shared<const Frontend>(std::move(parts));
}

RenderOptions Frontend::render_options(const std::string& date_string) const {
  RenderOptions options;
  const auto add = [&](const char* name, const std::optional<NamedToken>& token) {
    if (token) options.special_tokens.emplace_back(name, token->text);
  };
  add("bos_token", parts_.tokenizer->bos());
  add("eos_token", parts_.tokenizer->eos());
  add("pad_token", parts_.tokenizer->pad());
  add("unk_token", parts_.tokenizer->unk());
  if (!date_string.empty()) options.kwargs["date_string"] = date_string;
  return options;
}

// A template that does not know lists of parts shows them as Python writes them, leaves them out,
// or fails.
bool Frontend::ProbeParts(Role role) const {
  constexpr std::string_view kProbe = "Tessera probe";
  Json messages = Json::array();
  // Many templates insist that the user speaks first, or after a system message.
  if (role == Role::kAssistant || role == Role::kTool)
    messages.push_back({{"role", "user"}, {"content", "Hello"}});
  messages.push_back(
      {{"role", RoleName(role)}, {"content", Json::array({{{"type", "text"}, {"text", kProbe}}})}});
  if (role == Role::kSystem) messages.push_back({{"role", "user"}, {"content", "Hello"}});
  const auto rendered = parts_.chat_template->Render(messages, render_options("26 Jul 2024"));
  if (!rendered) return parts_.chat_template->content_format() == ContentFormat::kParts;
  const std::string_view text = rendered->text();
  return text.find(kProbe) != std::string_view::npos &&
         text.find("'type'") == std::string_view::npos &&
         text.find("\"type\"") == std::string_view::npos;
}

}  // namespace tessera
