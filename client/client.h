// The C++ client of a Tessera server. gRPC and protobuf stay behind it: include this one header,
// link tessera_client.
//
// Thread safety: a Client may be used from several threads; each call blocks its caller. Cancel
// through a CancelToken.
//
//   tessera::Client client("127.0.0.1:8001");
//   tessera::GenerateParams params;
//   params.messages.push_back(tessera::UserMessage("What is this?", {picture_bytes}));
//   tessera::CallStatus status = client.Generate(params, {.on_text = [](int, std::string_view text)
//   { std::cout << text; }});
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// How a call ended: `code` is gRPC's name ("OK", "INVALID_ARGUMENT", ...).
struct CallStatus {
  std::string code = "OK";
  std::string message;
  std::optional<std::chrono::milliseconds>
      retry_after;  // the server's hint, with RESOURCE_EXHAUSTED
  bool ok() const { return code == "OK"; }
};

enum class ChatRole { kSystem, kUser, kAssistant, kTool };

struct ChatPart {
  std::string text;   // one of both
  std::string image;  // bytes of a JPEG, PNG or WebP file
};

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::vector<ChatPart> parts;
};

// A user's message: the pictures first, then the text.
ChatMessage UserMessage(std::string text, std::vector<std::string> images = {});

struct GenerateParams {
  std::string model;                  // empty: the server's only one
  std::vector<ChatMessage> messages;  // a conversation, or
  std::optional<std::string>
      raw_prompt;  // text as it is, where the server allows it; with raw_images
  std::vector<std::string> raw_images;

  // Unset: the model's own defaults.
  std::optional<float> temperature, top_p, min_p, repetition_penalty, frequency_penalty,
      presence_penalty;
  std::optional<uint32_t> top_k, max_tokens, min_tokens, logprobs;
  std::optional<uint64_t> seed;
  std::map<uint32_t, float> logit_bias;
  std::vector<std::string> stop;
  std::vector<uint32_t> stop_token_ids;
  bool include_stop = false;
  bool ignore_eos = false;
  bool keep_special_tokens = false;
  uint32_t n = 1;
  std::string client_request_id;
  std::string date_string;
  std::chrono::milliseconds timeout{0};  // 0: the server's own
};

struct ClientToken {
  uint32_t id = 0;
  std::optional<float> logprob;
  std::vector<std::pair<uint32_t, float>> top;
};

struct ChoiceResult {
  std::string text;
  std::vector<ClientToken> tokens;
  std::string
      finish_reason;  // "stop", "length", "cancelled", "error"; empty if the call failed before
  std::string stop_string;
  std::optional<uint32_t> stop_token;
};

struct GenerateResult {
  std::string request_id, model;
  std::vector<std::string> notes;
  std::vector<ChoiceResult> choices;
  // Effective sampling as name and value, usage counts, and seconds of each stage, in the order of
  // the proto.
  std::vector<std::pair<std::string, double>> sampling;
  std::optional<uint64_t> seed;
  std::vector<std::pair<std::string, uint64_t>> usage;
  std::vector<std::pair<std::string, double>> timings;
};

struct GenerateCallbacks {
  std::function<void(int choice, std::string_view text)> on_text;  // as it streams; may be empty
};

// Cancels the call it was given to. Safe to trip from a signal handler.
class CancelToken {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

struct TokenizeResult {
  std::vector<uint32_t> ids;
  std::vector<std::string> tokens;
  std::string rendered;
};

struct ClientModel {
  std::string name, family;
  bool has_vision = false;
  uint32_t max_context = 0;
  std::string details_json;  // GetModel, as the proto's JSON
};

class Client {
 public:
  explicit Client(const std::string& target);
  ~Client();

  // Fills `result` as far as the call got, also when it fails.
  CallStatus Generate(const GenerateParams& params, const GenerateCallbacks& callbacks,
                      GenerateResult* result = nullptr, const CancelToken* cancel = nullptr);
  CallStatus Tokenize(const GenerateParams& params, const std::string& text,
                      TokenizeResult* result);
  CallStatus ListModels(std::vector<ClientModel>* models);
  // "SERVING", "NOT_SERVING", ...; `service` empty: the whole server.
  CallStatus Health(const std::string& service, std::string* state,
                    std::chrono::milliseconds timeout);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera
