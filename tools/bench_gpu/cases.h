// What `make bench-gpu` times: every kernel at the shapes of Llama-3.2-11B-Vision, and cuBLASLt at
// those of its products.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "tools/bench_gpu/memory.h"

namespace tessera::bench {

// Of the model, and how much of everything a case takes.
struct Shapes {
  int hidden = 4096, heads = 32, kv_heads = 8, head_dim = 128, mlp = 14336, vocab = 128256;
  int vision_hidden = 1280, vision_heads = 16, vision_mlp = 5120, tiles = 4, tile_keys = 1601,
      tile_rows = 1608, image = 560, patch = 14;
  std::vector<int> product_rows = {1, 8, 64, 512, 2048};
  std::vector<int> prefill_rows = {512, 2048};
  std::vector<int> batches = {1, 8, 64};
  int context = 4096;
  int rows = 8192;  // of the kernels that go through rows

  // A little of everything, for a test.
  static Shapes Tiny();
};

// One launch of a kernel (or of the library): what it has to read and write, and to multiply.
struct Work {
  double bytes = 0, flops = 0;
  std::function<cuda::LaunchStatus(cuda::Stream)> before = {};  // is not timed
  std::function<cuda::LaunchStatus(cuda::Stream)> run;
};
struct Case {
  std::string name, kernel;
  // The memory outlives the Work.
  std::function<Work(Memory&)> make;
};
std::vector<Case> Cases(const Shapes& shapes, const cuda::DeviceProps& props);

// attention_cases.cc
void AddAttentionCases(const Shapes& shapes, std::vector<Case>& cases);

}  // namespace tessera::bench
