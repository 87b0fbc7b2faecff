// The device pages: self-attention and cross-attention K/V of every layer, allocated once at start.
//
// Which page belongs to whom is BlockManager's business; what lies in a page is the backend's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace tessera {

struct PoolSizes {
  int self_pages = 0;   // kKvBlockTokens tokens each
  int cross_pages = 0;  // a tile each
};

size_t PoolBytes(const ModelInfo& info, const PoolSizes& sizes);

// Divides `bytes` between the pools: up to `contexts` whole contexts of text and up to `pictures`
// pictures of the largest size, in proportion. RESOURCE_EXHAUSTED with both numbers if one context
// (at most `least_tokens` of it) and one picture do not fit.
Result<PoolSizes> PlanPools(const ModelInfo& info, size_t bytes, int contexts, int pictures,
                            int least_tokens);

class KvPool {
 public:
  // RESOURCE_EXHAUSTED if the memory is not there.
  static Result<KvPool> Make(Backend& backend, const ModelInfo& info, const PoolSizes& sizes);

  const KvPools& views() const { return views_; }
  const PoolSizes& sizes() const { return sizes_; }

 private:
  KvPool() = default;
  PoolSizes sizes_;
  std::vector<Tensor> storage_;
  KvPools views_;
};

}  // namespace tessera
