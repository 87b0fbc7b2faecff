#include "server/engine/kv_pool.h"

#include <algorithm>
#include <string>

namespace tessera {

size_t PoolBytes(const ModelInfo& info, const PoolSizes& sizes) {
  const size_t cross =
      info.has_vision() ? static_cast<size_t>(info.cross_kv.page_bytes()) * sizes.cross_pages : 0;
  return static_cast<size_t>(info.self_kv.page_bytes()) * sizes.self_pages + cross;
}

Result<PoolSizes> PlanPools(const ModelInfo& info, size_t bytes, int contexts, int pictures,
                            int least_tokens) {
  const int64_t context_pages = (int64_t{info.max_context} + kKvBlockTokens - 1) / kKvBlockTokens;
  const int64_t least_pages = std::min<int64_t>(
      context_pages, (int64_t{least_tokens} + kKvBlockTokens - 1) / kKvBlockTokens);
  PoolSizes least{.self_pages = static_cast<int>(least_pages),
                  .cross_pages = info.has_vision() ? info.max_tiles : 0};
  const size_t needed = PoolBytes(info, least);
  if (bytes < needed) {
    return Fail(ErrorCode::kResourceExhausted, "the K/V cache needs more memory",
                {.field = "kv-memory",
                 .limit = std::to_string(bytes) + " bytes",
                 .value = std::to_string(needed) + " bytes"});
  }
  constexpr int64_t kMostPages = 1 << 28;  // page numbers are 32 bits, slots 64
  const int64_t most_self = std::min<int64_t>(kMostPages, context_pages * contexts);
  const int64_t most_cross =
      info.has_vision() ? std::min<int64_t>(kMostPages, int64_t{info.max_tiles} * pictures) : 0;
  const double wanted =
      static_cast<double>(info.self_kv.page_bytes()) * static_cast<double>(most_self) +
      (info.has_vision()
           ? static_cast<double>(info.cross_kv.page_bytes()) * static_cast<double>(most_cross)
           : 0);
  const double share = std::min(1.0, static_cast<double>(bytes) / wanted);
  PoolSizes sizes;
  sizes.cross_pages =
      std::max(least.cross_pages, static_cast<int>(static_cast<double>(most_cross) * share));
  const size_t left = bytes - PoolBytes(info, {.self_pages = 0, .cross_pages = sizes.cross_pages});
  // Where every layer is a cross-attention layer, pages of text hold nothing and only count.
  const int64_t self_page = std::max<int64_t>(1, info.self_kv.page_bytes());
  sizes.self_pages =
      static_cast<int>(std::min<int64_t>(most_self, static_cast<int64_t>(left) / self_page));
  if (sizes.self_pages < least.self_pages) {
    sizes.self_pages = least.self_pages;
    const size_t rest = bytes - PoolBytes(info, {.self_pages = sizes.self_pages, .cross_pages = 0});
    if (info.has_vision())
      sizes.cross_pages = static_cast<int>(rest / static_cast<size_t>(info.cross_kv.page_bytes()));
  }
  return sizes;
}

Result<KvPool> KvPool::Make(Backend& backend, const ModelInfo& info, const PoolSizes& sizes) {
  KvPool pool;
  pool.sizes_ = sizes;
  const auto add = [&](const KvGeometry& geometry, int pages, MemoryUse use,
                       std::vector<KvLayerView>& layers) -> Result<void> {
    for (int layer = 0; layer < geometry.layers; ++layer) {
      KvLayerView view{.geometry = geometry};
      for (void** half : {&view.k, &view.v}) {
        TESSERA_TRY(Tensor tensor, backend.AllocateTensor(geometry.dtype,
                                                          {geometry.page_elements() * pages}, use));
        *half = tensor.view().data;
        pool.storage_.push_back(std::move(tensor));
      }
      layers.push_back(view);
    }
    return {};
  };
  TESSERA_RETURN_IF_ERROR(
      add(info.self_kv, sizes.self_pages, MemoryUse::kSelfPages, pool.views_.self));
  if (info.has_vision())
    TESSERA_RETURN_IF_ERROR(
        add(info.cross_kv, sizes.cross_pages, MemoryUse::kCrossPages, pool.views_.cross));
  return pool;
}

}  // namespace tessera
