// A request as it came in: every count, size, number and string checked, nothing decoded or
// tokenised yet.
//
// server/wire makes it from protocol buffers; nothing here knows the wire. Plain data, moved from
// stage to stage; it owns its bytes, so that the message it came from can go.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "kernels/ops.h"
#include "server/engine/request.h"

namespace tessera {

enum class Role : uint8_t { kSystem, kUser, kAssistant, kTool };

// The word that chat templates know a role by.
constexpr const char* RoleName(Role role) {
  switch (role) {
    case Role::kSystem: return "system";
    case Role::kUser: return "user";
    case Role::kAssistant: return "assistant";
    case Role::kTool: return "tool";
  }
  return "user";
}

struct InputPart {
  bool is_image = false;  // the next of PromptInput::images
  std::string text;       // valid UTF-8
};

struct InputMessage {
  Role role = Role::kUser;
  std::vector<InputPart> parts;  // at least one
};

struct InputImage {
  std::string file;  // the bytes of the file, not empty
  std::string
      field;  // where in the request it stands, for errors: "chat.messages[0].parts[1].image"
};

struct PromptInput {
  enum class Kind : uint8_t {
    kChat,       // messages, through the model's template
    kUserText,   // `text`, special tokens are plain text
    kRawText,    // `text`, special tokens parsed
    kRawTokens,  // `token_ids`
  };
  Kind kind = Kind::kChat;
  std::vector<InputMessage> messages;
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<InputImage> images;  // in order of their marks
  std::string date_string;         // empty: the template's own
};

// What the client set; the rest comes from generation_config.json.
struct SamplingInput {
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<float> frequency_penalty;
  std::optional<float> presence_penalty;
  std::optional<uint64_t> seed;
  std::vector<LogitBias> bias;  // ascending by id
};

struct GenerateInput {
  std::string model;  // empty: the only one
  PromptInput prompt;
  SamplingInput sampling;
  std::optional<int32_t> max_tokens;  // at least 1
  int32_t min_tokens = 0;
  std::vector<std::string> stop;
  bool include_stop = false;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  int32_t n = 1;
  int32_t logprobs = -1;  // alternatives a token, -1: none
  bool keep_special_tokens = false;
  std::string client_request_id;
};

struct TokenizeInput {
  std::string model;
  PromptInput prompt;  // kChat or kUserText
};

// What the server itself knows of a call.
struct CallIdentity {
  std::string id;  // the server's request id
  std::string tenant;
  Digest cache_salt;
  TimePoint arrival;
  TimePoint deadline;
};

}  // namespace tessera
