#include "tests/cuda/served_model.h"

#include <random>
#include <utility>

#include "kernels/cuda/backend.h"
#include "tests/support/fake_runner.h"

namespace tessera::testing {

Result<std::unique_ptr<ModelRunner>> LoadServed(const BackendOptions& options) {
  TESSERA_TRY(std::unique_ptr<Backend> backend, cuda::CudaBackend::Make(options));
  TESSERA_TRY(std::shared_ptr<const Model> model,
              LoadModel("tests/model/data/mllama-odd", *backend,
                        {.kv_dtype = backend->activation_dtype()}));
  ModelRunnerOptions runner;
  runner.pools = {.self_pages = 64, .cross_pages = model->info().max_tiles * 4};
  runner.max_rows = 64;
  runner.max_logits_rows = 8;
  runner.run_behind = true;
  return MakeModelRunner(std::move(backend), std::move(model), runner);
}

std::shared_ptr<PreparedRequest> ServedRequest(const ModelInfo& info, uint64_t seed,
                                               const ServedWant& want) {
  std::mt19937_64 random(seed);
  auto request = FakeRequest(seed, 12);
  for (int32_t& id : request->prompt) {
    do {
      id = static_cast<int32_t>(random() % static_cast<uint64_t>(info.vocab_size));
    } while (id == info.image_token_id);
  }
  request->end_ids.clear();
  request->max_tokens = want.tokens;
  if (!want.picture) return request;
  auto pixels = std::make_shared<MediaPixels>();
  pixels->height = info.tile_height;
  pixels->width = info.tile_width;
  pixels->tiles_high = pixels->tiles_wide = pixels->used_tiles = pixels->aspect_ratio_id = 1;
  pixels->tiles.resize(3 * static_cast<size_t>(pixels->height * pixels->width));
  for (uint8_t& level : pixels->tiles) level = static_cast<uint8_t>(random());
  for (auto& channel : pixels->lut) {
    for (int level = 0; level < 256; ++level)
      channel[static_cast<size_t>(level)] = static_cast<float>(level - 120) / 70.0f;
  }
  request->media.push_back({.digest = FakeDigest(seed), .pixels = std::move(pixels), .mark = 2});
  request->prompt[2] = info.image_token_id;
  return request;
}

}  // namespace tessera::testing
