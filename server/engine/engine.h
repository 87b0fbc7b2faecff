// The engine of one model: the loop and the only mutator of sequences, pages and scheduler, on its
// own thread.
//
// Thread safety: Submit, Cancel, stats, BeginDrain from any thread; they go through a queue and
// never wait for a step.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "server/engine/events.h"
#include "server/engine/request.h"
#include "server/engine/runner.h"
#include "server/engine/text_decoder.h"

namespace tessera {

class Tokenizer;  // text/tokenizer.h
class Clock;      // server/engine/clock.h

struct EngineOptions {
  int max_queue =
      256;  // requests waiting for admission; beyond: RESOURCE_EXHAUSTED with a retry hint
  int max_running = 64;              // sequences in a step
  int token_budget = 512;            // rows of a step (decode rows first, then prefill chunks)
  double encode_budget_flops = 4e9;  // picture encoding in a step while somebody is decoding
  // How much longer a step of running streams may take when prompts or pictures join it; 0: as
  // long as the other limits allow.
  double slowdown = 2;
  int speculate = 0;  // guesses a step and choice (server/engine/prompt_lookup.h)
  bool prefix_cache = true;
  std::chrono::seconds stalled_reader{
      30};  // a stream that stays full this long ends RESOURCE_EXHAUSTED
};

// Counters since start and gauges of now. For metrics, GetModel and tests.
struct EngineStats {
  int64_t steps = 0;
  int64_t steps_ahead = 0;  // submitted while the step before them ran
  int64_t requests_accepted = 0, requests_finished = 0, requests_failed = 0, requests_cancelled = 0,
          requests_refused = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0, cached_tokens = 0;
  int64_t images_encoded = 0, image_cache_hits = 0, encode_units = 0;
  int64_t preemptions = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // guesses that were run, and that were right
  int64_t faults = 0;                               // exceptions that were contained
  int32_t waiting = 0, running = 0;
  int32_t self_pages_total = 0, self_pages_free = 0,
          self_pages_cached = 0;  // cached: free but still findable
  int32_t cross_pages_total = 0, cross_pages_free = 0, cross_pages_cached = 0;
  double busy_seconds = 0;
};

// Names a submitted request for Cancel.
using RequestHandle = uint64_t;

class Engine {
 public:
  // `tokenizer` and `clock` must outlive the engine. Starts its thread.
  Engine(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
         const Tokenizer& tokenizer, const Clock& clock);
  // With another way from ids to text; tests of the engine alone use it.
  Engine(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
         TextDecoderFactory decoders, const Clock& clock);
  // Stops: everybody in flight gets one UNAVAILABLE.
  ~Engine();

  // Accepted: `stream` will get exactly one RequestEnd. Errors, in which case the stream gets
  // nothing:
  //   INVALID_ARGUMENT    can never fit in either pool (with the numbers)
  //   RESOURCE_EXHAUSTED  the queue is full
  //   UNAVAILABLE         draining or the device is lost
  Result<RequestHandle> Submit(std::shared_ptr<const PreparedRequest> request,
                               std::shared_ptr<EventStream> stream);

  // Pages are free at the end of the step in flight; the stream ends CANCELLED. After the end: does
  // nothing.
  void Cancel(RequestHandle handle);

  // No new requests; those accepted run on. Drained() when none is left.
  void BeginDrain();
  bool Drained() const;

  bool healthy() const;  // false once the device is lost
  EngineStats stats() const;
  const ModelInfo& info() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera
