// A model runner whose words depend on everything that the engine could get wrong.
//
// A slot of its self pages holds a hash of the token, its position, the tiles that it saw (their
// order, their contents) and of the slot before it, as read through the block table. The next token
// is a hash over all slots of the history, again read through the block table. A wrong page,
// position, sharing, copy, tile or picture changes the words; FakeAnswer() computes the same words
// straight from the request.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/engine/request.h"
#include "server/engine/runner.h"
#include "server/engine/step_thread.h"
#include "server/engine/text_decoder.h"

namespace tessera::testing {

struct FakeModel {
  int self_pages = 64;
  int cross_pages = 24;
  int max_rows = 64;
  int max_logits_rows = 32;
  int max_context = 1024;
  int vocab = 61;
  int answers = 0;  // above 0: only so many different ids are said, from 30 on
  int max_tiles = 4;
  int encode_units = 8;
  double flops_per_unit = 1e9;
  double flops_per_token = 1e7;
  UnseenRows unseen_rows = UnseenRows::kZero;
  int32_t nan_token = -1;    // a prompt with it gives no valid distribution
  int32_t throw_token = -1;  // a step with such a row throws
  bool behind = false;       // steps run on a thread of their own
};

class FakeRunner final : public ModelRunner {
 public:
  explicit FakeRunner(const FakeModel& model);

  const ModelInfo& info() const override { return info_; }
  int self_pages() const override { return model_.self_pages; }
  int cross_pages() const override { return model_.cross_pages; }
  int max_rows() const override { return model_.max_rows; }
  int max_logits_rows() const override { return model_.max_logits_rows; }
  int encode_slots() const override { return 1; }
  bool runs_behind() const override { return model_.behind; }
  EncodePlan PlanEncode(const MediaPixels& pixels) const override;
  StepHandle Submit(const Step& step) override;
  StepResult Wait(StepHandle handle) override;

  // Called at the beginning of each step, on the thread that runs it; may throw, and may set an
  // error for Wait.
  std::function<void(const Step&)> before_step;
  std::optional<Error> error;
  // Counted over all steps.
  int64_t steps = 0;
  int64_t rows = 0;
  int64_t pictures = 0;

 private:
  StepResult Run(const Step& step);
  void Encode(const EncodeSlice& slice);
  void Forward(const Batch& batch);
  SampleResult Sample(const SampleRow& row, const Batch& batch) const;

  const FakeModel model_;
  ModelInfo info_;
  std::vector<uint64_t> self_;   // by slot; 0: never written
  std::vector<uint64_t> cross_;  // by page; 0: never written
  std::vector<bool> nan_;        // by slot: the history up to here holds nan_token
  const MediaPixels* encoding_ = nullptr;
  int units_done_ = 0;
  std::vector<SampleResult> last_samples_;                              // empty after a failure
  std::deque<std::pair<StepHandle, std::future<StepResult>>> flights_;  // not waited for
  StepHandle last_ = 0;
  std::unique_ptr<StepThread> thread_;  // last: it uses all of the above
};

// The tokens that `choice` of the request gets, alone and without any cache, up to its end id or
// max_tokens.
std::vector<int32_t> FakeAnswer(const FakeModel& model, const PreparedRequest& request, int choice);

// Token ids as text: letters, digits, a space, an e acute whole and in two halves, "[id]" beyond.
TextDecoderFactory FakeDecoders();
std::string FakeText(const std::vector<int32_t>& ids);

// A picture whose content and digest follow from `seed`.
Media FakePicture(uint64_t seed, int tiles, int32_t mark);
Digest FakeDigest(uint64_t seed);

inline constexpr int32_t kFakeEnd = 1;  // end id of FakeRequest

// A request with `prompt_length` tokens that follow from `seed`, and no pictures; greedy,
// max_tokens 16, far deadline.
std::shared_ptr<PreparedRequest> FakeRequest(uint64_t seed, int prompt_length);

}  // namespace tessera::testing
