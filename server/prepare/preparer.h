// A request on its way to the engine: prompt first, because it is cheap and most refusals show
// there, then all pictures in parallel, on a pool of its own threads.
//
// Thread-safe. Must outlive every `done` it has not called yet; the destructor waits for them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"
#include "media/decode_budget.h"
#include "server/prepare/frontend.h"
#include "server/prepare/input.h"
#include "server/prepare/limits.h"
#include "server/prepare/thread_pool.h"

namespace tessera {

struct PrepareOptions {
  int threads = 2;
  size_t queue = 256;  // jobs that may wait
  InputLimits limits;
  int64_t decode_memory = DecodeBudget::kDefaultBytes;
};

struct Prepared {
  std::shared_ptr<const PreparedRequest> request;
  std::vector<std::string> notes;  // for the client: our words only
};

class Preparer {
 public:
  explicit Preparer(const PrepareOptions& options)
      : options_(options), budget_(options.decode_memory), pool_(options.threads, options.queue) {}

  // Runs `job` on the pool. False: too many wait. Exceptions that leave the job end the process;
  // catch them in it.
  bool TryRun(std::function<void()> job) { return pool_.TrySubmit(std::move(job)); }

  // To be called from a job. `done` is called exactly once, on a thread of the pool; it must not
  // throw. `stop` and the deadline of `call` end the work early: kCancelled, kDeadlineExceeded.
  void Prepare(std::shared_ptr<const Frontend> frontend, GenerateInput input,
               const CallIdentity& call, std::stop_token stop,
               std::function<void(Result<Prepared>)> done);

  const InputLimits& limits() const { return options_.limits; }
  const DecodeBudget& budget() const { return budget_; }

 private:
  struct Work;
  void StartPictures(const std::shared_ptr<Work>& work);
  void OnePicture(const std::shared_ptr<Work>& work, size_t index);
  static void Complete(const std::shared_ptr<Work>& work);

  const PrepareOptions options_;
  DecodeBudget budget_;
  JobPool pool_;  // last: its threads use the others
};

}  // namespace tessera
