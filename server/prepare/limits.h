// What a request may hold: the one table of limits at the edge. server/wire checks counts and sizes
// against it before anything is allocated by them, server/prepare checks pictures, GetModel tells
// it.
//
// A value type, constant once the server runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera {

struct InputLimits {
  // Operator's choice (flags).
  int64_t image_bytes = int64_t{32} << 20;   // one picture's file
  int64_t images_bytes = int64_t{48} << 20;  // all files of a request
  int64_t image_pixels = int64_t{64} << 20;  // width x height
  int64_t images = 16;
  bool allow_raw_prompts = false;
  bool approximate_jpeg = false;  // large JPEGs are decoded at a fraction of their size
};

// Fixed.
inline constexpr int64_t kMaxMessageBytes = int64_t{64} << 20;  // one gRPC message
inline constexpr int64_t kMaxTextBytes = int64_t{4} << 20;      // all text of a request
inline constexpr int64_t kMaxMessages = 1024;
inline constexpr int64_t kMaxParts = 4096;        // over all messages
inline constexpr int64_t kMaxTokenIds = 1 << 20;  // of a raw prompt
inline constexpr int64_t kMaxChoices = 16;
inline constexpr int64_t kMaxStopStrings = 16;
inline constexpr int64_t kMaxStopBytes = 256;
inline constexpr int64_t kMaxStopTokenIds = 64;
inline constexpr int64_t kMaxLogitBias = 1024;
inline constexpr int64_t kMaxNameBytes = 64;  // model name, client's request id: [A-Za-z0-9._-]
inline constexpr int64_t kMaxDateBytes = 32;
inline constexpr int64_t kMaxTokens =
    (int64_t{1} << 31) - 1;  // max_tokens and min_tokens; capped to the context later

inline constexpr float kMaxTemperature = 100.0f;
inline constexpr float kMaxRepetitionPenalty = 10.0f;
inline constexpr float kMaxPenalty = 10.0f;  // frequency and presence: [-10, 10]
inline constexpr float kMaxBias = 100.0f;    // logit bias: [-100, 100]
inline constexpr uint32_t kMaxTopK = 1u << 30;

}  // namespace tessera
