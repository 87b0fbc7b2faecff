// Problems for the attention kernels: tensors on the device in the pool's layout, plans, launches,
// and the same in float64 with the bound on what the kernels' arithmetic may be off.
//
// Everything is drawn from (seed, sequence, key), so that one sequence can be part of several
// problems.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_plan.h"
#include "tests/cuda/rows_support.h"

namespace tessera::cuda_test {

struct HeadShape {
  RowType type = RowType::kBf16;
  int heads = 1, kv_heads = 1, head_dim = 64;
  int group() const { return heads / kv_heads; }
};

// One layer's pool of pages [block][kv head][16][D]; what nobody wrote is NaN.
class PagePool {
 public:
  PagePool(const HeadShape& shape, int page_tokens, int pages);
  // Fills token `token` of `page` with values of key `key` of sequence `sequence`.
  void Put(int page, int token, int sequence, int key);
  void Upload();
  void Fill(cuda::AttentionParams& p) const;

 private:
  const HeadShape shape_;
  const int page_tokens_, blocks_per_page_;
  std::vector<uint16_t> k_, v_;
  std::unique_ptr<DeviceArray<uint16_t>> k_device_, v_device_;
};

// Values of head `head` of a row, rounded to the type: queries, keys, values.
enum class Part { kQuery, kKey, kValue };
std::vector<float> HeadValues(const HeadShape& shape, Part part, int sequence, int row, int head);

struct SelfSequence {
  int sequence = 0;  // its identity
  int cached = 0;
  int rows = 0;
};
struct SelfProblem {
  HeadShape shape;
  std::vector<SelfSequence> sequences;
  int page_tokens = 16;
  int gap = 0;                   // elements between rows of q and out
  int max_partial_vectors = -1;  // -1: as the backend has it
};
// [rows of all sequences][H * D]
Floats RunSelf(const SelfProblem& problem, const std::string& what);
std::vector<Bounded> WantSelf(const SelfProblem& problem);

struct CrossProblem {
  HeadShape shape;
  int tile_keys = 17;
  std::vector<std::vector<int>>
      rows;  // the tiles each row sees, by identity; equal neighbours share
  int gap = 0;
};
Floats RunCross(const CrossProblem& problem, const std::string& what);
std::vector<Bounded> WantCross(const CrossProblem& problem);

struct DenseProblem {
  HeadShape shape;
  int keys = 1, row_begin = 0, rows = 1;
  std::vector<uint8_t> padding;  // [keys] or empty
  int gap = 0;
};
Floats RunDense(const DenseProblem& problem, const std::string& what);
std::vector<Bounded> WantDense(const DenseProblem& problem);

}  // namespace tessera::cuda_test
