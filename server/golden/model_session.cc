#include "server/golden/model_session.h"

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <iterator>
#include <mutex>
#include <utility>

#include "media/digest.h"
#include "server/engine/model_runner.h"
#include "server/prepare/pictures.h"
#include "server/prepare/prompt.h"

namespace tessera::verify {
namespace {

using Json = nlohmann::ordered_json;

Digest SaltOf(const std::string& salt) {
  return DigestBuilder().Add("tessera verify").Add(salt).Finish();
}

Result<std::string> ReadPicture(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return Fail(ErrorCode::kNotFound, "a picture of the golden cannot be read",
                {.field = "images", .detail = path.string()});
  return std::string(std::istreambuf_iterator<char>(file), {});
}

bool IsLossy(std::string_view file) {
  if (file.size() < 2) return false;
  if (file[0] == '\xFF' && file[1] == '\xD8') return true;
  return file.size() >= 16 && file.starts_with("RIFF") && file.substr(8, 4) == "WEBP" &&
         file.find("VP8 ") < 4096;
}

tl::unexpected<Error> Malformed(const std::string& field) {
  return Invalid("a golden case cannot be read", {.field = field});
}

// Hugging Face's messages as the server takes them.
Result<std::vector<InputMessage>> Messages(const Json& json) {
  std::vector<InputMessage> messages;
  for (const Json& item : json) {
    InputMessage& message = messages.emplace_back();
    const std::string role = item.value("role", "");
    bool known = false;
    for (const Role candidate : {Role::kSystem, Role::kUser, Role::kAssistant, Role::kTool}) {
      if (role != RoleName(candidate)) continue;
      message.role = candidate;
      known = true;
    }
    if (!known || !item.contains("content")) return Malformed("messages");
    if (item["content"].is_string()) {
      message.parts.push_back({.text = item["content"].get<std::string>()});
      continue;
    }
    for (const Json& part : item["content"]) {
      if (part.value("type", "") == "image") {
        message.parts.push_back({.is_image = true});
      } else if (part.value("type", "") == "text" && part.contains("text") &&
                 part["text"].is_string()) {
        message.parts.push_back({.text = part["text"].get<std::string>()});
      } else {
        return Malformed("messages.content");
      }
    }
  }
  return messages;
}

// Waits for one stream.
class Waiter {
 public:
  Waiter() {
    stream_->SetListener([signal = signal_] {
      std::lock_guard lock(signal->mu);
      signal->ready = true;
      signal->changed.notify_one();
    });
  }
  const std::shared_ptr<EventStream>& stream() const { return stream_; }
  Result<SessionAnswer> Wait() {
    SessionAnswer answer;
    for (;;) {
      while (std::optional<Event> event = stream_->Pop()) {
        if (const auto* delta = std::get_if<TextDelta>(&*event)) {
          for (const TokenOut& token : delta->tokens) {
            answer.ids.push_back(token.id);
            answer.logprobs.push_back(token.logprob);
          }
        } else if (auto* end = std::get_if<RequestEnd>(&*event)) {
          if (end->error) return tl::unexpected<Error>(std::move(*end->error));
          answer.usage = end->usage;
          return answer;
        }
      }
      std::unique_lock lock(signal_->mu);
      signal_->changed.wait(lock, [&] { return signal_->ready; });
      signal_->ready = false;
    }
  }

 private:
  struct Signal {
    std::mutex mu;
    std::condition_variable changed;
    bool ready = false;  // guarded by mu
  };
  const std::shared_ptr<EventStream> stream_ = std::make_shared<EventStream>();
  const std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
};

}  // namespace

// Written by the session between requests, used by the engine's thread while one runs; the engine's
// queue and the stream order the two.
class ModelSession::EngineProbe final : public Probe {
 public:
  bool Wants(std::string_view name) const override {
    return into != nullptr && (name == "vision_hidden" || name == "projected" || name == "logits");
  }
  void Take(std::string_view name, const TensorView& host) override {
    const float* data = host.As<float>();
    if (name == "logits") {
      into->logits.insert(into->logits.end(), data, data + host.size());
    } else {
      (name == "projected" ? into->projected : into->vision_hidden)
          .emplace_back(data, data + host.size());
    }
  }
  Probed* into = nullptr;
};

ModelSession::ModelSession() : probe_(std::make_unique<EngineProbe>()) {}
ModelSession::~ModelSession() = default;

const ModelInfo& ModelSession::info() const { return engine_->info(); }

Result<std::unique_ptr<ModelSession>> ModelSession::Start(const ModelSettings& settings) {
  std::unique_ptr<ModelSession> session(new ModelSession);
  TESSERA_TRY(std::unique_ptr<Backend> backend, MakeBackend(settings.backend));
  session->operands_ = backend->operand_dtype();
  session->device_ = std::string(backend->name()) + ", " + std::string(backend->tier());
  session->batch_invariant_ = backend->batch_invariant();
  TESSERA_TRY(std::shared_ptr<const Model> model,
              LoadModel(settings.model, *backend,
                        {.format = settings.weights,
                         .unseen_rows = settings.unseen_rows,
                         .kv_dtype = backend->operand_dtype()}));
  const ModelInfo& info = model->info();
  TESSERA_TRY(session->frontend_, Frontend::Load(settings.model, info, "none", 0,
                                                 MediaTierOf(settings.backend.cpu_isa)));
  ModelRunnerOptions options;
  options.pools.self_pages = (settings.longest / kKvBlockTokens + 1) * std::min(settings.cases, 16);
  options.pools.cross_pages =
      info.has_vision() ? info.max_tiles * std::max(1, settings.most_pictures) * 4 : 0;
  options.max_rows = 256;
  options.max_logits_rows = 32;
  options.probe = session->probe_.get();
  TESSERA_TRY(std::unique_ptr<ModelRunner> runner,
              MakeModelRunner(std::move(backend), std::move(model), options));
  session->engine_ = std::make_unique<Engine>(EngineOptions{}, std::move(runner),
                                              session->frontend_->tokenizer(), session->clock_);
  return session;
}

Result<std::vector<int32_t>> ModelSession::Ids(const Json& item, const Json& spec, size_t images,
                                               std::optional<std::string>& rendered) const {
  const std::string kind = item.value("kind", "");
  const Tokenizer& tokenizer = frontend_->tokenizer();
  const bool mllama = info().family == "mllama";
  const bool specials = item.contains("add_special_tokens")
                            ? item.value("add_special_tokens", false)
                            : spec.value("add_special_tokens", false);
  PromptInput input;
  input.images.resize(images);
  input.date_string = spec.value("date_string", "");
  if (kind == "ids") {
    input.kind = PromptInput::Kind::kRawTokens;
    if (!item.contains("ids")) return Malformed("ids");
    input.token_ids = item["ids"].get<std::vector<int32_t>>();
  } else if (kind == "text") {
    if (!item.contains("text")) return Malformed("text");
    input.kind = PromptInput::Kind::kRawText;
    input.text = item["text"].get<std::string>();
    if (!mllama) {
      rendered = input.text;
      return tokenizer.Encode(input.text, SpecialParsing::kParse, specials);
    }
  } else if (kind == "chat") {
    if (!item.contains("messages")) return Malformed("messages");
    TESSERA_TRY(input.messages, Messages(item["messages"]));
    if (specials && !mllama) {
      if (frontend_->chat_template() == nullptr) return Invalid("this model has no chat template");
      TESSERA_TRY(const ProvenanceText text,
                  frontend_->chat_template()->Render(item["messages"],
                                                     frontend_->render_options(input.date_string)));
      rendered = std::string(text.text());
      return tokenizer.Encode(text, true);
    }
  } else {
    return Invalid("this build has no such kind of golden case",
                   {.field = "kind", .limit = "chat, text, ids", .value = kind});
  }
  TESSERA_TRY(Prompt prompt, BuildPrompt(*frontend_, input));
  if (kind == "chat") rendered = prompt.rendered;
  if (kind != "ids" && mllama && specials) {  // then there are two BOS, as in the reference
    prompt.ids.insert(prompt.ids.begin(), tokenizer.prefix_ids().begin(),
                      tokenizer.prefix_ids().end());
    prompt.ids.insert(prompt.ids.end(), tokenizer.suffix_ids().begin(),
                      tokenizer.suffix_ids().end());
  }
  return std::move(prompt.ids);
}

Result<SessionPrompt> ModelSession::Prepare(const Json& item, const Json& spec,
                                            const std::filesystem::path& base,
                                            const std::string& salt) {
  SessionPrompt prompt;
  const std::vector<std::string> images = item.value("images", std::vector<std::string>{});
  TESSERA_TRY(prompt.ids, Ids(item, spec, images.size(), prompt.rendered));
  for (const std::string& path : images) {
    if (frontend_->processor() == nullptr) return Invalid("this model takes no pictures");
    TESSERA_TRY(std::string file, ReadPicture(base / path));
    prompt.lossy.push_back(IsLossy(file));
    TESSERA_TRY(PreparedPicture picture,
                PreparePicture(*frontend_, {.file = std::move(file), .field = "images"},
                               SaltOf(salt), {}, budget_, {}, /*approximate_jpeg=*/false));
    prompt.media.push_back(std::move(picture.media));
  }
  size_t next = 0;
  for (size_t i = 0; i < prompt.ids.size() && next < prompt.media.size(); ++i) {
    if (prompt.ids[i] == info().image_token_id) prompt.media[next++].mark = static_cast<int32_t>(i);
  }
  if (next < prompt.media.size()) return Invalid("the prompt has fewer marks than pictures");
  return prompt;
}

Result<std::vector<SessionAnswer>> ModelSession::Run(
    const std::vector<const SessionPrompt*>& prompts, int new_tokens, bool stop_at_end,
    const std::string& salt) {
  std::vector<Waiter> waiters(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto request = std::make_shared<PreparedRequest>();
    request->id = "verify";
    request->cache_salt = SaltOf(salt);
    request->prompt = prompts[i]->ids;
    request->media = prompts[i]->media;
    request->sampling.temperature = 0;
    request->sampling.logprobs = 0;
    request->max_tokens = new_tokens;
    if (stop_at_end) request->end_ids = frontend_->eos_ids();
    request->arrival = clock_.Now();
    request->deadline = request->arrival + std::chrono::hours(24);
    TESSERA_TRY([[maybe_unused]] const RequestHandle handle,
                engine_->Submit(std::move(request), waiters[i].stream()));
  }
  std::vector<SessionAnswer> answers;
  for (Waiter& waiter : waiters) {
    TESSERA_TRY(SessionAnswer answer, waiter.Wait());
    answers.push_back(std::move(answer));
  }
  return answers;
}

Result<SessionAnswer> ModelSession::RunProbed(const SessionPrompt& prompt, int new_tokens,
                                              bool stop_at_end, const std::string& salt,
                                              Probed& probed) {
  probe_->into = &probed;
  Result<std::vector<SessionAnswer>> answers = Run({&prompt}, new_tokens, stop_at_end, salt);
  probe_->into = nullptr;
  if (!answers) return tl::unexpected<Error>(std::move(answers).error());
  return std::move(answers->front());
}

}  // namespace tessera::verify
