#include "client/cli_commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

namespace tessera::cli {
namespace {

using Json = nlohmann::ordered_json;

int Fail(const CallStatus& status) {
  fmt::print(stderr, "tessera: {}: {}\n", status.code, status.message);
  if (status.retry_after)
    fmt::print(stderr, "tessera: the server suggests trying again in {} ms\n",
               status.retry_after->count());
  return kFailed;
}

int WrongUsage(const std::string& message) {
  fmt::print(stderr, "tessera: {}\n", message);
  return kUsage;
}

std::string ReadAll(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

std::optional<std::string> ReadFile(const std::string& path) {
  if (path == "-") return ReadAll(std::cin);
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string bytes = ReadAll(file);
  if (file.bad()) return std::nullopt;
  return bytes;
}

// Reads the pictures; on failure prints why and returns nothing.
std::optional<std::vector<std::string>> ReadImages(const std::vector<std::string>& paths) {
  std::vector<std::string> images;
  for (const std::string& path : paths) {
    std::optional<std::string> bytes = ReadFile(path);
    if (!bytes || bytes->empty()) {
      WrongUsage(
          fmt::format("--image {}: {}", path, bytes ? "the file is empty" : std::strerror(errno)));
      return std::nullopt;
    }
    images.push_back(std::move(*bytes));
  }
  return images;
}

std::string ReadPrompt(const std::string& flag) {
  if (!flag.empty() && flag != "-") return flag;
  std::string text = ReadAll(std::cin);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

Json ToJson(const GenerateResult& result) {
  Json out{{"request_id", result.request_id}, {"model", result.model}};
  Json choices = Json::array();
  for (size_t i = 0; i < result.choices.size(); ++i) {
    const ChoiceResult& choice = result.choices[i];
    Json item{{"index", i},
              {"text", choice.text},
              {"ids", Json::array()},
              {"finish_reason", choice.finish_reason}};
    Json logprobs = Json::array();
    for (const ClientToken& token : choice.tokens) {
      item["ids"].push_back(token.id);
      if (!token.logprob) continue;
      Json entry{{"id", token.id}, {"logprob", *token.logprob}, {"top", Json::array()}};
      for (const auto& [id, logprob] : token.top)
        entry["top"].push_back({{"id", id}, {"logprob", logprob}});
      logprobs.push_back(std::move(entry));
    }
    if (!logprobs.empty()) item["logprobs"] = std::move(logprobs);
    if (!choice.stop_string.empty()) item["stop_string"] = choice.stop_string;
    if (choice.stop_token) item["stop_token"] = *choice.stop_token;
    choices.push_back(std::move(item));
  }
  // The common case of one choice reads without digging.
  if (result.choices.size() == 1) {
    out["text"] = choices[0]["text"];
    out["ids"] = choices[0]["ids"];
    out["finish_reason"] = choices[0]["finish_reason"];
  }
  out["choices"] = std::move(choices);
  for (const auto& [name, value] : result.sampling) out["sampling"][name] = value;
  if (result.seed) out["sampling"]["seed"] = *result.seed;
  for (const auto& [name, value] : result.usage) out["usage"][name] = value;
  for (const auto& [name, value] : result.timings) out["timings"][name] = value;
  if (!result.notes.empty()) out["notes"] = result.notes;
  return out;
}

std::string Dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

void PrintTimings(const GenerateResult& result) {
  std::string line;
  for (const auto& [name, seconds] : result.timings)
    line += fmt::format("{}{} {:.1f} ms", line.empty() ? "" : ", ", name, seconds * 1e3);
  fmt::print(stderr, "{}\n", line);
  line.clear();
  for (const auto& [name, count] : result.usage)
    line += fmt::format("{}{} {}", line.empty() ? "" : ", ", name, count);
  fmt::print(stderr, "{}\n", line);
}

void PrintNotes(const GenerateResult& result) {
  for (const std::string& note : result.notes) fmt::print(stderr, "note: {}\n", note);
}

}  // namespace

int Generate(Client& client, GenerateFlags flags, const CancelToken& cancel) {
  const bool prompt_from_stdin = flags.prompt.empty() || flags.prompt == "-";
  int stdin_uses = prompt_from_stdin ? 1 : 0;
  for (const std::string& path : flags.images) stdin_uses += path == "-";
  if (stdin_uses > 1) return WrongUsage("stdin can be one thing only: the prompt or one --image");
  if (prompt_from_stdin && isatty(STDIN_FILENO))
    fmt::print(stderr, "Type the prompt, then Ctrl-D.\n");

  std::optional<std::vector<std::string>> images = ReadImages(flags.images);
  if (!images) return kUsage;
  std::string prompt = ReadPrompt(flags.prompt);
  GenerateParams& params = flags.params;
  if (flags.raw) {
    if (!flags.system.empty()) return WrongUsage("--system does not go with --raw");
    params.raw_prompt = std::move(prompt);
    params.raw_images = std::move(*images);
  } else {
    if (!flags.system.empty())
      params.messages.push_back({ChatRole::kSystem, {{.text = flags.system, .image = ""}}});
    params.messages.push_back(UserMessage(std::move(prompt), std::move(*images)));
  }

  const bool stream = !flags.json && params.n <= 1;
  GenerateCallbacks callbacks;
  if (stream) {
    callbacks.on_text = [](int, std::string_view text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    };
  }
  GenerateResult result;
  const CallStatus status = client.Generate(params, callbacks, &result, &cancel);
  if (stream && !result.choices[0].text.empty()) std::fputc('\n', stdout);
  if (flags.json) {
    Json json = ToJson(result);
    if (!status.ok()) json["error"] = {{"code", status.code}, {"message", status.message}};
    fmt::print("{}\n", Dump(json));
  } else if (!stream) {
    for (size_t i = 0; i < result.choices.size(); ++i)
      fmt::print("[{}] {}\n", i, result.choices[i].text);
  }
  if (!status.ok()) return Fail(status);
  PrintNotes(result);
  if (flags.show_timings) PrintTimings(result);
  return kDone;
}

int Chat(Client& client, GenerateFlags flags, CancelToken& cancel) {
  std::optional<std::vector<std::string>> pending = ReadImages(flags.images);
  if (!pending) return kUsage;
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal)
    fmt::print(stderr, "/image FILE adds a picture, /reset starts anew, /quit or Ctrl-D ends.\n");
  GenerateParams& params = flags.params;
  const auto reset = [&] {
    params.messages.clear();
    if (!flags.system.empty())
      params.messages.push_back({ChatRole::kSystem, {{.text = flags.system, .image = ""}}});
  };
  reset();
  int code = kDone;
  std::string line;
  while (!cancel.cancelled()) {
    if (terminal) fmt::print(stderr, "> ");
    if (!std::getline(std::cin, line) || line == "/quit") break;
    if (line.empty()) continue;
    if (line == "/reset") {
      reset();
      pending->clear();
      continue;
    }
    if (line.starts_with("/image ")) {
      std::optional<std::vector<std::string>> more = ReadImages({line.substr(7)});
      if (more) pending->push_back(std::move(more->front()));
      continue;
    }
    params.messages.push_back(UserMessage(line, std::exchange(*pending, {})));
    GenerateResult result;
    const CallStatus status =
        client.Generate(params,
                        {.on_text =
                             [](int, std::string_view text) {
                               std::fwrite(text.data(), 1, text.size(), stdout);
                               std::fflush(stdout);
                             }},
                        &result, &cancel);
    std::fputc('\n', stdout);
    std::fflush(stdout);
    if (!status.ok()) {
      code = Fail(status);
      params.messages.pop_back();
      continue;
    }
    code = kDone;
    PrintNotes(result);
    if (flags.show_timings) PrintTimings(result);
    params.messages.push_back(
        {ChatRole::kAssistant, {{.text = result.choices[0].text, .image = ""}}});
  }
  return code;
}

int Tokenize(Client& client, const GenerateFlags& flags, bool as_chat) {
  GenerateParams params = flags.params;
  const std::string text = ReadPrompt(flags.prompt);
  if (as_chat) params.messages.push_back(UserMessage(text));
  TokenizeResult result;
  const CallStatus status = client.Tokenize(params, text, &result);
  if (!status.ok()) return Fail(status);
  if (flags.json) {
    Json json{{"ids", result.ids}, {"tokens", Json::array()}};
    for (const std::string& token : result.tokens) json["tokens"].push_back(token);
    if (as_chat) json["rendered"] = result.rendered;
    fmt::print("{}\n", Dump(json));
  } else {
    fmt::print("{}\n", fmt::join(result.ids, " "));
  }
  return kDone;
}

int Models(Client& client, bool json) {
  std::vector<ClientModel> models;
  const CallStatus status = client.ListModels(&models);
  if (!status.ok()) return Fail(status);
  if (json) {
    Json out = Json::array();
    for (const ClientModel& model : models) out.push_back(Json::parse(model.details_json));
    fmt::print("{}\n", Dump(out));
    return kDone;
  }
  for (const ClientModel& model : models)
    fmt::print("{:<32} {:<10} {:<12} context {}\n", model.name, model.family,
               model.has_vision ? "pictures" : "text only", model.max_context);
  return kDone;
}

int Health(Client& client, const std::string& service, int wait_seconds) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(wait_seconds);
  for (;;) {
    std::string state;
    const CallStatus status = client.Health(service, &state, std::chrono::seconds(2));
    if (status.ok() && state == "SERVING") {
      fmt::print("SERVING\n");
      return kDone;
    }
    if (std::chrono::steady_clock::now() >= give_up) {
      if (!status.ok()) return Fail(status);
      fmt::print("{}\n", state);
      return kFailed;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

}  // namespace tessera::cli
