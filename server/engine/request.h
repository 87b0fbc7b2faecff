// What the engine is asked to do: a request whose every field has been checked and whose defaults
// are filled in.
//
// server/prepare makes it from a wire request; the engine never sees the wire. A PreparedRequest is
// immutable once submitted.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "kernels/ops.h"
#include "model/batch.h"

namespace tessera {

// Monotonic. Tests inject their own (server/engine/clock.h).
using TimePoint = std::chrono::steady_clock::time_point;

// Effective values: what the client sent, else generation_config.json, else the defaults here.
struct SamplingParams {
  float temperature = 1.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  uint64_t seed = 0;  // drawn by the server where the client sent none, and told in the reply
  std::vector<LogitBias> bias;
  int32_t logprobs = -1;  // alternatives a token, -1: none
};

// One picture of a request, in the order of the marks.
struct Media {
  Digest digest;  // over tenant salt, model, preprocessing, size and pixels
  std::shared_ptr<const MediaPixels> pixels;
  int32_t mark = 0;  // index of its image token in the prompt
};

struct StageTimings {  // seconds
  double image_decode = 0;
  double preprocess = 0;
  double tokenize = 0;
  double queue = 0;
  double vision_encode = 0;
  double cross_kv = 0;
  double prefill = 0;
  double decode = 0;
  double first_token = 0;  // arrival to the first token
  double total = 0;
};

struct PreparedRequest {
  std::string id;               // the server's own, in every log line and error
  std::string tenant;           // from the Authenticator; "" while there is one tenant
  Digest cache_salt;            // derived from the tenant; mixed into prefix-cache keys
  std::vector<int32_t> prompt;  // [T] token ids, at least one
  std::vector<Media> media;     // marks strictly ascending
  SamplingParams sampling;
  int32_t n = 1;           // choices
  int32_t max_tokens = 0;  // already capped so that prompt + max_tokens <= context; at least 1
  int32_t min_tokens = 0;  // end ids and stop strings do not count before
  std::vector<int32_t> end_ids;         // union of generation_config, config and the request's
                                        // stop_token_ids; empty if ignore_eos
  std::vector<int32_t> stop_token_ids;  // those of the request (they end even with ignore_eos)
  std::vector<std::string> stop;        // on decoded bytes, across token borders
  bool include_stop = false;            // leave the match in the text
  bool skip_special_tokens = true;      // in the text; ids are always reported
  TimePoint arrival;
  TimePoint deadline;
  StageTimings prepared;  // image_decode, preprocess, tokenize
};

}  // namespace tessera
